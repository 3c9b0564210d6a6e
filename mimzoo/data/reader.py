"""Reading examples from a source where some files may be broken."""

import logging
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from mimzoo.data.images import ImageError
from mimzoo.data.sources import Source

logger = logging.getLogger("mimzoo.data")

# Fewer corrupt files than this never stop a run, however small the share is set.
MIN_CORRUPT = 5


class TooManyCorruptError(ValueError):
    """So many images cannot be read that going on makes no sense."""


class Reader:
    """Fetches examples and puts the next readable example in place of a corrupt one.

    The replacement of example i is the first of i+1, i+2, ... (from the last to 0) that can be
    read: a rule that knows no chance and no order of reading. Safe to use from threads.

    Args:
        source: where examples come from.
        max_corrupt: the greatest share of corrupt examples among those tried so far.
        min_size: as in `decode_image`.
    """

    def __init__(self, source: Source, max_corrupt: float, min_size: int | None = None) -> None:
        self.source = source
        self.max_corrupt = max_corrupt
        self.min_size = min_size
        self.corrupt: dict[int, str] = {}
        self._tried = np.zeros(len(source), bool)
        self._lock = threading.Lock()

    def fetch(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """The examples of these numbers, or what stands in for them, in this order.

        Raises:
            TooManyCorruptError: at least five (or all) and more than the share are corrupt.
        """
        return [self._read(int(index)) for index in indices]

    def _read(self, index: int) -> dict[str, Any]:
        count = len(self.source)
        for number in range(count):
            candidate = (index + number) % count
            if candidate in self.corrupt:
                continue
            try:
                example = self.source.fetch([candidate], self.min_size)[0]
            except ImageError as error:
                self._note(candidate, str(error))
            else:
                self._tried[candidate] = True
                return example
        raise TooManyCorruptError(
            f"none of the {count} images in {self.source.name} can be read: {self._first(1)}"
        )

    def _note(self, index: int, reason: str) -> None:
        with self._lock:
            self._tried[index] = True
            if index in self.corrupt:
                return
            self.corrupt[index] = reason
            bad, tried = len(self.corrupt), int(self._tried.sum())
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
