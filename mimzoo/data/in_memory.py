"""Images that lie in memory and are not one uint8 array."""

from collections.abc import Sequence

import numpy as np

from mimzoo.data.fingerprint import hash_array, hash_parts
from mimzoo.data.pixels import ValueRange, rgb_images
from mimzoo.data.sources import Source


class ListSource(Source):
    """Images of any size, in a list.

    Args:
        images: (H, W) or (H, W, 1 or 3) each, arrays or Pillow's; see `rgb_images`.
        value_range: (low, high) of floats; default: inferred from all of them.
        name: what messages call the source.
    """

    def __init__(
        self, images: Sequence, value_range: ValueRange | None = None, name: str = "list"
    ) -> None:
        super().__init__(name)
        self._images = rgb_images(list(images), value_range)

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, 3) uint8."""
        return self._images[index]

    def fingerprint(self) -> str:
        """Of shape and bytes of each image."""
        return hash_parts("list", *map(hash_array, self._images))


class ReadySource(Source):
    """Arrays that are given to a model as they are, row by row.

    Args:
        images: (N, H, W, C), as the backbone takes them.
        name: what messages call the source.
    """

    def __init__(self, images: np.ndarray, name: str = "array") -> None:
        super().__init__(name)
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int, min_size: int | None = None) -> np.ndarray:
        """Image `index`: (H, W, C)."""
        return self.images[index]

    def fingerprint(self) -> str:
        """Of shape, type and bytes (sampled beyond 256 MB) of the images."""
        return hash_parts("ready", hash_array(self.images))
