"""Converted checkpoints, kept: what `from_preset` reads of another library's files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimzoo.convert.files import ENDINGS, IN_FOLDER, sha256, weight_files
from mimzoo.convert.importing import convert_local
from mimzoo.hub.cache import cache_folder
from mimzoo.hub.fetch import told_disk_errors
from mimzoo.version import __version__


def has_weights(path: Path) -> bool:
    """Whether a path is a checkpoint, or a folder that has one."""
    if not path.is_dir():
        return path.name.endswith(ENDINGS) or path.name in IN_FOLDER
    return any(p.name.endswith(ENDINGS) or p.name in IN_FOLDER for p in path.iterdir())


def converted(
    path: Path,
    name: str,
    source: str | None = None,
    layout: str | None = None,
    licence: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """The preset made of a checkpoint, from the cache or made now.

    Args:
        path: of the checkpoint or its folder.
        name: what the user calls it.
        source: where it comes from; default: `name`.
        layout: as for `mimzoo.convert.convert`; so are `licence` and `facts`.

    Raises:
        ValueError: see `mimzoo.convert.convert`.
    """
    files = weight_files(path)
    key = [__version__, sha256(files)]
    for beside in ("config.json", "preprocessor_config.json"):
        config = files[0].parent / beside
        key.append(sha256([config]) if config.is_file() else "")
    if source is not None:
        key.append(json.dumps([source, layout, licence, dict(facts or {})], sort_keys=True))
    folder = cache_folder() / "converted" / hashlib.sha256("\n".join(key).encode()).hexdigest()
    if (folder / "config.json").is_file():
        return folder
    try:
        with told_disk_errors(folder, name, "MIMZOO_CACHE"):
            entry = convert_local(path, source or name, folder, layout, licence, facts=facts)
    except OSError:
        # Another process may have been faster.
        if not (folder / "config.json").is_file():
            raise
    else:
        origin = f" of {source}" if source else ""
        print(
            f"{name}: converted from the layout {entry['layout']}{origin}, licence of the weights "
            f"{entry['licence']}, into {folder}",
            flush=True,
        )
    return folder
