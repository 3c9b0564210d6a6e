"""What `fit` does with arguments that Keras knows for arrays."""

from typing import Any


def split_off(x: Any, y: Any, sample_weight: Any, share: float) -> tuple[tuple, tuple]:
    """(x, y, weights) of the first images in memory, and of the last.

    Args:
        x: an array or a list.
        y: likewise, a dict of those, or None.
        sample_weight: likewise.
        share: of the last images, in (0, 1).

    Raises:
        ValueError: anything else, or a share that leaves a side without images.
    """
    if not (isinstance(x, list | tuple) or hasattr(x, "shape")):
        raise ValueError(
            "validation_split is for images in memory: give validation_data for anything else."
        )
    first = int(len(x) * (1 - share))
    if not 0 < first < len(x):
        raise ValueError(f"validation_split {share} of {len(x)} images leaves a side empty.")

    def part(values: Any, side: slice) -> Any:
        if isinstance(values, dict):
            return {name: part(value, side) for name, value in values.items()}
        return values if values is None else values[side]

    sides = slice(None, first), slice(first, None)
    return tuple(tuple(part(values, side) for values in (x, y, sample_weight)) for side in sides)


def refuse(given: dict, task: str, *names: str) -> None:
    """Takes these out of the given arguments; raises ValueError if one is not None."""
    for name in names:
        if given.pop(name, None) is not None:
            raise ValueError(f"{name} is not supported by {task}: compile a loss of your own.")
