"""What a transform is: something that follows from given random numbers, and from nothing else.

A transform is a frozen dataclass, so that its repr records it. It is called with one image
(H, W, 3) uint8 and `u`, the `draws` uniform numbers of that example, which the loader takes from
`mimzoo.data.random.uniform(seed, epoch, index, draws, stream="augment")`. `batch` does the same
to (B, H, W, 3) images of one size with `u` (B, draws). One with `for_label_maps = True` also takes
images with a label map, (H, W, 4); others are refused for them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mimzoo.data.images import decode_image
from mimzoo.data.objects import Objects


class Transform(Protocol):
    """What the loader asks of a transform; `Example` gives all but `__call__`."""

    draws: int
    min_size: int | None

    def __call__(self, image: np.ndarray, u: np.ndarray) -> np.ndarray:
        """One (H, W, 3) uint8 image and its (draws,) numbers -> (H', W', 3) uint8."""

    def batch(self, images: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 and (B, draws) -> (B, H', W', 3) uint8."""

    def from_file(self, data: bytes, name: str, u: np.ndarray) -> np.ndarray:
        """One image file and its (draws,) numbers -> (H', W', 3) uint8."""


class Example:
    """Base of transforms that work image by image.

    `draws` is how many uniform numbers an image takes. `min_size` is the least side that a
    decoder may shrink a large photograph to without the transform losing detail; None forbids.
    `for_label_maps`: whether the fourth number of (H, W, 4) images stays the class of the pixel.
    """

    draws = 0
    min_size: int | None = None
    for_label_maps = False

    def batch(self, images: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 images and (B, draws) numbers -> (B, H', W', 3) uint8."""
        return np.stack([self(image, row) for image, row in zip(images, u, strict=True)])

    def from_file(self, data: bytes, name: str, u: np.ndarray) -> np.ndarray:
        """The bytes of an image file, its name in errors, (draws,) -> (H', W', 3) uint8."""
        return self(decode_image(data, name=name, min_size=self.min_size), u)

    def with_boxes(
        self, image: np.ndarray, objects: Objects, u: np.ndarray
    ) -> tuple[np.ndarray, Objects]:
        """(H, W, 3) uint8, its objects and (draws,) -> (H', W', 3) uint8 and the objects there.

        Raises:
            ValueError: the transform has no rule for boxes.
        """
        raise ValueError(boxes_left_behind(self))


def boxes_left_behind(transform: object) -> str:
    """The error of a transform that moves pixels and no boxes."""
    return (
        f"{type(transform).__name__} does not move boxes with the pixels: use ScaleJitter, "
        "ResizePad, RandomFlip and Photometric"
    )


def check_for_label_maps(transform: object) -> None:
    """Raises ValueError for a transform without a rule for label maps, also inside of a Compose."""
    if isinstance(transform, Compose):
        for one in transform.transforms:
            check_for_label_maps(one)
    elif not getattr(transform, "for_label_maps", False):
        raise ValueError(
            f"{type(transform).__name__} has no rule for label maps: use RandomScaleCrop, "
            "RandomFlip and Photometric, or set for_label_maps = True in a transform of your own "
            "that keeps image[..., 3] the class of each pixel"
        )


@dataclasses.dataclass(frozen=True)
class Compose(Example):
    """Transforms in a row.

    Args:
        transforms: the first is applied first.
    """

    transforms: Sequence[Transform]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))

    @property
    def draws(self) -> int:
        """The sum of what the transforms draw."""
        return sum(transform.draws for transform in self.transforms)

    @property
    def min_size(self) -> int | None:
        """That of the first transform, which alone sees the decoded image."""
        return self.transforms[0].min_size if self.transforms else None

    def __call__(self, image: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(H, W, 3) and (draws,) -> (H', W', 3)."""
        for transform in self.transforms:
            image = transform(image, u[: transform.draws])
            u = u[transform.draws :]
        return image

    def from_file(self, data: bytes, name: str, u: np.ndarray) -> np.ndarray:
        """The first transform may spare itself a part of the decoding."""
        if not self.transforms or not hasattr(self.transforms[0], "from_file"):
            return super().from_file(data, name, u)
        first, *others = self.transforms
        image = first.from_file(data, name, u[: first.draws])
        return Compose(others)(image, u[first.draws :])

    def with_boxes(
        self, image: np.ndarray, objects: Objects, u: np.ndarray
    ) -> tuple[np.ndarray, Objects]:
        """Each moves the boxes of the one before."""
        for transform in self.transforms:
            if not hasattr(transform, "with_boxes"):
                raise ValueError(boxes_left_behind(transform))
            image, objects = transform.with_boxes(image, objects, u[: transform.draws])
            u = u[transform.draws :]
        return image, objects

    def batch(self, images: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) and (B, draws) -> (B, H', W', 3)."""
        for transform in self.transforms:
            images = transform.batch(images, u[:, : transform.draws])
            u = u[:, transform.draws :]
        return images
