"""Images with boxes: sources of them, and what is wrong with boxes."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mimzoo.data.fingerprint import hash_array, hash_parts
from mimzoo.data.ids import printable
from mimzoo.data.objects import CROWD, NO_OBJECT, Objects, clipped
from mimzoo.data.pixels import ValueRange, rgb_images
from mimzoo.data.sources import Source

logger = logging.getLogger("mimzoo.data")

# Of the boxes of a source, the share that may be no boxes, and the number that always may.
MAX_WRONG, FEW_WRONG = 0.01, 4


class BoxError(ValueError):
    """Boxes that fit neither their image nor the classes. The message names the file."""


class BoxCheck:
    """Clips boxes to their images, leaves out what is no box, and reports it at the end.

    A box is wrong if a corner is not finite, if it is empty (x2 <= x1 or y2 <= y1), or if it lies
    outside of its image. COCO and BCCD have such boxes, so a few are left out with a warning. A box
    that reaches more than a pixel beyond the image is clipped with a warning, others without.

    Args:
        where: what messages call the source.
    """

    def __init__(self, where: str) -> None:
        self.where = printable(where)
        self.count = 0
        self.wrong: list[str] = []
        self.beyond: list[str] = []

    def __call__(self, objects: Objects, size: tuple[int, int], name: str) -> Objects:
        """The objects that have a box, clipped.

        Args:
            objects: of one image.
            size: (height, width) of the image.
            name: of the file that has the boxes.
        """
        boxes = objects.boxes
        self.count += len(boxes)
        inside = clipped(boxes, *size)
        empty = ~((boxes[:, 2:] > boxes[:, :2]).all(1) & np.isfinite(boxes).all(1))
        outside = ~(inside[:, 2:] > inside[:, :2]).all(1)
        kept = ~(empty | outside)
        for number in np.flatnonzero(~kept):
            what = "which is empty" if empty[number] else f"outside of {size[1]} x {size[0]} pixels"
            self.wrong.append(f"{printable(name)} has the box {_text(boxes[number])}, {what}")
        for number in np.flatnonzero(kept & (np.abs(boxes - inside).max(1, initial=0) > 1)):
            image = f"of {size[1]} x {size[0]} pixels"
            self.beyond.append(f"{printable(name)}: {_text(boxes[number])} {image}")
        return objects._replace(boxes=inside).where(kept)

    def finish(self) -> None:
        """Warns of wrong and clipped boxes.

        Raises:
            BoxError: more than a hundredth of the boxes, and more than four, or all are wrong.
        """
        bad = len(self.wrong)
        if bad and (bad == self.count or bad > max(FEW_WRONG, MAX_WRONG * self.count)):
            raise BoxError(
                f"{self.where}: {bad} of {self.count} boxes are wrong, such as: {self.wrong[0]}; "
                "correct or remove them"
            )
        if bad:
            few = "; ".join(self.wrong[:3])
            logger.warning("%s: %d boxes are left out: %s", self.where, bad, few)
        if self.beyond:
            logger.warning(
                "%s: %d boxes reach beyond their image and are clipped, such as %s",
                self.where,
                len(self.beyond),
                self.beyond[0],
            )


def _text(box: np.ndarray) -> str:
    return f"({', '.join(f'{value:g}' for value in box)})"


def _check_classes(labels: np.ndarray, num_classes: int, name: str) -> None:
    if labels.dtype.kind not in "iuf" or (labels % 1).any():
        raise BoxError(f"{printable(name)} has labels of dtype {labels.dtype}: give integers")
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        raise BoxError(
            f"{printable(name)} has the label {labels[wrong][0]:g}, which is no class: "
            f"{num_classes} classes are numbered 0 to {num_classes - 1}"
        )


class _Boxed(Source):
    """What sources with boxes share."""

    boxed = True

    def __init__(
        self,
        name: str,
        objects: Sequence[Objects],
        num_classes: int,
        class_names: Iterable[str] | None,
    ) -> None:
        super().__init__(name, class_names=class_names)
        self.num_classes = num_classes
        self._objects = list(objects)
        counts = [int((one.kinds != CROWD).sum()) for one in self._objects]
        if not any(counts):
            raise BoxError(
                f"{self.name} has no objects in its {len(counts)} images: a detector needs boxes "
                "to learn from"
            )
        self.max_objects = max(counts)

    def __len__(self) -> int:
        return len(self._objects)

    def objects(self, index: int) -> Objects:
        """The objects of example `index`."""
        return self._objects[index]

    def fingerprint(self) -> str:
        """Of the images, the boxes and the names of the classes."""
        arrays = [np.concatenate(values) for values in zip(*self._objects, strict=True)]
        counts = np.array([len(one.labels) for one in self._objects])
        hashes = map(hash_array, [*arrays, counts])
        return hash_parts("boxes", self._images_hash(), *hashes, *(self.class_names or ()))

    def _images_hash(self) -> str:
        raise NotImplementedError


class BoxSource(_Boxed):
    """Image files, and the objects in each.

    Args:
        images: the images.
        objects: of each image, in the same order.
        class_names: their names, in the order of the labels.
        sizes: (height, width) of each image, as its boxes have it.
        files: what errors call the boxes of each image.
    """

    def __init__(
        self,
        images: Source,
        objects: Sequence[Objects],
        class_names: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        files: Sequence[str],
    ) -> None:
        super().__init__(images.name, objects, len(class_names), class_names)
        self.images_of, self.sizes, self.files = images, list(sizes), list(files)
        self.kind, self.root = images.kind, images.root

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, 3) uint8.

        Raises:
            BoxError: its size is not the one that its boxes are for.
        """
        image = self.images_of.image(index)
        size = self.sizes[index]
        if image.shape[:2] != size:
            raise BoxError(
                f"{printable(self.files[index])} has boxes for {size[1]} x {size[0]} pixels, and "
                f"{printable(self.example_name(index))}, upright, has {image.shape[1]} x "
                f"{image.shape[0]}: both must have the same size"
            )
        return image

    def example_name(self, index: int) -> str:
        """The name of the image's file."""
        return self.images_of.example_name(index)

    def _images_hash(self) -> str:
        return self.images_of.fingerprint()


