"""A row says which tensors of a checkpoint are which weights of ours, and how they differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mimzoo.convert.transforms import Same, Transposed


@dataclass(frozen=True)
class Row:
    """One line of a layout's table.

    Attributes:
        theirs: names in the file.
        ours: attribute paths from the task or backbone, such as `backbone.norm.gamma`.
        transform: between the two, both ways.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    transform: Same


def row(
    theirs: str | Iterable[str], ours: str | Iterable[str], transform: Same | None = None
) -> Row:
    """A row, of one name or several on each side; default: the tensor as it is."""
    sides = ((x,) if isinstance(x, str) else tuple(x) for x in (theirs, ours))
    return Row(*sides, transform or Same())


def linear(theirs: str, ours: str, bias: bool = True) -> list[Row]:
    """A linear layer: `weight`, `bias` of torch, `kernel`, `bias` of Keras."""
    rows = [row(f"{theirs}.weight", f"{ours}.kernel", Transposed())]
    return rows + [row(f"{theirs}.bias", f"{ours}.bias")] * bias


def norm(theirs: str, ours: str) -> list[Row]:
    """A LayerNorm: `weight`, `bias` of torch, `gamma`, `beta` of Keras."""
    return [row(f"{theirs}.weight", f"{ours}.gamma"), row(f"{theirs}.bias", f"{ours}.beta")]


def variable(model: Any, path: str) -> Any:
    """The weight at an attribute path; `backbone.` of a backbone is the backbone itself."""
    owner = model
    for name in path.split("."):
        if name == "backbone" and not hasattr(owner, "backbone"):
            continue
        if isinstance(owner, dict):
            owner = owner[name]
        else:
            owner = owner[int(name)] if name.isdigit() else getattr(owner, name)
    return owner
