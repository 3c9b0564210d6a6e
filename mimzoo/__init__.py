"""mimzoo: the Keras 3 model zoo for masked image modeling.

`mimzoo.models` has backbones and classifiers, `mimzoo.pretraining` the MIM methods,
`mimzoo.optimizers` layer-wise learning-rate decay and schedules, `mimzoo.data` sources and the
loader. Importing mimzoo registers its classes, so KerasHub finds them; with MIMZOO_REGISTER=0 in
the environment it does not, and imports no Keras, which takes seconds.
"""

import importlib
import os
from typing import Any

from mimzoo.hub import grid, list_presets, preset_info, register_importer
from mimzoo.version import __version__

__all__ = [
    "__version__",
    "convert",
    "data",
    "downstream",
    "grid",
    "hub",
    "layers",
    "list_presets",
    "models",
    "optimizers",
    "preset_info",
    "pretraining",
    "register",
    "tasks",
]

_TASKS = ("classifiers", "segmentation", "detection")


def _convert(*arguments: Any, **how: Any) -> Any:
    """`mimzoo.convert.cache.converted`, imported when a checkpoint is first loaded."""
    return importlib.import_module("mimzoo.convert.cache").converted(*arguments, **how)


register_importer(_convert)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"mimzoo.{name}")
    raise AttributeError(f"module 'mimzoo' has no attribute {name!r}")


def register() -> None:
    """Registers mimzoo's classes with Keras, as importing mimzoo does by default."""
    for name in ("models", "optimizers", *(f"tasks.{x}" for x in _TASKS)):
        importlib.import_module(f"mimzoo.{name}")


if os.environ.get("MIMZOO_REGISTER") != "0":
    register()
