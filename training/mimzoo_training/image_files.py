"""The images that a command line names: files, and folders of them."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mimzoo.data.formats import is_image_name
from mimzoo.data.ids import printable
from mimzoo.data.images import ImageError, decode_image
from mimzoo.data.listing import list_files

# Images at a time, and bytes of them, after which no more are read.
CHUNK, CHUNK_BYTES = 64, 2**28


def read_images(paths: Sequence[str]) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Decodes images; those that cannot be read are skipped, and named on stderr at the end.

    Args:
        paths: of image files, and of folders, in which images are found recursively.

    Yields:
        Paths of up to 64 images, and the images: (H, W, 3) uint8 each.

    Raises:
        ValueError: no image can be read, a folder cannot, or there is no such file.
    """
    absent = [path for path in paths if not os.path.lexists(path)]
    if absent:
        raise ValueError(f"{printable(absent[0])}: no such file or folder")
    found, skipped = 0, []
    names: list[str] = []
    images: list[np.ndarray] = []
    for path in _files(paths):
        try:
            images.append(decode_image(path))
            names.append(path)
        except ImageError as error:
            skipped.append(str(error))
        if len(images) == CHUNK or sum(image.nbytes for image in images) > CHUNK_BYTES:
            yield names, images
            found += len(images)
            names, images = [], []
    if images:
        yield names, images
    elif not found and len(skipped) == 1:
        raise ValueError(skipped[0])
    elif not found:
        places = ", ".join(map(printable, paths))
        why = f"{len(skipped)} cannot be read, such as {skipped[0]}" if skipped else "there is none"
        raise ValueError(f"no image at {places} can be used: {why}")
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)


def _files(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if os.path.isdir(path):
            yield from (os.path.join(path, n) for n in list_files(path)[0] if is_image_name(n))
        else:
            yield path
