"""Sources: numbered images, with or without labels, and `open_source`, which finds them."""

import dataclasses
import operator
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mimzoo.data.images import decode_image, to_rgb

HOLDOUT = 0.1
SPLITS = ("train", "validation", "test")
_STAND_INS = {
    "train": ("train",),
    "validation": ("validation", "test"),
    "test": ("test", "validation"),
}
SPECS = (
    "'embedded' (a small part of Fashion-MNIST, in the package), 'fashion_mnist', 'tfds:NAME', "
    "the path of a folder of images, or the path of a .tar file of one, "
    "'shards:FOLDER', 'shards:PATH/{00000..00999}.tar'"
)


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
        class_names: a tuple of names in the order of the labels, or None.
        num_classes: how many classes there are, or None if the source is unlabelled.
        labelled: whether `labels` exists.
        damage: what it lacks as a whole, or None.
        most_held_out: images that `open_source` holds back at most by default, or None.
    """

    damage: Damage | None = None
    most_held_out: int | None = None

    def __init__(
        self,
        name: str,
        labels: np.ndarray | None = None,
        class_names: Iterable[str] | None = None,
    ) -> None:
        self.name = name
        self.class_names = None if class_names is None else tuple(class_names)
        self._labels = None if labels is None else np.asarray(labels)
        self.num_classes = None
        if self._labels is not None:
            if self.class_names is not None:
                self.num_classes = len(self.class_names)
            else:
                self.num_classes = int(self._labels.max(initial=-1)) + 1
            check_labels(self._labels, self.num_classes)
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

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, no number {index}")
        return self._example(index, None)

    def _example(self, index: int, min_size: int | None) -> dict[str, Any]:
        example = {"image": self.image(index, min_size), "id": index}
        if self._labels is not None:
            example["label"] = int(self._labels[index])
        return example

    def fetch(self, indices: Iterable[int], min_size: int | None = None) -> list[dict[str, Any]]:
        """The examples of these numbers, in this order."""
        return [self._example(int(index), min_size) for index in indices]

    def __repr__(self) -> str:
        classes = f", {self.num_classes} classes" if self.labelled else ", unlabelled"
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


def check_labels(labels: np.ndarray, num_classes: int) -> None:
    """Raises ValueError at the first label that is no integer in 0..num_classes-1."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got dtype {labels.dtype}")
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        raise ValueError(
            f"label {labels[bad[0]]} at index {bad[0]} is out of range: "
            f"{num_classes} classes allow 0..{num_classes - 1}"
        )


def open_source(
    spec: str | os.PathLike, split: str = "train", holdout: float | None = None
) -> Source:
    """Opens a source of images by name or path.

    Args:
        spec: one of
            "embedded" - a part of Fashion-MNIST that comes with the package: 1,000 labelled
            training images, 2,000 other training images for validation (both class-balanced), and
            the 10,000 test images;
            "fashion_mnist" - all 60,000 and 10,000;
            a folder - its images, found recursively; labelled if every image lies in one of two
            or more first-level subfolders, the classes; with train/, val/ or validation/, and
            test/ above either layout, these are the splits;
            a .tar file of such a folder, read in place;
            "tfds:NAME" - a data set prepared by TensorFlow Datasets, features "image", "label";
            "shards:PATH" - tar files of samples with one stem each (0001.jpg, 0001.json), as
            webdataset and img2dataset write them. The path is a folder of .tar files, a range
            `FOLDER/{00000..00999}.tar` (one that is missing is told; several ranges are combined),
            or a pattern `FOLDER/**/*.tar`. Their order is that of their names, or of the range;
            inside, that of the file. Labelled if each image has a .cls; with "#label=FIELD" after
            the path by that field of the .json. They are indexed once: `mimzoo.data.shard_index`.
        split: "train", "validation", "test", or "all" where the source has no splits of its own.
        holdout: the share of "train" that is kept back as "validation" if the source has none:
            the examples whose names hash to the lowest values, so adding files moves nobody.
            Default: 0.1 if the source has neither "validation" nor "test", else 0; of shards
            at most 50,000 images.

    A missing "test" is read from "validation", a missing "validation" (without a holdout) from
    "test". So "train" and "validation" are disjoint always.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: an unknown name, split, or a folder without images.
    """
    if holdout is not None and not 0 <= holdout < 1:
        raise ValueError(f"holdout must be a share in [0, 1), got {holdout}")
    if split not in (*SPLITS, "all"):
        raise ValueError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}, all")
    from mimzoo.data.subsets import hold_out

    name = os.fspath(spec)
    splits = _splits(name)
    if split == "all":
        if set(splits) != {"train"}:
            raise ValueError(f"{name} has the splits {', '.join(splits)}; ask for one of these")
        return splits["train"]()
    default = holdout is None
    if default:
        holdout = HOLDOUT if set(splits) == {"train"} else 0.0
    lacks_validation = "train" in splits and "validation" not in splits
    if holdout and lacks_validation and not (split == "test" and "test" in splits):
        source = splits["train"]()
        if default and source.most_held_out:
            holdout = min(holdout, source.most_held_out / len(source))
        side = "train" if split == "train" else "validation"
        return hold_out(source, holdout, side)
    for candidate in _STAND_INS[split]:
        if candidate in splits:
            return splits[candidate]()
    raise ValueError(f"{name} has no split {split!r}, only {', '.join(splits)}")


def _splits(spec: str) -> dict[str, Callable[[], Source]]:
    """The splits that a source has of its own, each opened by a call."""
    if spec == "embedded":
        from mimzoo.data.fashion_mnist import embedded_splits

        return embedded_splits()
    if spec == "fashion_mnist":
        from mimzoo.data.fashion_mnist import full_splits

        return full_splits()
    if spec.startswith("tfds:"):
        from mimzoo.data.tfds import tfds_splits

        return tfds_splits(spec.removeprefix("tfds:"))
    if spec.startswith("shards:"):
        from mimzoo.data.shards import shard_splits

        return shard_splits(spec)
    path = os.path.expanduser(spec)
    if os.path.isdir(path):
        from mimzoo.data.folders import folder_splits

        return folder_splits(path)
    if os.path.isfile(path):
        from mimzoo.data.archives import tar_splits

        return tar_splits(path)
    if os.sep in spec or "." in spec or spec.startswith("~"):
        raise FileNotFoundError(f"no folder or .tar file at {spec}")
    raise ValueError(f"unknown source {spec!r}; use {SPECS}")
