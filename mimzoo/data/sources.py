"""Sources: numbered images, with or without labels."""

import copy
import dataclasses
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from mimzoo.data.fingerprint import hash_array, hash_parts
from mimzoo.data.ids import printable
from mimzoo.data.images import decode_image, to_rgb

MAX_CLASSES = 2**20
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Damage:
    """What a source lacks as a whole; single broken images are the reader's to find.

    Attributes:
        text: what is wrong, with names and counts.
        share: how much of the source that is, in [0, 1].
        remedy: what to do, for an error.
    """

    text: str
    share: float
    remedy: str

    def __str__(self) -> str:
        return self.text


class Source:
    """Images by number. A subclass gives `image` and, where labelled, the array of labels.

    Attributes:
        name: what messages and records call the source.
        kind: "folder", "tar", "shards", "tfds", "array", or the name of the class.
        root: the absolute path of what it was opened from, or its name.
        class_names: a tuple of names in the order of the labels, or None.
        num_classes: how many classes there are, or None if the source is unlabelled.
        labelled: whether `labels` exists.
        damage: what it lacks as a whole, or None.
        skipped: name -> reason, of images that were found and cannot be part of it.
        max_held_out: images that `open_source` holds back at most by default, or None.
        dense: whether images are (H, W, 4), the fourth number the class of the pixel.
        boxed: whether examples have "objects"; see `mimzoo.data.Objects`.
        max_objects: the most that an image has to learn from.
    """

    kind: str | None = None
    root: str | None = None
    damage: Damage | None = None
    skipped: dict[str, str] = {}
    max_held_out: int | None = None
    dense: bool = False
    boxed: bool = False
    max_objects: int = 0

    def __init__(
        self,
        name: str,
        labels: np.ndarray | None = None,
        class_names: Iterable[str] | None = None,
    ) -> None:
        self.name = printable(name)
        self.class_names = None if class_names is None else tuple(map(printable, class_names))
        self._labels = None if labels is None else np.asarray(labels)
        self.num_classes = None
        if self._labels is not None:
            try:
                check_labels(self._labels, MAX_CLASSES)
                if self.class_names is not None:
                    self.num_classes = len(self.class_names)
                else:
                    self.num_classes = int(self._labels.max()) + 1 if self._labels.size else 0
                check_labels(self._labels, self.num_classes)
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from None
            self._labels = self._labels.astype(np.int32)

    def __len__(self) -> int:
        raise NotImplementedError

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, 3) uint8. `min_size` as in `decode_image`.

        Raises `ImageError` where the image cannot be read.
        """
        raise NotImplementedError

    def encoded(self, index: int) -> tuple[bytes, str] | None:
        """The file of image `index` and its name in errors, or None if images are no files.

        Raises `ImageError` where the file cannot be read.
        """
        return None

    def example_name(self, index: int) -> str:
        """The name of example `index` inside the source: for a file its relative path."""
        return f"{self.name}[{index}]"

    def objects(self, index: int) -> "Objects":  # noqa: F821
        """The objects of example `index`, corners in pixels; ValueError if there are none."""
        raise ValueError(f"{self.name} has no boxes: open it with mimzoo.data.open_boxes")

    @property
    def labelled(self) -> bool:
        """Whether the examples have labels."""
        return self._labels is not None

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32 labels of all examples; ValueError if the source has none."""
        if self._labels is None:
            raise ValueError(
                f"{self.name} has no labels; labels come from one subfolder per class "
                "(two or more), or from a labelled data set"
            )
        return self._labels

    def with_classes(self, class_names: Iterable[str], labels: np.ndarray) -> "Source":
        """The same images under other labels.

        Args:
            class_names: the names of the new classes.
            labels: (N,) integers, the new labels.
        """
        changed = copy.copy(self)
        changed.class_names = tuple(class_names)
        changed.num_classes = len(changed.class_names)
        check_labels(labels, changed.num_classes)
        changed._labels = labels.astype(np.int32)
        return changed

    def describe(self) -> dict[str, Any]:
        """What a record of a run keeps, ready for JSON.

        Returns:
            kind, root and name (see the attributes), count of images, num_classes or None, classes
            (their names) or None, and the `fingerprint`.
        """
        return {
            "kind": self.kind or type(self).__name__,
            "root": printable(self.root or self.name),
            "name": self.name,
            "count": len(self),
            "num_classes": self.num_classes,
            "classes": None if self.class_names is None else list(self.class_names),
            "fingerprint": self.fingerprint(),
        }

    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with the images' names, sizes, order and labels.

        The same on every machine; times and places of files do not count. Here of the names and
        labels alone; sources that know more override it.
        """
        names = [self.example_name(index) for index in range(len(self))]
        labels = hash_array(self.labels) if self.labelled else ""
        return hash_parts("names", *names, labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, no number {index}")
        return self._example(index, None)

    def _example(self, index: int, min_size: int | None) -> dict[str, Any]:
        example = {"image": self.image(index, min_size), "id": index}
        if self._labels is not None:
            example["label"] = int(self._labels[index])
        if self.boxed:
            example["objects"] = self.objects(index)
        return example

    def fetch(self, indices: Iterable[int], min_size: int | None = None) -> list[dict[str, Any]]:
        """The examples of these numbers, in this order."""
        return [self._example(int(index), min_size) for index in indices]

    def __repr__(self) -> str:
        known = self.num_classes is not None
        classes = f", {self.num_classes} classes" if known else ", unlabelled"
        return f"<{type(self).__name__} {self.name}: {len(self)} images{classes}>"


class EncodedSource(Source):
    """Images that are files: a subclass gives `encoded`."""

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, 3) uint8."""
        data, name = self.encoded(index)
        return decode_image(data, name=name, min_size=min_size)


