"""Parts of a source that depend on names and seeds, never on order or chance."""

import hashlib
import re

import numpy as np

from mimzoo.data.random import permutation
from mimzoo.data.sources import ArraySource, Source


class Subset(Source):
    """Some examples of another source, renumbered from 0.

    Args:
        source: where they come from.
        indices: (M,) their numbers there.
        name: what messages call the subset.
    """

    def __init__(self, source: Source, indices: np.ndarray, name: str | None = None) -> None:
        self.source = source
        self.indices = np.asarray(indices, np.int64)
        if ((self.indices < 0) | (self.indices >= len(source))).any():
            raise ValueError(f"subset indices must lie in 0..{len(source) - 1} of {source.name}")
        labels = source.labels[self.indices] if source.labelled else None
        super().__init__(name or f"{source.name} ({len(self.indices)})", labels, source.class_names)
        # Without names the number of classes is counted, and a subset may lack the last one.
        self.num_classes = source.num_classes

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index` of the subset: (H, W, 3) uint8."""
        return self.source.image(int(self.indices[index]), min_size)

    def example_name(self, index: int) -> str:
        """The name that the example has in the source."""
        return self.source.example_name(int(self.indices[index]))


def _select(source: Source, indices: np.ndarray, name: str) -> Source:
    if isinstance(source, ArraySource):
        return source.take(indices, name)
    return Subset(source, indices, name)


def take_subset(
    source: Source,
    *,
    share: float | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Source:
    """A random part of a source, class-balanced where there are labels.

    For a given seed a smaller part lies inside every larger one, as a study of data scaling
    wants it. Balanced means: of each class the same share, and `count` is spread evenly over
    the classes (the first ones get one more if it does not divide).

    Args:
        source: the source to take from.
        share: the part to take, in (0, 1].
        count: or the number of examples to take.
        seed: chooses which examples.

    Raises:
        ValueError: not exactly one of `share` and `count`, or more than there are.
    """
    if (share is None) == (count is None):
        raise ValueError("give either share or count")
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    if count is not None and not 0 < count <= len(source):
        raise ValueError(f"count must lie in 1..{len(source)}, got {count}")
    order = permutation(seed, 0, len(source), stream="subset")
    if not source.labelled:
        groups = [order]
    else:
        labels = source.labels[order]
        groups = [order[labels == label] for label in range(source.num_classes)]
        groups = [group for group in groups if len(group)]
    chosen = []
    for number, group in enumerate(groups):
        if share is not None:
            wanted = max(1, round(share * len(group)))
        else:
            wanted = count // len(groups) + (number < count % len(groups))
        if wanted > len(group):
            raise ValueError(
                f"{count} examples, evenly spread, need {wanted} of a class that has {len(group)}"
            )
        chosen.append(group[:wanted])
    indices = np.sort(np.concatenate(chosen))
    return _select(source, indices, f"{source.name} ({len(indices)} of {len(source)})")


_ENDING = re.compile(r"\.[A-Za-z]{2,5}$")
# Named parts of ImageNet-1K's training images: (images in the whole set, share). papers.md 4.1.
NAMED_SUBSETS = {f"in1k{percent}": (1_281_167, percent / 100) for percent in (10, 20, 50)}


def example_id(name: str) -> str:
    """What an example is called wherever it lies: its file name without folder and ending."""
    return _ENDING.sub("", name.replace("\\", "/").rpartition("/")[2])


def named_subset(source: Source, name: str, balanced: bool = False) -> Source:
    """The published part of a data set by that name, the same on every machine.

    Examples are sorted by sha256("mimzoo subset 0:" + id), where the id is the file name without
    folder and ending ("n01440764_10026"), and the first round(share x N) are taken: so the parts
    are nested, and a folder, an archive and tfds give the same. On Data Scaling in Masked Image
    Modeling samples at random and publishes no list (papers.md 4.1).

    Args:
        source: the whole data set.
        name: "in1k10", "in1k20" or "in1k50".
        balanced: the first round(share x n) of each class instead; the paper does not say.

    Raises:
        ValueError: an unknown name; two examples with one id.
    """
    if name not in NAMED_SUBSETS:
        raise ValueError(f"unknown subset {name!r}: choose one of {', '.join(NAMED_SUBSETS)}.")
    ids = [example_id(source.example_name(index)) for index in range(len(source))]
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"{source.name} has several examples of one name, so {name} is not defined on it: "
            "give each image a file name of its own."
        )
    digests = [hashlib.sha256(f"mimzoo subset 0:{i}".encode()).digest() for i in ids]
    order = np.array(sorted(range(len(ids)), key=digests.__getitem__))
    share = NAMED_SUBSETS[name][1]
    groups = [order]
    if balanced:
        labels = source.labels[order]
        groups = [order[labels == label] for label in np.unique(labels)]
    chosen = np.concatenate([group[: round(share * len(group))] for group in groups])
    return _select(source, np.sort(chosen), f"{source.name} ({name})")


def hold_out(source: Source, share: float, split: str) -> Source:
    """One side of a source that is divided by the hashes of its examples' names.

    A name whose hash lies in the lowest `share` of all hashes is "validation", any other one
    "train": a rule for each name alone. Only where a side would be empty does one example
    change sides.

    Args:
        source: what to divide.
        share: the expected share of "validation", in (0, 1).
        split: "train" or "validation".

    Raises:
        ValueError: the source has fewer than two examples.
    """
    if len(source) < 2:
        raise ValueError(
            f"{source.name} has one image, too few to hold one back; add images or pass holdout=0"
        )
    names = [source.example_name(index) for index in range(len(source))]
    hashes = np.array([_hash(name) for name in names])
    held = hashes < share
    held[hashes.argmin()] = True
    if held.all():
        held[hashes.argmax()] = False
    indices = np.flatnonzero(held if split == "validation" else ~held)
    return _select(source, indices, f"{source.name.removesuffix(' train')} {split}")


def _hash(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
