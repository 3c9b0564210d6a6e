"""The layouts there are, and which one a file has."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable

from mimzoo.convert.files import Tensors
from mimzoo.convert.layout import Layout


def all_layouts() -> dict[str, Layout]:
    """All layouts by name, in the order in which they are tried."""
    package = importlib.import_module("mimzoo.convert.layouts")
    found: dict[str, Layout] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        found |= {layout.name: layout for layout in module.LAYOUTS}
    return found


def get_layout(name: str) -> Layout:
    """A layout by name.

    Raises:
        ValueError: an unknown name; the message offers the nearest.
    """
    known = all_layouts()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}." if near else f"known are {', '.join(known)}."
        raise ValueError(f"there is no layout {name!r}; {hint}")
    return known[name]


def detect(tensors: Tensors) -> Layout:
    """The layout of a file, from its names.

    Raises:
        ValueError: a file of none of them.
    """
    fitting = [layout for layout in all_layouts().values() if layout.fits(tensors)]
    if fitting:
        # The most demanding one: a decoder more, a head more.
        return max(fitting, key=lambda layout: len(layout.keys))
    raise ValueError(f"no known layout has tensors such as {_some(tensors)}.")


def choose(tensors: Tensors, name: str | None) -> Layout:
    """The layout that is asked for, if the file matches it; without a name the detected one.

    Raises:
        ValueError: an unknown or a wrong name, or a file of no known layout.
    """
    if name is None:
        return detect(tensors)
    layout = get_layout(name)
    if layout.fits(tensors):
        return layout
    others = [other.name for other in all_layouts().values() if other.fits(tensors)]
    if others:
        raise ValueError(
            f"the file is not of the layout {name}: it matches {' and '.join(others)}."
        )
    raise ValueError(f"the file matches neither layout {name} nor any other known one.")


def _some(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:3]) or "none at all"
