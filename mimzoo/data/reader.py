"""Reading examples from a source where some files may be broken."""

import logging
import threading
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mimzoo.data.images import ImageError
from mimzoo.data.objects import Objects
from mimzoo.data.sources import Source
from mimzoo.data.transform import Transform

# Its own, since what it says concerns one image each: the command line counts them.
logger = logging.getLogger("mimzoo.data.reader")

# Fewer corrupt files than this never stop a run, however small the share is set.
MIN_CORRUPT = 5


class Boxed(NamedTuple):
    """An image (H, W, 3) and the objects in it."""

    image: np.ndarray
    objects: Objects


Image = np.ndarray | Boxed


class TooManyCorruptError(ValueError):
    """So many images cannot be read that continuing makes no sense."""


class Reader:
    """Reads and transforms examples, and puts the next readable one in place of a corrupt one.

    The replacement of example i is the first of i+1, i+2, ... (from the last to 0) that can be
    read: a rule that knows no chance and no order of reading. It gets the augmentation that i
    would have had. Safe to use from threads.

    Args:
        source: where examples come from.
        max_corrupt: the greatest share of corrupt examples among those tried so far; 0: none at
            all, not even one.
        transform: of each image, see `mimzoo.data.transform.Transform`.
        label_maps: whether label maps stay beside their images, where a source has them.

    Raises:
        TooManyCorruptError: the source itself already lacks more than `max_corrupt`.
    """

    def __init__(
        self,
        source: Source,
        max_corrupt: float,
        transform: Transform | None = None,
        label_maps: bool = True,
    ) -> None:
        self.source = source
        self.max_corrupt = max_corrupt
        self.transform = transform
        self.label_maps = label_maps
        self.min_size = getattr(transform, "min_size", None)
        self.corrupt: dict[int, str] = {}
        # One bit for each example: sources may have a hundred million.
        self._tried = np.zeros((len(source) + 7) // 8, np.uint8)
        self._num_tried = 0
        self._lock = threading.Lock()
        if source.damage and source.damage.share > max_corrupt:
            raise TooManyCorruptError(
                f"{source.damage}: more than max_corrupt={max_corrupt:g} allows; "
                f"{source.damage.remedy}, or raise max_corrupt to continue without"
            )

    def fetch(self, indices: Iterable[int], u: np.ndarray) -> list[tuple[int, Image]]:
        """Numbers and transformed images of these examples, or of what stands in for them.

        Images of a source with boxes are `Boxed`.

        Args:
            indices: (B,) numbers of examples.
            u: (B, draws) uniform numbers for the transform.

        Raises:
            TooManyCorruptError: at least five (or all) and more than the share are corrupt, or
                one where none may be.
        """
        return [self._read(int(index), row) for index, row in zip(indices, u, strict=True)]

    def _read(self, index: int, u: np.ndarray) -> tuple[int, Image]:
        count = len(self.source)
        for number in range(count):
            candidate = (index + number) % count
            if candidate in self.corrupt:
                continue
            try:
                image = self._image(candidate, u)
            except ImageError as error:
                self._note(candidate, str(error))
            else:
                with self._lock:
                    self._count(candidate)
                return candidate, image
        raise TooManyCorruptError(
            f"none of the {count} images in {self.source.name} can be read: {self._first(1)}"
        )

    def _image(self, index: int, u: np.ndarray) -> Image:
        if hasattr(self.transform, "from_file"):
            file = self.source.encoded(index)
            if file is not None:
                return self.transform.from_file(*file, u)
        example = self.source.fetch([index], self.min_size)[0]
        image = example["image"]
        if self.source.dense and not self.label_maps:
            image = image[..., :3]
        if not self.source.boxed:
            return image if self.transform is None else self.transform(image, u)
        objects = example["objects"].learned
        if self.transform is None:
            return Boxed(image, objects)
        return Boxed(*self.transform.with_boxes(image, objects, u))

    def _count(self, index: int) -> None:
        byte, bit = index >> 3, 1 << (index & 7)
        if not self._tried[byte] & bit:
            self._tried[byte] |= bit
            self._num_tried += 1

    def _note(self, index: int, reason: str) -> None:
        with self._lock:
            self._count(index)
            if index in self.corrupt:
                return
            self.corrupt[index] = reason
            bad, tried = len(self.corrupt), self._num_tried
        if self.max_corrupt == 0:
            raise TooManyCorruptError(
                f"{reason}. Another image in its place would be a wrong result here: repair or "
                "remove it (max_corrupt=0 allows none)"
            )
        logger.warning("corrupt image, the next one is taken instead: %s", reason)
        count = len(self.source)
        if bad == tried and bad >= min(MIN_CORRUPT, count):
            raise TooManyCorruptError(
                f"none of the {count} images in {self.source.name} can be read, as far as "
                f"{bad} were tried: {self._first(1)}"
            )
        if bad >= MIN_CORRUPT and bad > self.max_corrupt * tried:
            raise TooManyCorruptError(
                f"{bad} of the {tried} images read so far from {self.source.name} are corrupt, "
                f"more than max_corrupt={self.max_corrupt:g} allows: {self._first(3)}"
            )

    def _first(self, count: int) -> str:
        reasons = [self.corrupt[index] for index in sorted(self.corrupt)[:count]]
        return "; ".join(reasons)
