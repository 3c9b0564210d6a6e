"""The seam to `mimzoo.convert`, which builds models and so stands above names and folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mimzoo.hub.listing import CHECKPOINT_ENDINGS

# (path of a checkpoint, what the user calls it, **how) -> folder of the preset made of it.
Importer = Callable[..., Path]
_registered: list[Importer] = []


def register_importer(importer: Importer) -> None:
    """Says what makes presets of other libraries' checkpoints; `import mimzoo` does."""
    _registered[:] = [importer]


def import_checkpoint(path: Path, name: str, **how: Any) -> Path:
    """The preset made of a checkpoint.

    Args:
        path: of a file or its folder.
        name: what the user calls it.
        **how: see `mimzoo.convert.cache.converted`.

    Raises:
        ValueError: it cannot be converted.
    """
    if not _registered:
        raise ValueError(f"{name} is a checkpoint of another library: `import mimzoo` to load it.")
    return _registered[0](path, name, **how)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a checkpoint of another library, or a folder that has one."""
    names = [p.name for p in path.iterdir()] if path.is_dir() else [path.name]
    return any(name.endswith((*CHECKPOINT_ENDINGS, ".pkl", ".index.json")) for name in names)