class ArraySource(Source):
    """Images of one size that lie in memory.

    Args:
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3); see `to_rgb` for the types of number.
        labels: (N,) integers, or None.
        class_names: their names, or None.
        name: what messages call the source.

    Attributes:
        images: all images, (N, H, W, 3) uint8. Greyscale is stored once and repeated in a view.
    """

    kind = "array"

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        class_names: Iterable[str] | None = None,
        name: str = "array",
    ) -> None:
        images = np.asarray(images)
        if images.ndim < 3 or (images.ndim == 3 and images.shape[-1] in (1, 3)):
            raise ValueError(
                "images must have shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), "
                f"got {images.shape}"
            )
        images = to_rgb(images)
        # What is pickled for worker processes: one channel, if the view only repeats it.
        self._stored = images[..., :1] if images.strides[-1] == 0 else images
        if labels is not None and np.shape(labels) != (len(images),):
            raise ValueError(
                f"labels must have shape ({len(images)},), one for each image, "
                f"got {np.shape(labels)}"
            )
        super().__init__(name, labels, class_names)

    def take(self, indices: np.ndarray, name: str) -> "ArraySource":
        """A source of these examples only, renumbered from 0."""
        labels = self._labels[indices] if self.labelled else None
        part = ArraySource(self._stored[indices], labels, self.class_names, name)
        # Without names the number of classes is counted, and a part may lack the last one.
        part.num_classes = self.num_classes
        return part

    @property
    def images(self) -> np.ndarray:
        """All images: (N, H, W, 3) uint8."""
        return to_rgb(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, 3) uint8."""
        return np.array(self.images[index])

    def fingerprint(self) -> str:
        """Of shape, type and bytes (sampled beyond 256 MB) of the images, and of the labels."""
        labels = hash_array(self._labels) if self.labelled else ""
        return hash_parts("array", hash_array(self._stored), labels)


def check_labels(labels: np.ndarray, num_classes: int) -> None:
    """Raises ValueError at the first label that is no integer in 0..num_classes-1."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got dtype {labels.dtype}")
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        most = "at most " if num_classes == MAX_CLASSES else ""
        raise ValueError(
            f"label {labels[bad[0]]} at index {bad[0]} is out of range: "
            f"{most}{num_classes} classes allow 0..{num_classes - 1}"
        )
