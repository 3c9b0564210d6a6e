"""Images that their files turn, whose labels may be of the pixels as they are stored."""

import logging

import numpy as np

from mimzoo.data.ids import printable
from mimzoo.data.images import decode_image, is_turned
from mimzoo.data.sources import Source

logger = logging.getLogger("mimzoo.data")


class Upright:
    """Warns once of a source where an image is turned by its EXIF orientation.

    Args:
        labels: what the warning calls the labels.
    """

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.warned = False

    def image(self, images: Source, index: int) -> np.ndarray:
        """Image `index` of a source, upright: (H, W, 3) uint8."""
        file = images.encoded(index)
        if file is None:
            return images.image(index)
        if not self.warned and is_turned(*file):
            self.warned = True
            logger.warning(
                "%s is turned, as its EXIF orientation says, and its %s are taken as they are: "
                "they have to be of the upright image",
                printable(file[1]),
                self.labels,
            )
        return decode_image(file[0], name=file[1])
