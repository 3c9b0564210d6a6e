"""The list of a preset's files with their hashes, by which loading checks them."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mimzoo.hub.cache import cached_digest, digest
from mimzoo.version import __version__

MANIFEST = "manifest.json"
# The files that loading reads; others may change without harm.
_READ = re.compile(
    r"(config|task|preprocessor|image_converter|model\.weights)\.json"
    r"|(model|task|model_\d+)\.weights\.h5"
)
# Names that Windows reserves, whatever their ending.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class ManifestError(ValueError):
    """A file that differs from its folder's manifest, or is missing.

    Attributes:
        file: its name.
    """

    def __init__(self, message: str, file: str):
        super().__init__(message)
        self.file = file


def portable(name: str) -> bool:
    """Whether a file name with folders stays inside its folder, on every system."""
    parts = name.split("/")
    return (
        0 < len(name) < 1024
        and not re.search(r'[\\:*?"<>|\x00-\x1f\x7f]', name)
        and not any(
            p in ("", ".", "..") or p.endswith((" ", ".")) or _RESERVED.fullmatch(p) for p in parts
        )
    )


def is_read(name: str) -> bool:
    """Whether loading reads a file of this name."""
    return _READ.fullmatch(name) is not None


def write_manifest(
    folder: Path, wanted: Callable[[str], bool] | None = None, **more: Any
) -> dict[str, Any]:
    """Writes `manifest.json` into a preset folder: sha256 and size of its files.

    Args:
        folder: of the preset, complete.
        wanted: which names are listed; default: all, but those that begin with a dot.
        **more: further entries; JSON.

    Returns:
        What was written.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    listed = wanted or (lambda name: not any(part.startswith(".") for part in name.split("/")))
    files = {
        name: {"sha256": digest(path), "size": path.stat().st_size}
        for name, path in names.items()
        if listed(name)
    }
    manifest = {"mimzoo": __version__, "files": files, **more}
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / MANIFEST)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None if it has none.

    Raises:
        ValueError: a file that is no manifest, or lists a name that leads outside of its folder.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    try:
        return parse_manifest(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no manifest of a preset: {error}") from error


def parse_manifest(text: bytes) -> dict[str, Any]:
    """A manifest from its JSON.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        manifest = json.loads(text)
        files = {
            name: {"sha256": str(entry["sha256"]), "size": int(entry["size"])}
            for name, entry in manifest["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        raise ValueError('it is not JSON with "files", each with "sha256" and "size".') from e
    for name in files:
        if not portable(name):
            raise ValueError(f"it lists {name!r}, which is no portable file name.")
    return {**manifest, "files": files}


def check_manifest(
    folder: Path,
    wanted: Callable[[str], bool] | None = None,
    known: Mapping[str, str] | None = None,
) -> None:
    """Checks the files of a folder against its `manifest.json`.

    Args:
        folder: of a preset.
        wanted: which of the listed files have to be there; default: all.
        known: sha256 of files that were hashed before.

    Raises:
        ValueError: there is no manifest, or a file is missing or differs; the message names it.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{folder} has no {MANIFEST}.")
    for name, entry in manifest["files"].items():
        if wanted is not None and not wanted(name):
            continue
        path = folder / name
        if not path.is_file():
            raise ManifestError(f"{folder} lacks {name}, which its {MANIFEST} lists.", name)
        size = path.stat().st_size
        if size != entry["size"]:
            raise ManifestError(
                f"{name} in {folder} has {size} bytes, its {MANIFEST} says {entry['size']}.", name
            )
        found = (known or {}).get(name) or cached_digest(path)
        if found != entry["sha256"]:
            raise ManifestError(
                f"{name} in {folder} has sha256 {found}, its {MANIFEST} says {entry['sha256']}.",
                name,
            )


def unchanged(folder: Path, name: str) -> bool:
    """Whether a file is there and, if the folder has a manifest, is the one that it lists."""
    path = Path(folder) / name
    if not path.is_file():
        return False
    try:
        manifest = read_manifest(folder)
    except ValueError:
        return False
    return manifest is None or manifest["files"].get(name, {}).get("sha256") == digest(path)
