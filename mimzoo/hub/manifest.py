"""The list of a published preset's files, by which a download is checked."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mimzoo.hub.cache import digest
from mimzoo.version import __version__

MANIFEST = "manifest.json"


class ManifestError(ValueError):
    """A file that differs from its folder's manifest, or is missing.

    Attributes:
        file: its name.
    """

    def __init__(self, message: str, file: str):
        super().__init__(message)
        self.file = file


def write_manifest(folder: Path, **more: Any) -> dict[str, Any]:
    """Writes `manifest.json` into a preset folder: sha256 and size of every other file.

    Args:
        folder: of the preset, complete.
        **more: what else it is to hold; JSON.

    Returns:
        What was written.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    files = {
        path.relative_to(folder).as_posix(): {"sha256": digest(path), "size": path.stat().st_size}
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
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
        ValueError: a file that is no manifest.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = {
            str(name): {"sha256": str(entry["sha256"]), "size": int(entry["size"])}
            for name, entry in manifest["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no manifest of a preset.") from error
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
        found = (known or {}).get(name) or digest(path)
        if found != entry["sha256"]:
            raise ManifestError(
                f"{name} in {folder} has sha256 {found}, its {MANIFEST} says {entry['sha256']}.",
                name,
            )
