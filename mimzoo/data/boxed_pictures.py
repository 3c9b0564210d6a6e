"""Images with boxes in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mimzoo.data.boxes import BoxCheck, Boxed, BoxError
from mimzoo.data.fingerprint import hash_array, hash_parts
from mimzoo.data.ids import printable
from mimzoo.data.objects import NO_OBJECT, Objects
from mimzoo.data.pixels import ValueRange, rgb_images


class BoxedPictures(Boxed):
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
        check = BoxCheck(name, "boxes are x1, y1, x2, y2 in pixels")
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


def _check_classes(labels: np.ndarray, num_classes: int, name: str) -> None:
    if labels.dtype.kind not in "iuf" or (labels % 1).any():
        raise BoxError(f"{printable(name)} has labels of dtype {labels.dtype}: give integers")
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        raise BoxError(
            f"{printable(name)} has the label {labels[wrong][0]:g}, which is no class: "
            f"{num_classes} classes are numbered 0 to {num_classes - 1}"
        )
