"""Saving a preset over another: one set of weights stays, and no results of other ones."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from mimzoo.hub.complete import SHARDS, WEIGHTS
from mimzoo.hub.manifest import is_read, write_manifest

# What speaks of the weights that a run or a conversion made.
RECORDS = ("results.json", "recipe.json", "conversion.json")


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Around the writing of a preset's files; a manifest of them follows.

    Args:
        folder: of the preset; there may be an older one.

    Raises:
        ValueError: the folder has records of other weights.
    """
    found = next((name for name in RECORDS if (folder / name).is_file()), None)
    if found is not None:
        raise ValueError(
            f"{folder} holds {found}, which would speak of weights that are no longer there: save "
            "to a folder of its own."
        )
    yield
    _remove_old_weights(folder)
    write_manifest(folder, is_read)


def _remove_old_weights(folder: Path) -> None:
    """Keras writes one file or shards, and leaves those of the other form."""
    whole, index = folder / WEIGHTS, folder / SHARDS
    if whole.is_file() and index.is_file():
        min(whole, index, key=lambda path: path.stat().st_mtime_ns).unlink()
    listed: set[str] = set()
    shards = json.loads(index.read_bytes())["weight_map"] if index.is_file() else {}
    for names in shards.values():
        listed |= {names} if isinstance(names, str) else set(names)
    for path in folder.glob("model_*.weights.h5"):
        if path.name not in listed:
            path.unlink()
