"""One rule for the values of images, wherever they come from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mimzoo.data.images import pixels, to_rgb, upright

ValueRange = tuple[float, float]
# What floats may exceed their range by, as a share of it: augmentation in float32 rounds.
ROUNDING = 1e-5


def rgb_images(images: Any, value_range: ValueRange | None = None) -> Any:
    """Images as uint8 RGB; see `to_rgb` for shapes and for integers.

    Floats are 0..1 if none of them exceeds 1, else 0..255. A whole collection is read by one rule,
    so that a black image among bright ones stays black.

    Args:
        images: (N, H, W) or (N, H, W, 1 or 3), or a list of images (H, W) or (H, W, 1 or 3), arrays
            or Pillow's, of any size.
        value_range: (low, high) of floats. Default: inferred as above.

    Returns:
        (N, H, W, 3) uint8, or a list of (H, W, 3) uint8.

    Raises:
        ValueError: another shape, or values that are not finite or outside their range.
    """
    if isinstance(images, list | tuple):
        # Pillow's as from a file: a palette's numbers are no greys.
        arrays = [
            pixels(upright(image.copy())) if hasattr(image, "getbands") else np.asarray(image)
            for image in images
        ]
        scale = value_range or infer_range(arrays)
        return [to_rgb(_scaled(_image(array, 3), scale)) for array in arrays]
    array = np.asarray(images)
    if array.ndim < 3 or (array.ndim == 3 and array.shape[-1] in (1, 3)):
        raise ValueError(
            f"images must have the shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), got {array.shape}"
        )
    return to_rgb(_scaled(_image(array, 4), value_range or infer_range([array])))


def infer_range(arrays: Sequence[np.ndarray]) -> ValueRange:
    """(0, 1) or (0, 255), of floats; see `rgb_images`.

    Raises:
        ValueError: values that are not finite, or in neither range.
    """
    floats = [a for a in arrays if a.dtype.kind == "f" and a.size]
    if not floats:
        return 0.0, 255.0
    # NumPy's own, which keep what is not a number.
    low, high = np.min([a.min() for a in floats]), np.max([a.max() for a in floats])
    _check_finite(low, high)
    if low < -ROUNDING * 255 or high > (1 + ROUNDING) * 255:
        raise ValueError(
            f"images of floats from {low:g} to {high:g} are neither 0..1 nor 0..255: give their "
            f"range, ImageConverter(value_range=({low:g}, {high:g}))"
        )
    return (0.0, 1.0) if high <= 1 + ROUNDING else (0.0, 255.0)


def _check_finite(low: float, high: float) -> None:
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("images hold values that are not finite (NaN or infinity): remove them")


def _image(array: np.ndarray, axes: int) -> np.ndarray:
    """The array, unless channels, if it has so many axes, are first or of another number."""
    if array.ndim == axes and array.shape[-1] not in (1, 3):
        if array.shape[-3] in (1, 3):
            raise ValueError(
                f"images of shape {array.shape} have their channels first: transpose them to "
                "(…, H, W, C)"
            )
        if axes == 3:
            raise ValueError(
                f"an image of a list has the shape (H, W), (H, W, 1) or (H, W, 3), and one is "
                f"{array.shape}: convert others, such as RGBA, to RGB; batches of grey images "
                "have the shape (N, H, W, 1)."
            )
    return array


def _scaled(array: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Floats of a range as uint8; anything else as it is."""
    if array.dtype.kind != "f":
        return array
    low, high = value_range
    if array.size:
        _check_finite(array.min(), array.max())
    slack = ROUNDING * (high - low)
    if array.size and not (array.min() >= low - slack and array.max() <= high + slack):
        raise ValueError(
            f"images of floats from {array.min():g} to {array.max():g} lie outside of their range "
            f"{low:g}..{high:g}: give the right one, ImageConverter(value_range=…)"
        )
    scaled = np.rint((array.astype(np.float32) - low) * (255 / (high - low)))
    return np.clip(scaled, 0, 255).astype(np.uint8)
