"""Augmentation of images with label maps: (H, W, 4) uint8, the fourth number the pixel's class.

Defaults are those of mmsegmentation's ADE20K training (configs/_base_/datasets/ade20k.py).
`RandomFlip` of `mimzoo.data.transforms` works on such images as it is.
"""

import dataclasses

import numpy as np

from mimzoo.data.label_maps import IGNORED
from mimzoo.data.normalize import IMAGENET_MEAN
from mimzoo.data.objects import Objects
from mimzoo.data.transform import Example

_TRIES = 10
MEAN_COLOUR = tuple(round(255 * value) for value in IMAGENET_MEAN)
BILINEAR, _NEAREST = 2, 0  # Pillow's numbers, fixed by its API


@dataclasses.dataclass(frozen=True)
class RandomScaleCrop(Example):
    """Scales the image at random and cuts out a window at random; smaller ones are filled up.

    The image is resized bilinearly, antialiased, its label map by nearest neighbours. What is
    filled up, at the right and the bottom, has the mean colour and no class.

    Args:
        size: (height, width) of the window in pixels.
        scale: least and greatest factor, drawn uniformly.
        shorter_side: factors are of the image scaled to this; None: of the image as it is.
        max_share: up to ten windows are drawn until no class has more than this share of the pixels
            of a class, and at least two classes occur; 1: the first one is taken.
        fill: the mean colour, red, green and blue.
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    shorter_side: int | None = None
    max_share: float = 0.75
    fill: tuple[int, int, int] = MEAN_COLOUR
    draws = 1 + 2 * _TRIES
    for_label_maps = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be (height, width) in pixels, got {self.size}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two rising positive numbers, got {self.scale}")
        if not 0 < self.max_share <= 1:
            raise ValueError(f"max_share must be a share in (0, 1], got {self.max_share}")

    def __call__(self, image: np.ndarray, u: np.ndarray | None = None) -> np.ndarray:
        """(H, W, 3 or 4) and (21,) -> (height, width, 3 or 4)."""
        if u is None:  # a batch of a data set, whose label maps are elsewhere
            if image.shape[:2] != self.size:
                raise ValueError(
                    f"a batch has images of {image.shape[:2]}, the model takes {self.size}: cut "
                    "images and label maps alike, or give them in memory or as a folder"
                )
            return image
        height, width = image.shape[:2]
        factor = self.scale[0] + (self.scale[1] - self.scale[0]) * float(u[0])
        if self.shorter_side is not None:
            factor *= self.shorter_side / min(height, width)
        scaled = max(1, round(height * factor)), max(1, round(width * factor))
        dense = image.shape[-1] == 4
        window, classes = None, None
        for number in range(_TRIES):
            window = self._window(scaled, u[1 + 2 * number : 3 + 2 * number])
            if not dense:
                break
            classes = cut(image[..., 3], scaled, window, _NEAREST)
            if self.max_share == 1 or _mixed(classes, self.max_share):
                break
        result = np.empty((*self.size, image.shape[-1]), np.uint8)
        result[..., :3] = self.fill
        rows, columns = window[2:]
        result[:rows, :columns, :3] = cut(image[..., :3], scaled, window, BILINEAR)
        if dense:
            result[..., 3] = IGNORED
            result[:rows, :columns, 3] = classes
        return result

    def _window(self, scaled: tuple[int, int], u: np.ndarray) -> tuple[int, int, int, int]:
        """(top, left, height, width) in the scaled image."""
        sides = [min(pair) for pair in zip(scaled, self.size, strict=True)]
        free = [most - side + 1 for most, side in zip(scaled, sides, strict=True)]
        top, left = (int(float(share) * count) for share, count in zip(u, free, strict=True))
        return top, left, *sides


def _mixed(classes: np.ndarray, max_share: float) -> bool:
    counts = np.bincount(classes.reshape(-1), minlength=256)
    counts[IGNORED] = 0
    return np.count_nonzero(counts) > 1 and counts.max() < max_share * counts.sum()


def cut(
    image: np.ndarray, scaled: tuple[int, int], window: tuple[int, int, int, int], resampling: int
) -> np.ndarray:
    """A window of the image at another size.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        scaled: (height, width) of the resized image.
        window: (top, left, height, width) in it.
        resampling: Pillow's number of a filter.
    """
    from PIL import Image

    top, left, rows, columns = window
    if scaled == image.shape[:2]:
        return image[top : top + rows, left : left + columns]
    y, x = (old / new for old, new in zip(image.shape[:2], scaled, strict=True))
    box = (
        left * x,
        top * y,
        min((left + columns) * x, image.shape[1]),
        min((top + rows) * y, image.shape[0]),
    )
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((columns, rows), resampling, box))


@dataclasses.dataclass(frozen=True)
class Photometric(Example):
    """Changes brightness, contrast, saturation and hue, each of half of the images.

    mmsegmentation's `PhotoMetricDistortion`: contrast comes second, or last. The label map stays.

    Args:
        brightness: greatest number added to or taken from 0..255.
        contrast: least and greatest factor.
        saturation: likewise.
        hue: greatest rotation, in degrees.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0
    draws = 9
    for_label_maps = True

    def __call__(self, image: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(H, W, 3 or 4) and (9,) -> the same shape."""
        u = u.tolist()
        pixels = image[..., :3].astype(np.float32)
        if u[0] < 0.5:
            pixels = _rounded(pixels + self.brightness * (2 * u[1] - 1))
        contrast = _between(self.contrast, u[4]) if u[3] < 0.5 else None
        if contrast is not None and u[2] < 0.5:
            pixels = _rounded(pixels * contrast)
        saturation = _between(self.saturation, u[6]) if u[5] < 0.5 else None
        turn = self.hue * (2 * u[8] - 1) if u[7] < 0.5 else None
        if saturation is not None or turn is not None:
            pixels = _in_hsv(pixels, saturation, turn)
        if contrast is not None and u[2] >= 0.5:
            pixels = _rounded(pixels * contrast)
        return np.concatenate([pixels.astype(np.uint8), image[..., 3:]], axis=-1)

    def with_boxes(
        self, image: np.ndarray, objects: Objects, u: np.ndarray
    ) -> tuple[np.ndarray, Objects]:
        """(H, W, 3) of other colours; boxes stay."""
        return self(image, u), objects


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _rounded(pixels: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(pixels, 0, 255))


def _in_hsv(pixels: np.ndarray, saturation: float | None, turn: float | None) -> np.ndarray:
    from PIL import Image

    hsv = np.array(Image.fromarray(pixels.astype(np.uint8)).convert("HSV"), np.float32)
    if saturation is not None:
        hsv[..., 1] = _rounded(hsv[..., 1] * saturation)
    if turn is not None:
        hsv[..., 0] = np.rint(hsv[..., 0] + turn / 360 * 256) % 256
    turned = Image.frombytes("HSV", hsv.shape[1::-1], hsv.astype(np.uint8).tobytes())
    return np.asarray(turned.convert("RGB"), np.float32)
