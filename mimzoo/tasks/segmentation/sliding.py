"""Prediction of images of any size by windows that overlap."""

from collections.abc import Callable, Iterator

import numpy as np

Forward = Callable[[np.ndarray], np.ndarray]
_ROWS = 64  # of pixels, that are resized at a time


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along an axis: every `stride`, the last one flush with the end."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def bands(
    images: np.ndarray,
    forward: Forward,
    window: tuple[int, int],
    stride: tuple[int, int],
    batch_size: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Logits of images, the mean over all windows that see a pixel.

    Windows are computed row by row of windows, and rows of pixels are given as soon as no later
    window sees them. So memory holds the logits of one row of windows, whatever the height.
    mmsegmentation's rule for "slide" (segmentors/encoder_decoder.py); images smaller than a window
    are filled up with zeros, which is the mean colour.

    Args:
        images: (B, H, W, C) as the model takes them, of any size.
        forward: (N, h, w, C) -> logits (N, h, w, classes) of windows.
        window: (h, w) in pixels.
        stride: between two windows, in pixels, at most a window.
        batch_size: windows in a call of `forward`, at most.

    Yields:
        The number of the first row, and logits (B, rows, W, classes) float32.
    """
    count, height, width, _ = images.shape
    tall, wide = window
    images = _filled(images, tall, wide)
    lefts = starts(width, wide, stride[1])
    tops = starts(height, tall, stride[0])
    sums, seen = None, np.zeros((images.shape[1], images.shape[2], 1), np.float32)
    for top in tops:
        for left in lefts:
            seen[top : top + tall, left : left + wide] += 1
    for place, top in enumerate(tops):
        cuts = [images[:, top : top + tall, left : left + wide] for left in lefts]
        band = None
        for number, logits in enumerate(one_by_one(np.concatenate(cuts), forward, batch_size)):
            if band is None:
                band = np.zeros((count, tall, images.shape[2], logits.shape[-1]), np.float32)
            left = lefts[number // count]
            band[number % count, :, left : left + wide] += logits
        if sums is not None:  # what the row of windows above saw, too
            band[:, : sums.shape[1]] += sums
        end = tops[place + 1] if place + 1 < len(tops) else min(top + tall, height)
        yield top, (band[:, : end - top] / seen[top:end])[:, :, :width]
        sums = band[:, end - top :].copy()


def one_by_one(windows: np.ndarray, forward: Forward, batch_size: int) -> Iterator[np.ndarray]:
    """Logits (h, w, classes) of each window of (N, h, w, C).

    `forward` gets as many in every call, so that a step is compiled once.
    """
    batch_size = min(batch_size, len(windows))
    for first in range(0, len(windows), batch_size):
        part = windows[first : first + batch_size]
        missing = batch_size - len(part)
        filled = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
        yield from np.asarray(forward(filled))[: len(part)]


def _filled(images: np.ndarray, tall: int, wide: int) -> np.ndarray:
    _, height, width, _ = images.shape
    if height >= tall and width >= wide:
        return images
    more = (0, max(tall - height, 0)), (0, max(wide - width, 0))
    return np.pad(images, ((0, 0), *more, (0, 0)))


def upscaled(logits: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Logits (B, h, w, classes) at another size, some rows at a time.

    Bilinear with pixel centres aligned and edges repeated, as torch resizes without antialiasing.

    Yields:
        The number of the first row, and logits (B, rows, W, classes) float32.
    """
    rows, columns = (
        _bilinear_matrix(old, new) for old, new in zip(logits.shape[1:3], size, strict=True)
    )
    wide = np.einsum("cw,bhwk->bhck", columns, logits, optimize=True)
    for first in range(0, size[0], _ROWS):
        part = np.einsum("rh,bhck->brck", rows[first : first + _ROWS], wide, optimize=True)
        yield first, part


def _bilinear_matrix(old: int, new: int) -> np.ndarray:
    """(new, old) float32 weights of linear interpolation along an axis."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(place.astype(int), max(old - 2, 0))
    matrix = np.zeros((new, old), np.float32)
    matrix[np.arange(new), low] = 1 - (place - low)
    matrix[np.arange(new), np.minimum(low + 1, old - 1)] += place - low
    return matrix
