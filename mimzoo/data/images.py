"""From an image file, or an array of any usual kind, to uint8 RGB."""

import io
import os

import numpy as np

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageError(ValueError):
    """An image that cannot be read. The message has its name and the reason."""


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
    from PIL import Image, ImageOps, UnidentifiedImageError

    in_memory = isinstance(data, bytes | bytearray | memoryview)
    name = name or ("image" if in_memory else os.fspath(data))
    try:
        if not in_memory:
            with open(data, "rb") as file:
                data = file.read()
        if not data:
            raise ImageError(f"{name}: the file is empty")
        with Image.open(io.BytesIO(data)) as image:
            if min_size is not None:
                image.draft(None, (min_size, min_size))
            image.load()
            image = ImageOps.exif_transpose(image)
            return _pixels(image)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a format that Pillow reads") from None
    # Broken files make Pillow's decoders raise nearly anything.
    except Exception as error:
        raise ImageError(f"{name}: {error or type(error).__name__}") from error


def _pixels(image: "Image.Image") -> np.ndarray:  # noqa: F821
    from PIL import Image

    # Pillow before 11.1 opens 16-bit greyscale PNG files as mode "I".
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return to_rgb(np.clip(values, 0, 65535).astype(np.uint16))
    if image.mode == "F":
        return to_rgb(np.asarray(image))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


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
            f"got {array.shape}"
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
    if not (low >= 0 and high <= 255):
        raise ValueError(
            f"image values must lie in 0..255 (floats in 0..1 or 0..255), got {low} to {high}"
        )
    if array.dtype.kind == "f":
        array = np.rint(array * 255 if high <= 1 else array)
    return array.astype(np.uint8)
