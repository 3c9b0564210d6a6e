"""From an image file, or an array of any usual kind, to uint8 RGB."""

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator

import numpy as np

from mimzoo.data.formats import decoders, unreadable
from mimzoo.data.ids import printable
from mimzoo.data.open_files import open_regular

MAX_FILE_BYTES = 2**31  # more than Pillow's largest image has
STRIP_PIXELS = 2**22  # that are converted at once
_ORIENTATION = 0x0112


class ImageError(ValueError):
    """An image that cannot be read. The message has its name and the reason."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def decode_image(
    data: bytes | str | os.PathLike, *, name: str | None = None, min_size: int | None = None
) -> np.ndarray:
    """Decodes one image file to RGB, upright.

    Greyscale is repeated, transparency (RGBA, LA, palette) is laid over white, CMYK is converted,
    16-bit values are divided by 257, float values are read as 0..1 (as 0..255 if any exceeds 1),
    the EXIF orientation is applied, and of an animation the first frame is taken. Pillow's
    guard against decompression bombs is left on.

    Args:
        data: the bytes of a file, or its path.
        name: what an error calls the image; the path if there is one.
        min_size: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as both
            sides keep at least this many pixels. Much faster for large photographs.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: the file is missing, empty, truncated, too large or no image.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        name, data = name or os.fspath(data), read_file(data, name)
    with opened(data, name or "image") as image:
        if min_size is not None:
            image.draft(None, (min_size, min_size))
        return np.array(upright(image))


