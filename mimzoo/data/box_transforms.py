"""Augmentation of images with boxes; `RandomFlip` and `Photometric` keep boxes as well.

What leaves the result of a crop is cut off its box. A box of which less than a pixel remains, in
width or height, is dropped; that limit is ours.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from mimzoo.data.label_transforms import BILINEAR, MEAN_COLOUR, cut
from mimzoo.data.objects import Objects, clipped
from mimzoo.data.transform import Example

MIN_SIDE = 1.0


class Place(NamedTuple):
    """Where an image lies in a result.

    Attributes:
        scaled: (height, width) of the resized image.
        window: (top, left, height, width) in it of what is shown, at the result's upper left.
    """

    scaled: tuple[int, int]
    window: tuple[int, int, int, int]


class _Placed(Example):
    """What resizes an image, keeping its shape, and shows a window of it in a result."""

    size: tuple[int, int]
    fill: tuple[int, int, int]

    def place(self, height: int, width: int, u: np.ndarray) -> Place:
        """Where an image of (height, width) lies, for (draws,) numbers."""
        raise NotImplementedError

    def __call__(self, image: np.ndarray, u: np.ndarray | None = None) -> np.ndarray:
        """(H, W, 3) uint8 and (draws,) -> (height, width, 3) uint8."""
        scaled, window = self.place(*image.shape[:2], u)
        result = np.empty((*self.size, 3), np.uint8)
        result[:] = self.fill
        result[: window[2], : window[3]] = cut(image, scaled, window, BILINEAR)
        return result

    def with_boxes(
        self, image: np.ndarray, objects: Objects, u: np.ndarray
    ) -> tuple[np.ndarray, Objects]:
        """(H, W, 3), its objects and (draws,) -> (height, width, 3) and the objects in it."""
        height, width = image.shape[:2]
        (tall, wide), (top, left, rows, columns) = self.place(height, width, u)
        factors = np.array([wide / width, tall / height] * 2, np.float32)
        offsets = np.array([left, top] * 2, np.float32)
        boxes = clipped(objects.boxes * factors - offsets, rows, columns)
        kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1)
        return self(image, u), objects._replace(boxes=boxes).where(kept)


def _check(size: tuple[int, int]) -> tuple[int, int]:
    size = tuple(size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be (height, width) in pixels, got {size}")
    return size


def _fitted(height: int, width: int, size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) of an image, resized to fit into `factor` times the size."""
    factor *= min(size[0] / height, size[1] / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


@dataclasses.dataclass(frozen=True)
class ScaleJitter(_Placed):
    """Large-scale jitter: resizes an image at random, cuts out a window or fills it up.

    An image, its boxes likewise, is resized to fit into the window times a factor, keeping its
    shape, bilinearly and antialiased; if that is larger than the window, a part of the window's
    size is cut out at random; if it is smaller, the window is filled up at the right and the
    bottom. As ViTDet has it (detectron2 projects/ViTDet/configs/common/coco_loader_lsj.py), which
    fills up with grey.

    Args:
        size: (height, width) of the window in pixels.
        scale: least and greatest factor, drawn uniformly. ViTDet: 0.1 to 2 at 1,024 pixels.
        fill: colour of what is filled up, red, green and blue. Default: ImageNet's mean.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.1, 2.0)
    fill: tuple[int, int, int] = MEAN_COLOUR
    draws = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _check(self.size))
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two rising positive numbers, got {self.scale}")

    def place(self, height: int, width: int, u: np.ndarray) -> Place:
        """Where an image of (height, width) lies, for (3,) numbers: scale, top and left."""
        factor = self.scale[0] + (self.scale[1] - self.scale[0]) * float(u[0])
        scaled = _fitted(height, width, self.size, factor)
        sides = [min(pair) for pair in zip(scaled, self.size, strict=True)]
        free = [most - side + 1 for most, side in zip(scaled, sides, strict=True)]
        top, left = (int(float(share) * count) for share, count in zip(u[1:], free, strict=True))
        return Place(scaled, (top, left, *sides))


@dataclasses.dataclass(frozen=True)
class ResizePad(_Placed):
    """For evaluation: resizes an image to fit into the size, fills up at the right and bottom.

    Args:
        size: (height, width) of the result in pixels.
        fill: colour of what is filled up, red, green and blue. Default: ImageNet's mean.
    """

    size: tuple[int, int]
    fill: tuple[int, int, int] = MEAN_COLOUR

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _check(self.size))

    def place(self, height: int, width: int, u: np.ndarray | None = None) -> Place:
        """Where an image of (height, width) lies."""
        scaled = _fitted(height, width, self.size, 1)
        return Place(scaled, (0, 0, *scaled))

    def undo(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes (N, 4) of a result -> in an image of (height, width), clipped to it, float32."""
        tall, wide = self.place(height, width).scaled
        boxes = np.asarray(boxes, np.float32) * np.array([width / wide, height / tall] * 2)
        return clipped(boxes, height, width).astype(np.float32)
