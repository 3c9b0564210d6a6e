"""Converted checkpoints, cached: what `from_preset` reads of another library's files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimzoo.cache_folder import cache_folder
from mimzoo.convert.files import sha256, weight_files
from mimzoo.convert.importing import convert_local
from mimzoo.hub.cache import disk_errors
from mimzoo.hub.escape import one_line
from mimzoo.version import __version__


def converted(
    path: Path,
    name: str,
    source: str | None = None,
    layout: str | None = None,
    licence: str | None = None,
    hints: Mapping[str, Any] | None = None,
) -> Path:
    """The preset made of a checkpoint, from the cache or made now.

    Args:
        path: of the checkpoint or its folder.
        name: what the user calls it.
        source: where it comes from; default: `name`.
        layout: as for `mimzoo.convert.convert`; so are `licence` and `hints`.

    Raises:
        ValueError: see `mimzoo.convert.convert`.
    """
    files = weight_files(path)
    key = [__version__, sha256(files)]
    for beside in ("config.json", "preprocessor_config.json"):
        config = files[0].parent / beside
        key.append(sha256([config]) if config.is_file() else "")
    if source is not None:
        key.append(json.dumps([source, layout, licence, dict(hints or {})], sort_keys=True))
    folder = cache_folder() / "converted" / hashlib.sha256("\n".join(key).encode()).hexdigest()
    if (folder / "config.json").is_file():
        return folder
    try:
        with disk_errors(folder, name, "MIMZOO_CACHE"):
            entry = convert_local(path, source or name, folder, layout, licence, hints=hints)
    except OSError:
        # Another process may have been faster.
        if not (folder / "config.json").is_file():
            raise
    else:
        origin = f" of {source}" if source else ""
        print(
            one_line(
                f"{name}: converted from the layout {entry['layout']}{origin}, licence of the "
                f"weights {entry['licence']}, into {folder}"
            ),
            flush=True,
        )
    return folder
