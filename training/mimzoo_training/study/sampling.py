"""How the images of a cell are chosen from all, for a study that compares ways to do so."""

import math

import numpy as np

from mimzoo.data import Source, take_subset
from mimzoo.data.random import permutation
from mimzoo.data.subsets import select

# Of the images that "contrast" chooses from, and of those that "repeated" shows.
CONSIDERED, REPEATS = 2, 10
SAMPLINGS = ("balanced", "random", "contrast", "repeated")


def suffix(sampling: str) -> str:
    """What names of cells and data end in: nothing for the usual way."""
    return "" if sampling == SAMPLINGS[0] else f"-{sampling}"


def sample(source: Source, amount: float, sampling: str, seed: int) -> Source:
    """A part of a source.

    Args:
        source: all images.
        amount: a share of them below 1, or their number.
        sampling: "balanced" gives each class its share; "random" knows no classes; "contrast" takes
            of twice as many random images the half whose pixels vary most; "repeated" takes a tenth
            as many random images, each ten times.
        seed: chooses which.

    Raises:
        ValueError: "contrast" has fewer than twice as many images to choose from.
    """
    if sampling == "balanced":
        part = {"share": amount} if amount < 1 else {"count": int(amount)}
        return take_subset(source, **part, seed=seed)
    total = len(source)
    count = max(1, round(amount * total)) if amount < 1 else int(amount)
    order = permutation(seed, 0, total, stream="subset")
    if sampling == "contrast":
        if CONSIDERED * count > total:
            raise ValueError(
                f"the sampling contrast takes {count} of {CONSIDERED * count} images, and "
                f"{source.name} has {total}: give less data."
            )
        order = order[: CONSIDERED * count]
        varies = np.array([source.image(int(index)).std() for index in order])
        order = order[np.argsort(-varies, kind="stable")]
    if sampling == "repeated":
        order = np.repeat(order[: math.ceil(count / REPEATS)], REPEATS)
    return select(source, np.sort(order[:count]), f"{source.name} ({count} of {total}, {sampling})")
