"""mimzoo's modules of plain data without Keras, whose import takes seconds."""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator


@contextlib.contextmanager
def without_keras() -> Iterator[None]:
    """Inside, `import mimzoo.x` does not run `mimzoo/__init__`, which loads every model.

    Does nothing where mimzoo is there already. Afterwards nothing of it is left.
    """
    if "mimzoo" in sys.modules:
        yield
        return
    package = types.ModuleType("mimzoo")
    package.__path__ = list(importlib.util.find_spec("mimzoo").submodule_search_locations)
    sys.modules["mimzoo"] = package
    before = set(sys.modules)
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] == "mimzoo" or _ours(n, before)]:
            del sys.modules[name]


def _ours(name: str, before: set[str]) -> bool:
    # Recipes hold objects of the package that goes.
    return name.startswith("mimzoo_training.recipes") and name not in before
