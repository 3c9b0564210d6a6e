"""The objects of an image: corners and class of each.

Corners are x1, y1, x2, y2 in pixels, "xyxy" in Keras: of a box that covers the whole image
0, 0, width and height.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# What an object counts for: in training and evaluation; in training alone; in neither.
COUNTED, DIFFICULT, CROWD = 0, 1, 2
NO_OBJECT = -1


class Objects(NamedTuple):
    """The objects of an image.

    Attributes:
        boxes: (N, 4) float32 corners.
        labels: (N,) int32 classes.
        kinds: (N,) uint8: `COUNTED`; `DIFFICULT`, not counted in evaluation; `CROWD`, a group, not
            learned either.
    """

    boxes: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray

    @classmethod
    def of(cls, boxes: Any, labels: Any, kinds: Any = None) -> "Objects":
        """Objects of anything that NumPy takes; all of them counted by default."""
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        kinds = np.zeros(len(boxes)) if kinds is None else kinds
        return cls(boxes, np.asarray(labels, np.int32), np.asarray(kinds, np.uint8))

    def where(self, kept: np.ndarray) -> "Objects":
        """Those of a mask (N,) or of numbers."""
        return Objects(*(values[kept] for values in self))

    @property
    def learned(self) -> "Objects":
        """Without crowds."""
        return self.where(self.kinds != CROWD)


def clipped(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """(N, 4) boxes without what lies outside of an image."""
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def padded(objects: Sequence[Objects], count: int) -> dict[str, np.ndarray]:
    """Targets of a batch.

    Args:
        objects: of each image.
        count: N, at least as many as any image has.

    Returns:
        {"boxes": (B, N, 4) float32, "labels": (B, N) int32}, filled up with 0 and -1.
    """
    boxes = np.zeros((len(objects), count, 4), np.float32)
    labels = np.full((len(objects), count), NO_OBJECT, np.int32)
    for number, one in enumerate(objects):
        boxes[number, : len(one.boxes)] = one.boxes
        labels[number, : len(one.labels)] = one.labels
    return {"boxes": boxes, "labels": labels}
