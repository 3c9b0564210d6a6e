"""Parts of a source that depend on names and seeds, never on order or chance."""

import hashlib
from typing import Any

import numpy as np

from mimzoo.data.fingerprint import hash_array, hash_parts
from mimzoo.data.ids import name_bytes
from mimzoo.data.random import MAX_SORTED, permutation, shuffled
from mimzoo.data.sources import Source


class Subset(Source):
    """Some examples of another source, renumbered from 0.

    Args:
        source: where they come from.
        indices: (M,) their numbers there, or a boolean for each example.
        name: what messages call the subset.
    """

    def __init__(self, source: Source, indices: np.ndarray, name: str | None = None) -> None:
        self.source = source
        indices = np.asarray(indices)
        if indices.dtype == bool and indices.shape == (len(source),):
            indices = np.flatnonzero(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise ValueError(
                f"subset indices must be (M,) integers, or ({len(source)},) booleans, got "
                f"{indices.dtype} of the shape {indices.shape}"
            )
        self.indices = indices.astype(np.int64)
        if ((self.indices < 0) | (self.indices >= len(source))).any():
            raise ValueError(f"subset indices must lie in 0..{len(source) - 1} of {source.name}")
        labels = source.labels[self.indices] if source.labelled else None
        super().__init__(name or f"{source.name} ({len(self.indices)})", labels, source.class_names)
        # Without names the number of classes is counted, and a subset may lack the last one.
        self.num_classes = source.num_classes
        self.damage, self.skipped = source.damage, source.skipped
        self.dense, self.boxed = source.dense, source.boxed
        self.max_objects = source.max_objects

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index` of the subset: (H, W, 3) uint8."""
        return self.source.image(int(self.indices[index]), min_size)

    def objects(self, index: int) -> "Objects":  # noqa: F821
        """The objects of example `index`, where the source has boxes."""
        return self.source.objects(int(self.indices[index]))

    def encoded(self, index: int) -> tuple[bytes, str] | None:
        """The file of image `index`, where the source has files."""
        return self.source.encoded(int(self.indices[index]))

    def example_name(self, index: int) -> str:
        """The name that the example has in the source."""
        return self.source.example_name(int(self.indices[index]))

    def describe(self) -> dict[str, Any]:
        """As of the whole source, with the part's name, count and fingerprint."""
        own = {"name": self.name, "count": len(self), "fingerprint": self.fingerprint()}
        return {**self.source.describe(), **own}

    def fingerprint(self) -> str:
        """Of the whole source and the chosen numbers."""
        return hash_parts("part", self.source.fingerprint(), hash_array(self.indices))


def select(source: Source, indices: np.ndarray, name: str) -> Source:
    """Some examples of a source, by number."""
    if hasattr(source, "take"):  # arrays and shards
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
    total = len(source)
    if total > MAX_SORTED and not source.labelled:
        wanted = count or max(1, round(share * total))
        order = shuffled(seed, 0, total, np.arange(wanted), stream="subset")
        return select(source, np.sort(order), f"{source.name} ({wanted} of {total})")
    order = permutation(seed, 0, total, stream="subset")
    if not source.labelled:
        groups = [order]
    else:
        labels = source.labels[order]
        groups = [order[labels == label] for label in np.unique(labels)]
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
    return select(source, indices, f"{source.name} ({len(indices)} of {len(source)})")


def hold_out(source: Source, share: float, split: str) -> Source:
    """One side of a source that is divided by the hashes of its examples' names.

    Unlabelled: a name whose hash lies in the lowest `share` of all hashes is "validation", any
    other one "train": a rule for each name alone. Labelled: each class gives that share of its
    examples, those with the lowest hashes, and at least one if it has two; so a new example moves
    at most one other. Only where a side would be empty does one example change sides. Of shards it
    is another hash, of the key, and classes do not count.

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
    name = f"{source.name.removesuffix(' train')} {split}"
    if hasattr(source, "hold_out"):  # shards
        return source.hold_out(share, split == "validation", name)
    names = [source.example_name(index) for index in range(len(source))]
    hashes = np.array([_hash(name) for name in names])
    held = _of_each_class(source.labels, hashes, share) if source.labelled else hashes < share
    if not held.any():
        held[hashes.argmin()] = True
    if held.all():
        held[hashes.argmax()] = False
    indices = np.flatnonzero(held if split == "validation" else ~held)
    return select(source, indices, name)


def _of_each_class(labels: np.ndarray, hashes: np.ndarray, share: float) -> np.ndarray:
    """(N,) boolean: the lowest hashes of each class, of which one stays at least."""
    held = np.zeros(len(labels), bool)
    order = np.lexsort((hashes, labels))
    for group in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        wanted = max(1, round(share * len(group)))
        held[group[: min(wanted, len(group) - 1)]] = True
    return held


def _hash(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name_bytes(name)).digest()[:6], "big") / 2**48