def checked(
    images: Source,
    objects: Sequence[Objects],
    class_names: Sequence[str],
    sizes: Sequence[tuple[int, int] | None],
    files: Sequence[str],
    where: str,
) -> BoxSource:
    """A source of boxes as they were read, wrong ones left out; see `BoxCheck`.

    Args:
        images, class_names, files: as in BoxSource.
        objects: of each image.
        sizes: (height, width) of each image; one of unknown size is read.
        where: what messages call the source.
    """
    check = BoxCheck(where)
    sizes = [images.image(i).shape[:2] if size is None else size for i, size in enumerate(sizes)]
    rows = zip(objects, sizes, files, strict=True)
    objects = [check(one, size, file) for one, size, file in rows]
    check.finish()
    return BoxSource(images, objects, class_names, sizes, files)


class BoxedPictures(_Boxed):
    """Images and boxes in memory.

    Args:
        images: (N, H, W, 3), or a list of images of any size; see `rgb_images`.
        targets: {"boxes": (N, M, 4), "labels": (N, M)}, -1 where there is no object, or lists of
            (M, 4) and (M,); or a list of such a dict for each image.
        num_classes: of the labels.
        class_names: their names, or None.
        value_range: (low, high) of images of floats; default: inferred.
        name: what messages call the source.

    Raises:
        ValueError: another number of targets than of images, labels that are no class, or boxes
            that are wrong; see `BoxCheck`.
    """

    def __init__(
        self,
        images: Any,
        targets: Any,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        value_range: ValueRange | None = None,
        name: str = "array",
    ) -> None:
        self._images = rgb_images(images, value_range)
        if isinstance(targets, dict):
            if not {"boxes", "labels"} <= set(targets):
                raise BoxError(f'targets need "boxes" and "labels", got {sorted(targets)}')
            pairs = list(zip(targets["boxes"], targets["labels"], strict=True))
        else:
            pairs = [(one["boxes"], one["labels"]) for one in targets]
        if len(pairs) != len(self._images):
            raise BoxError(
                f"there are {len(self._images)} images and targets of {len(pairs)}: give one for "
                "each image"
            )
        check = BoxCheck(name)
        objects = []
        for number, (image, (boxes, labels)) in enumerate(zip(self._images, pairs, strict=True)):
            what, labels = f"image {number}", np.asarray(labels)
            boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
            if labels.shape != boxes.shape[:1]:
                raise BoxError(f"{what} has {len(boxes)} boxes and labels of {labels.shape}")
            known = labels != NO_OBJECT
            _check_classes(labels[known], num_classes, what)
            found = Objects.of(boxes[known], labels[known])
            objects.append(check(found, image.shape[:2], what))
        check.finish()
        super().__init__(name, objects, num_classes, class_names)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, 3) uint8."""
        return self._images[index]

    def _images_hash(self) -> str:
        return hash_parts("pictures", *map(hash_array, self._images))
