"""A layout: how a family of checkpoint files names and shapes its tensors."""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mimzoo.convert.files import Tensors

# Buffers that follow from the shape of a model.
BUFFERS = (r"(.*\.)?relative_position_index", r"(.*\.)?relative_coords_table", r"(.*\.)?attn_mask")


@dataclass(frozen=True)
class Layout:
    """One layout, read both ways.

    Attributes:
        name: as in `--layout`.
        origin: whose files these are.
        licence: of the released weights; "unknown" where it is not the layout that tells.
        backbone: our class.
        task: what the file holds: "backbone", "classifier", "mae", "simmim" or "mixmim".
        configure: (names, tensors, facts) -> the backbone's arguments.
        rows: (names, backbone) -> the encoder's table.
        names: the family's names in this layout.
        keys: tensors that every such file has.
        without: tensors that none has, where `keys` alone fit another layout too.
        aliases: (regular expression, replacement) of other spellings of a name.
        ignored: regular expressions of tensors that are not weights of ours.
        defaults: facts that hold for all released files.
        stored: their name in a configuration file -> fact.
        pooling: of a classifier.
        target_window: side of the window that SimMIM's target is normalised by; None: plain pixels.
    """

    name: str
    origin: str
    licence: str
    backbone: type
    task: str
    configure: Callable
    rows: Callable
    names: Any
    keys: tuple[str, ...]
    without: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = BUFFERS
    defaults: dict = field(default_factory=dict)
    stored: dict = field(default_factory=dict)
    pooling: str = "avg"
    target_window: int | None = None

    def spell(self, tensors: Tensors) -> Tensors:
        """The tensors with this layout's spelling of their names."""

        def rename(name: str) -> str:
            for pattern, replacement in self.aliases:
                name = re.sub(pattern, replacement, name)
            return name

        return tensors.renamed(rename) if self.aliases else tensors

    def fits(self, tensors: Tensors) -> bool:
        """Whether a file looks like this layout."""
        spelled = self.spell(tensors)
        return all(k in spelled for k in self.keys) and not any(w in spelled for w in self.without)

    def ignores(self, name: str) -> bool:
        """Whether a tensor is none of ours."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)


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
    """The layout that is asked for, if the file can be of it, or the one that the names tell.

    Raises:
        ValueError: an unknown or a wrong name, or a file of no known layout.
    """
    if name is None:
        return detect(tensors)
    layout = get_layout(name)
    if layout.fits(tensors):
        return layout
    others = [other.name for other in all_layouts().values() if other.fits(tensors)]
    hint = f"it looks like {' or '.join(others)}" if others else "nor of any other that is known"
    raise ValueError(f"the file is not of the layout {name}: {hint}.")


def _some(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:3]) or "none at all"