def decode_crop(
    data: bytes,
    box: Callable[[int, int], tuple[int, int, int, int]],
    size: int,
    resampling: int,
    *,
    name: str = "image",
) -> np.ndarray:
    """Decodes one image file, cuts out a box and resizes it to a square.

    The pixels are those of `decode_image`, cut and resized by Pillow, bit for bit, unless the box
    of a JPEG has two, four or eight times `size` on both sides: then it is decoded at that part of
    its size, which is several times faster and averages the pixels that resizing would have
    averaged. Of photographs the result differs by one to two grey levels of 255 in the mean, as
    much as bilinear differs from bicubic resizing.

    Args:
        data: the bytes of a file.
        box: (height, width) of the upright image -> (top, left, height, width) of the box.
        size: side of the result.
        resampling: Pillow's number of a filter.
        name: what an error calls the image.

    Returns:
        (size, size, 3) uint8, which cannot be written to.

    Raises:
        ImageError: as `decode_image`.
    """
    with opened(data, name) as image:
        factor, found = 1, None
        if image.format in ("JPEG", "MPO"):
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):
                width, height = height, width
            found = box(height, width)
            least = min(found[2:])
            factor = next((f for f in (8, 4, 2) if least >= f * size), 1)
            if factor > 1:
                image.draft(None, (image.width // factor, image.height // factor))
        image = upright(image, keep_grey=True)
        top, left, height, width = found or box(image.height, image.width)
        left, top, right, bottom = (
            edge / factor for edge in (left, top, left + width, top + height)
        )
        # Cut first: Pillow's resize(box=...) mixes in what lies outside of the box.
        x, y = int(left), int(top)
        end = min(image.width, math.ceil(right)), min(image.height, math.ceil(bottom))
        part = image.crop((x, y, *end))
        inside = (left - x, top - y, min(right - x, part.width), min(bottom - y, part.height))
        return pixels(part.resize((size, size), resampling, inside))


def is_turned(data: bytes, name: str) -> bool:
    """Whether a file says that its image is to be turned or mirrored (EXIF)."""
    with opened(data, name) as image:
        return image.getexif().get(_ORIENTATION, 1) != 1


def pixels(image: "Image.Image") -> np.ndarray:  # noqa: F821
    """(H, W, 3) uint8 of an image in mode RGB or L, which cannot be written to."""
    # Not np.asarray, which takes Pillow three times as long.
    return to_rgb(np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1))


def read_file(path: str | os.PathLike, name: str | None = None) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: there is none, it cannot be read, or has more than `MAX_FILE_BYTES`.
    """
    name = name or os.fspath(path)
    try:
        with open_regular(path) as file:
            check_size(os.fstat(file.fileno()).st_size, name)
            return file.read()
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or error}") from error


def check_size(size: int, name: str) -> None:
    """Raises ImageError if an image's file has more than `MAX_FILE_BYTES`."""
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{name}: the file has {size} bytes, more than any image that is read")


@contextlib.contextmanager
def opened(data: bytes, name: str) -> "Iterator[Image.Image]":  # noqa: F821
    """The image before it is decoded; whatever goes wrong becomes an `ImageError`.

    Args:
        data: the bytes of a file.
        name: what the error calls the image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if not len(data):
            raise ImageError(f"{name}: the file is empty")
        with Image.open(io.BytesIO(data), formats=decoders()) as image:
            # In one piece: by default the decoder gets 64 KB at a time.
            image.decodermaxblock = max(len(data), 65536)
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        reason = unreadable(name) or "not an image in a format that Pillow reads"
        raise ImageError(f"{name}: {reason}") from None
    # Broken files make Pillow's decoders raise nearly anything.
    except Exception as error:
        raise ImageError(f"{name}: {error or type(error).__name__}") from error


def upright(image: "Image.Image", keep_grey: bool = False) -> "Image.Image":  # noqa: F821
    """Decodes and turns; mode RGB, or with `keep_grey` L where the file has no colours."""
    from PIL import ImageOps

    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    transparent = "transparency" in image.info
    if not transparent and (image.mode == "RGB" or (keep_grey and image.mode == "L")):
        return image
    if image.mode[0] in "IF":
        grey = _in_strips(image, "L", _to_grey(image))
        return grey if keep_grey else grey.convert("RGB")
    if transparent or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return _in_strips(image, "RGB", _over_white)
    return image.convert("RGB")


def _strips(image: "Image.Image") -> "Iterator[tuple[int, Image.Image]]":  # noqa: F821
    """(first row, part) of an image, from top to bottom."""
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _in_strips(
    image: "Image.Image",  # noqa: F821
    mode: str,
    convert: "Callable[[Image.Image], Image.Image]",  # noqa: F821
) -> "Image.Image":  # noqa: F821
    """An image, converted strip by strip: several copies of a large one would take gigabytes."""
    from PIL import Image

    made = Image.new(mode, image.size)
    for top, part in _strips(image):
        made.paste(convert(part), (0, top))
    return made


def _over_white(image: "Image.Image") -> "Image.Image":  # noqa: F821
    from PIL import Image

    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _to_grey(image: "Image.Image") -> "Callable[[Image.Image], Image.Image]":  # noqa: F821
    """What makes 8 bits of the strips of an image with 16 bits, or of floats."""
    from PIL import Image

    # Pillow before 11.1 opens 16-bit greyscale PNG files as mode "I", which TIFF has for 32 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format != "TIFF"):
        return lambda part: Image.fromarray(
            _to_uint8(np.clip(np.asarray(part), 0, 65535).astype(np.uint16))
        )
    ends = [(values.min(), values.max()) for _, p in _strips(image) for values in [np.asarray(p)]]
    low, high = np.min(ends), np.max(ends)  # no number if one is
    _check_range(low, high)
    scale = 255 if high <= 1 and image.mode == "F" else 1
    return lambda part: Image.fromarray(np.rint(np.asarray(part) * scale).astype(np.uint8))


def to_rgb(array: np.ndarray) -> np.ndarray:
    """Turns arrays of images into uint8 RGB.

    Args:
        array: (H, W), (N, H, W), or either with a last axis of 1 or 3 channels. An array whose
            last axis is 1 or 3 is read as channels last. uint8 is kept, uint16 is divided by
            257, bool becomes 0 and 255, other integers must lie in 0..255, floats in 0..1 are
            multiplied by 255 and floats up to 255 rounded.

    Returns:
        (H, W, 3) or (N, H, W, 3) uint8. Greyscale comes back as a read-only view that repeats
        the one channel and takes no memory.

    Raises:
        ValueError: another shape, or values outside the range.
    """
    array = np.asarray(array)
    has_channels = array.ndim >= 3 and array.shape[-1] in (1, 3)
    if array.ndim - has_channels not in (2, 3):
        raise ValueError(
            "images must have shape (H, W), (N, H, W), (H, W, C) or (N, H, W, C) with C 1 or 3, "
            f"got {array.shape}: convert others, such as RGBA, to RGB"
        )
    array = _to_uint8(array)
    if not has_channels:
        array = array[..., None]
    if array.shape[-1] == 1:
        array = np.broadcast_to(array, (*array.shape[:-1], 3))
    return array


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"images must be numbers, got dtype {array.dtype}")
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = array.min(), array.max()
    _check_range(low, high)
    if array.dtype.kind == "f":
        array = np.rint(array * 255 if high <= 1 else array)
    return array.astype(np.uint8)


def _check_range(low: float, high: float) -> None:
    if not (low >= 0 and high <= 255):
        raise ValueError(
            f"image values must lie in 0..255 (floats in 0..1 or 0..255), got {low} to {high}"
        )
