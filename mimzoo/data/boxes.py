"""Images with boxes: sources of them, and what is wrong with boxes."""

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mimzoo.data.fingerprint import hash_array, hash_parts
from mimzoo.data.ids import printable
from mimzoo.data.objects import CROWD, Objects, clipped
from mimzoo.data.sources import Source
from mimzoo.data.upright import Upright

logger = logging.getLogger("mimzoo.data")

# Of the boxes of a source, the share that may be no boxes, and the number that always may.
MAX_WRONG, FEW_WRONG = 0.01, 4


class BoxError(ValueError):
    """Boxes that fit neither their image nor the classes. The message names the file."""


class WrongBox(NamedTuple):
    """A box that is left out.

    Attributes:
        rule: that it breaks, the first of "not finite", "empty" and "outside" (of its image).
        text: which box of which file, and what is wrong with it.
    """

    rule: str
    text: str


class BoxCheck:
    """Clips boxes to their images, leaves out what is no box, and reports it at the end.

    A box is wrong if a corner is not finite, if it is empty (x2 <= x1 or y2 <= y1), or if it lies
    outside of its image. COCO and BCCD have such boxes, so a few are left out with a warning. A box
    that reaches more than a pixel beyond the image is clipped with a warning, others without.

    Args:
        where: what messages call the source.
        remedy: what to do about wrong boxes, for the error.
    """

    def __init__(self, where: str, remedy: str = "correct or remove them") -> None:
        self.where, self.remedy = printable(where), remedy
        self.count = 0
        self.largest = 0.0
        self.wrong: list[WrongBox] = []
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
        self.largest = max(self.largest, np.nan_to_num(np.abs(boxes)).max(initial=0))
        inside = clipped(boxes, *size)
        image = f"of {size[1]} x {size[0]} pixels"
        rules = (
            ("not finite", np.isfinite(boxes).all(1), "which is not finite"),
            ("empty", (boxes[:, 2:] > boxes[:, :2]).all(1), "which is empty"),
            ("outside", (inside[:, 2:] > inside[:, :2]).all(1), f"outside {image}"),
        )
        kept = np.all([good for _, good, _ in rules], axis=0)
        for number in np.flatnonzero(~kept):
            rule, what = next((rule, what) for rule, good, what in rules if not good[number])
            text = f"{printable(name)} has the box {_text(boxes[number])}, {what}"
            self.wrong.append(WrongBox(rule, text))
        for number in np.flatnonzero(kept & (np.abs(boxes - inside).max(1, initial=0) > 1)):
            self.beyond.append(f"{printable(name)}: {_text(boxes[number])} {image}")
        return objects._replace(boxes=inside).where(kept)

    def finish(self) -> None:
        """Warns of wrong and clipped boxes.

        Raises:
            BoxError: more than a hundredth of the boxes, and more than four, or all are wrong; or
                all lie within 0..1, so that they are no pixels.
        """
        if self.count and self.largest <= 1:
            raise BoxError(f"{self.where}: all boxes lie within 0..1: give them in pixels")
        bad = len(self.wrong)
        if bad and (bad == self.count or bad > max(FEW_WRONG, MAX_WRONG * self.count)):
            raise BoxError(
                f"{self.where}: {bad} of {self.count} boxes are wrong, such as: "
                f"{self.wrong[0].text}; {self.remedy}"
            )
        if bad:
            few = "; ".join(box.text for box in self.wrong[:3])
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


class Boxed(Source):
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


class BoxSource(Boxed):
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
        self.upright = Upright("boxes")

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, 3) uint8.

        Raises:
            BoxError: its size is not the one that its boxes are for.
        """
        image = self.upright.image(self.images_of, index)
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
