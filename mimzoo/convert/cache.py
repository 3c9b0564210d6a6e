"""Converted checkpoints, kept: what `from_preset` reads of another library's files."""

import hashlib
import os
from pathlib import Path

from mimzoo.convert.files import ENDINGS, IN_FOLDER, sha256, weight_files
from mimzoo.convert.importing import convert_local
from mimzoo.version import __version__


def cache_folder() -> Path:
    """`$MIMZOO_CACHE`, or `mimzoo` in `$XDG_CACHE_HOME` or `~/.cache`."""
    if own := os.environ.get("MIMZOO_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mimzoo"


def has_weights(path: Path) -> bool:
    """Whether a path is a checkpoint, or a folder that has one."""
    if not path.is_dir():
        return path.name.endswith(ENDINGS) or path.name in IN_FOLDER
    return any(p.name.endswith(ENDINGS) or p.name in IN_FOLDER for p in path.iterdir())


def converted(path: Path, name: str) -> Path:
    """The preset made of a checkpoint, from the cache or made now.

    Args:
        path: of the checkpoint or its folder.
        name: what the user calls it.

    Raises:
        ValueError: see `mimzoo.convert.convert`.
    """
    files = weight_files(path)
    key = [__version__, sha256(files)]
    for beside in ("config.json", "preprocessor_config.json"):
        config = files[0].parent / beside
        key.append(sha256([config]) if config.is_file() else "")
    folder = cache_folder() / "converted" / hashlib.sha256("\n".join(key).encode()).hexdigest()
    if (folder / "config.json").is_file():
        return folder
    try:
        entry = convert_local(path, name, folder)
    except OSError:
        # Another process may have been faster.
        if not (folder / "config.json").is_file():
            raise
    else:
        print(f"{name}: converted from the layout {entry['layout']} into {folder}", flush=True)
    return folder
