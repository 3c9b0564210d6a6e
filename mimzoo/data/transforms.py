"""Crops, flips and resizing; see `mimzoo.data.transform` for how they are called."""

import dataclasses
import math

import numpy as np

from mimzoo.data.images import decode_crop, opened, pixels, upright
from mimzoo.data.objects import Objects
from mimzoo.data.transform import Example

_TRIES = 10
_MAX_RESIZED = 4  # times the pixels that ResizeCrop needs at least


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Example):
    """A random part of the image, resized to a square.

    torchvision's `RandomResizedCrop`, which MAE, SimMIM and MixMIM pretrain with: up to ten times
    draw an area share from `scale` and an aspect ratio log-uniformly from `ratio`; the
    first box that fits is placed at random. If none fits, the largest central box is taken whose
    ratio lies in `ratio`.

    Args:
        size: side of the result in pixels.
        scale: least and greatest share of the image's area. MAE: (0.2, 1), SimMIM: (0.67, 1).
        ratio: least and greatest width / height.
        interpolation: "nearest", "bilinear" or "bicubic", antialiased as in Pillow.
    """

    size: int
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    draws = 2 * _TRIES + 2

    def __post_init__(self) -> None:
        _check_size(self.size)
        _resampling(self.interpolation)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be two rising shares in (0, 1], got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be two rising positive numbers, got {self.ratio}")

    @property
    def min_size(self) -> int:
        """Shrunk to this, not even the smallest crop has to be enlarged."""
        return math.ceil(
            self.size / math.sqrt(self.scale[0] * min(self.ratio[0], 1 / self.ratio[1]))
        )

    def box(self, height: int, width: int, u: np.ndarray) -> tuple[int, int, int, int]:
        """(top, left, height, width) of the crop, in pixels."""
        u = u.tolist()
        log_low, log_high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for share, shape in zip(u[0 : 2 * _TRIES : 2], u[1 : 2 * _TRIES : 2], strict=True):
            area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * share)
            aspect = math.exp(log_low + (log_high - log_low) * shape)
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(u[-2] * (height - h + 1)), int(u[-1] * (width - w + 1)), h, w
        w, h = width, height
        if width < height * self.ratio[0]:
            h = max(1, round(width / self.ratio[0]))
        elif width > height * self.ratio[1]:
            w = max(1, round(height * self.ratio[1]))
        return (height - h) // 2, (width - w) // 2, h, w

    def __call__(self, image: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(H, W, 3) and (22,) -> (size, size, 3)."""
        top, left, height, width = self.box(*image.shape[:2], u)
        crop = image[top : top + height, left : left + width]
        return _resize(crop, self.size, self.size, self.interpolation)

    def from_file(self, data: bytes, name: str, u: np.ndarray) -> np.ndarray:
        """Knows the box before decoding, and decodes no finer than it needs: `decode_crop`."""
        filter_ = _resampling(self.interpolation)
        return decode_crop(data, lambda h, w: self.box(h, w, u), self.size, filter_, name=name)


@dataclasses.dataclass(frozen=True)
class RandomFlip(Example):
    """Mirrors left and right.

    Args:
        probability: of the mirror image.
    """

    probability: float = 0.5
    draws = 1
    for_label_maps = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {self.probability}")

    def __call__(self, image: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(H, W, 3) and (1,) -> (H, W, 3)."""
        return image[:, ::-1] if u[0] < self.probability else image

    def with_boxes(
        self, image: np.ndarray, objects: Objects, u: np.ndarray
    ) -> tuple[np.ndarray, Objects]:
        """The image and its objects, both mirrored or neither."""
        if u[0] < self.probability:
            x1, y1, x2, y2 = objects.boxes.T
            width = np.float32(image.shape[1])
            objects = objects._replace(boxes=np.stack([width - x2, y1, width - x1, y2], axis=-1))
        return self(image, u), objects

    def batch(self, images: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) and (B, 1) -> (B, H, W, 3)."""
        images = np.array(images)
        flipped = u[:, 0] < self.probability
        images[flipped] = images[flipped, :, ::-1]
        return images


@dataclasses.dataclass(frozen=True)
class RandomCropPad(Example):
    """Pads on all sides and cuts out the old size at random, for images of 28 or 32 pixels.

    Args:
        padding: pixels on each side, more than 0.
        mode: "constant" (black) or "reflect" (the edge pixel is not repeated).
    """

    padding: int
    mode: str = "constant"
    draws = 2

    def __post_init__(self) -> None:
        if self.padding < 1:
            raise ValueError(f"padding must be at least 1 pixel, got {self.padding}")
        if self.mode not in ("constant", "reflect"):
            raise ValueError(f"mode must be 'constant' or 'reflect', got {self.mode!r}")

    def __call__(self, image: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(H, W, 3) and (2,) -> (H, W, 3)."""
        return self.batch(image[None], u[None])[0]

    def batch(self, images: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) and (B, 2) -> (B, H, W, 3)."""
        _, height, width, _ = images.shape
        pad = self.padding
        if self.mode == "reflect" and pad >= min(height, width):
            raise ValueError(f"cannot reflect {pad} pixels of a {height} x {width} image")
        if self.mode == "reflect":
            padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), "reflect")
        else:
            count, *_, channels = images.shape
            shape = (count, height + 2 * pad, width + 2 * pad, channels)
            padded = np.zeros(shape, images.dtype)
            padded[:, pad : pad + height, pad : pad + width] = images
        result = np.empty(images.shape, images.dtype)
        offsets = (u * (2 * pad + 1)).astype(int).tolist()
        for i, (top, left) in enumerate(offsets):
            result[i] = padded[i, top : top + height, left : left + width]
        return result


@dataclasses.dataclass(frozen=True)
class ResizeCrop(Example):
    """For evaluation: resizes the shorter side to int(size / crop_fraction), cuts the centre.

    The rule of the MAE and SimMIM evaluations, with torchvision's rounding;
    antialiased as in Pillow. For a rectangle the image is resized as little as covers it. Of an
    image that would be more than four times as large as that, only the result is resized, which
    may differ from Pillow's by a grey level.

    Args:
        size: side of the result in pixels, or (height, width).
        crop_fraction: size / the resized shorter side.
        interpolation: "nearest", "bilinear" or "bicubic".
    """

    size: int | tuple[int, int]
    crop_fraction: float = 224 / 256
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        for side in self.sides:
            _check_size(side)
        _resampling(self.interpolation)
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {self.crop_fraction}")

    def __call__(self, image: np.ndarray, u: np.ndarray | None = None) -> np.ndarray:
        """(H, W, 3) -> (size, size, 3)."""
        (top, left), (height, width) = self._place(*image.shape[:2])
        if image.shape[:2] == (height, width):
            rows, cols = self.sides
            return image[top : top + rows, left : left + cols]
        return pixels(self._cut(_picture(image)))

    def batch(self, images: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) -> (B, size, size, 3)."""
        (top, left), resized = self._place(*images.shape[1:3])
        if images.shape[1:3] != resized:
            return super().batch(images, u)
        rows, cols = self.sides
        return images[:, top : top + rows, left : left + cols]

    def from_file(self, data: bytes, name: str, u: np.ndarray) -> np.ndarray:
        """The bytes of an image file, its name in errors -> (size, size, 3), as `__call__`."""
        with opened(data, name) as image:
            return pixels(self._cut(upright(image, keep_grey=True)))

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the result."""
        rectangle = isinstance(self.size, tuple | list)
        return tuple(self.size) if rectangle else (self.size, self.size)

    @property
    def _least(self) -> tuple[int, int]:
        """Least height and width of the resized image."""
        tall, wide = (int(side / self.crop_fraction) for side in self.sides)
        return tall, wide

    def _place(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """(top, left) of the result in the resized image, and that image's (height, width)."""
        tall, wide = self._least
        if width * tall <= height * wide:
            height, width = int(wide * height / width), wide
        else:
            height, width = tall, int(tall * width / height)
        rows, cols = self.sides
        return (round((height - rows) / 2), round((width - cols) / 2)), (height, width)

    def _cut(self, image: "Image.Image") -> "Image.Image":  # noqa: F821
        (top, left), (height, width) = self._place(image.height, image.width)
        rows, cols = self.sides
        right, bottom = left + cols, top + rows
        filter_ = _resampling(self.interpolation)
        if height * width <= _MAX_RESIZED * math.prod(self._least):
            if image.size != (width, height):
                image = image.resize((width, height), filter_)
            return image.crop((left, top, right, bottom))
        # Only the result: the whole of an image of 1 x 30,000 pixels would take 6 GB. Not always,
        # as Pillow may swap its two passes, which changes pixels beside sharp edges.
        x, y = image.width / width, image.height / height
        box = left * x, top * y, min(right * x, image.width), min(bottom * y, image.height)
        return image.resize((cols, rows), filter_, box)


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a positive number of pixels, got {size!r}")


def _resampling(name: str) -> int:
    # Pillow's numbers, fixed by its API: importing it is left to the first image.
    numbers = {"nearest": 0, "bilinear": 2, "bicubic": 3}
    if name not in numbers:
        raise ValueError(f"interpolation must be one of {', '.join(numbers)}, got {name!r}")
    return numbers[name]


def _resize(image: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    return np.asarray(_picture(image).resize((width, height), _resampling(interpolation)))


def _picture(image: np.ndarray) -> "Image.Image":  # noqa: F821
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(image))
