"""From pixels to what a backbone takes."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Normalize:
    """(image / 255 - mean) / std, in float32.

    Args:
        mean: of each channel, on the scale 0..1.
        std: of each channel, on the scale 0..1.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError(f"mean and std must be three numbers each: {self!r}")
        check_statistics(self.mean, self.std)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """(..., H, W, 3) uint8 or float of 0..255 -> (..., H, W, 3) float32."""
        *front, width, channels = images.shape
        scale, shift = _scale_and_shift(self.mean, self.std, width)
        # Rows of W * 3 numbers: broadcasting along an axis of 3 would be many times slower.
        result = np.multiply(images.reshape(*front, width * channels), scale, dtype=np.float32)
        result -= shift
        return result.reshape(images.shape)


def check_statistics(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises ValueError for a mean and std that are not those of pixels in 0..1."""
    if not (all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std)):
        raise ValueError(
            f"mean and std must be those of pixels in 0..1, got {tuple(mean)} and {tuple(std)}: "
            "divide those of 0..255 by 255"
        )


@functools.lru_cache(maxsize=64)
def _scale_and_shift(mean: tuple, std: tuple, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one row of pixels, each (W * 3,) float32."""
    divisor = 255.0 * np.array(std)
    numbers = 1 / divisor, 255.0 * np.array(mean) / divisor
    scale, shift = (np.tile(x, width).astype(np.float32) for x in numbers)
    scale.flags.writeable = shift.flags.writeable = False
    return scale, shift
