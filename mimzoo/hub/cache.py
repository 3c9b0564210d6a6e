"""Where downloads and conversions are kept, and what is remembered of them."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Where mimzoo keeps what it made or fetched: converted checkpoints, files from the web.

    Returns:
        `$MIMZOO_CACHE`, or `mimzoo` in `$XDG_CACHE_HOME` or `~/.cache`. It can be removed at any
        time. Files from the Hub are in the Hub's own cache, see `hub_cache_folder`.
    """
    if own := os.environ.get("MIMZOO_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mimzoo"


def hub_cache_folder() -> Path:
    """Where huggingface_hub keeps downloads: `$HF_HUB_CACHE`, or `hub` in `$HF_HOME`."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository_folder(repo: str) -> Path:
    """The folder of a repository in the Hub's cache."""
    return hub_cache_folder() / f"models--{repo.replace('/', '--')}"


def read_record(path: Path) -> dict[str, Any]:
    """What was remembered; empty if there is nothing, or nothing of use."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Remembers something, whole or not at all; a cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
        os.replace(temporary, path)
    except OSError:
        return


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hash of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def remembered_digest(path: Path) -> str:
    """SHA-256 of a file, computed once for a path, size and time of change."""
    path = path.resolve()
    stat = path.stat()
    name = hashlib.sha256(str(path).encode()).hexdigest()[:32]
    record_path = cache_folder() / "digests" / f"{name}.json"
    key = {"path": str(path), "size": stat.st_size, "changed": stat.st_mtime_ns}
    record = read_record(record_path)
    if record.items() >= key.items() and isinstance(record.get("sha256"), str):
        return record["sha256"]
    found = digest(path)
    # A file that was just written may be written again within the clock's resolution.
    if time.time() - stat.st_mtime > 2.0:
        write_record(record_path, {**key, "sha256": found})
    return found


def check_space(folder: Path, size: int, what: str, variable: str) -> None:
    """Looks whether something fits onto a disk before it is downloaded.

    Args:
        folder: where it goes; need not exist yet.
        size: in bytes.
        what: the download, for the message.
        variable: the environment variable that moves the cache.

    Raises:
        OSError: it does not.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    if size > free:
        raise OSError(
            f"{what} needs {readable(size)}, and {folder} has {readable(free)} free: make room, "
            f"or put the cache elsewhere with the environment variable {variable}."
        )


def readable(size: float) -> str:
    """A number of bytes as people write it."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links count nothing."""
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


def contents() -> Iterator[tuple[str, str, Path]]:
    """What the caches hold: (kind, name, path)."""
    for folder in _folders(cache_folder() / "converted"):
        source = read_record(folder / "conversion.json").get("source", folder.name)
        yield "converted", source, folder
    downloads = cache_folder() / "downloads"
    for path in sorted(p for p in downloads.rglob("*") if p.is_file()):
        kind = "partial" if path.name.endswith(PARTIAL) else "downloaded"
        yield kind, path.relative_to(downloads).as_posix(), path
    for folder in _folders(hub_cache_folder()):
        if folder.name.startswith("models--"):
            yield "Hub", folder.name.removeprefix("models--").replace("--", "/"), folder


# The ending of a download that is not whole yet; huggingface_hub's, too.
PARTIAL = ".incomplete"


def partial_files() -> list[Path]:
    """Downloads that were cut off and that the same call would go on with, in both caches."""
    roots = (cache_folder() / "downloads", *_folders(hub_cache_folder()))
    return sorted(p for root in roots for p in root.rglob(f"*{PARTIAL}"))


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
