"""The folders of downloads and conversions, and small records beside them."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mimzoo.cache_folder import cache_folder


def hub_cache_folder() -> Path:
    """Where huggingface_hub keeps downloads: `$HF_HUB_CACHE`, or `hub` in `$HF_HOME`."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def read_record(path: Path) -> dict[str, Any]:
    """A record; empty if there is none, or a broken one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes a record, whole or not at all; a cache that cannot be written is no error."""
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


def cached_digest(path: Path) -> str:
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
    """Checks that a download fits onto the disk.

    Args:
        folder: where it goes; need not exist yet.
        size: in bytes.
        what: the download, for the message.
        variable: the environment variable that moves the cache.

    Raises:
        OSError: it does not fit.
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


@contextlib.contextmanager
def disk_errors(folder: Path, what: str, variable: str) -> Iterator[None]:
    """Turns errors of the disk into a sentence.

    Args:
        folder: that is written to.
        what: is written, for the message.
        variable: the environment variable that moves the folder.

    Raises:
        OSError: the sentence.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence already, or no error of the disk
            raise
        elsewhere = f"put the cache elsewhere with the environment variable {variable}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                f"the disk is full: {what} does not fit into {folder}; {elsewhere}."
            ) from error
        raise OSError(
            f"the cache folder {folder} cannot be written ({error.strerror}): {elsewhere}."
        ) from error


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


def contents() -> Iterator[tuple[str, str, int]]:
    """What the caches hold: (kind, name, bytes)."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    for folder in _folders(cache_folder() / "converted"):
        source = read_record(folder / "conversion.json").get("source", folder.name)
        yield "converted", str(source), size_of(folder)
    downloads = cache_folder() / "downloads"
    for path in sorted(p for p in downloads.rglob("*") if p.is_file()):
        kind = "partial" if path.name.endswith(PARTIAL) else "downloaded"
        yield kind, path.relative_to(downloads).as_posix(), size_of(path)
    with contextlib.suppress(CacheNotFound):
        for repo in sorted(scan_cache_dir().repos, key=lambda repo: repo.repo_id):
            if repo.repo_type == "model":
                yield "Hub", repo.repo_id, repo.size_on_disk


# The ending of a download that is not complete.
PARTIAL = ".incomplete"


def partial_files() -> list[Path]:
    """Downloads over https that a killed process left behind."""
    return sorted((cache_folder() / "downloads").rglob(f"*{PARTIAL}"))


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
