"""Parts of very large sources: chosen in passes over hashes, kept as lists of numbers in files."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mimzoo.data.npy_files import mapped, written
from mimzoo.data.random import mix
from mimzoo.data.shard_index import ShardIndex, parts_folder

_BITS = 16


def spread(hashes: np.ndarray) -> np.ndarray:
    """Hashes of hashes: as even, and independent of them."""
    return mix(hashes)


def kth_smallest(values: Callable[[], Iterable[np.ndarray]], k: int) -> np.uint64:
    """The k-th smallest, from 1, of uint64 that are spread evenly; two passes, little memory.

    Args:
        values: gives them in pieces, each time it is called.
        k: from 1 to their number.
    """
    shift = np.uint64(64 - _BITS)
    counts = np.zeros(2**_BITS, np.int64)
    for chunk in values():
        counts += np.bincount((chunk >> shift).astype(np.int64), minlength=2**_BITS)
    ends = counts.cumsum()
    bucket = int(np.searchsorted(ends, k))
    inside = np.concatenate([chunk[(chunk >> shift) == bucket] for chunk in values()])
    before = int(ends[bucket] - counts[bucket])
    return np.sort(inside)[k - before - 1]


def list_part(
    index: ShardIndex,
    rule: str,
    numbers: np.ndarray | None,
    chosen: Callable[[], Iterator[np.ndarray]],
) -> np.ndarray:
    """Numbers of the images of a part; made once, then mapped from a file beside the index.

    Args:
        index: of the shards.
        rule: names the part; the same rule means the same images.
        numbers: (M,) of the source that the part is of, None for all images.
        chosen: gives in pieces of `chunks` whether an image belongs to it.

    Returns:
        (K,) uint32 or, beyond four billion images, uint64.
    """
    kind = np.dtype("<u4" if len(index.records) < 2**32 else "<u8")

    def pieces() -> Iterator[np.ndarray]:
        first = 0
        for mask in chosen():
            found = first + np.flatnonzero(mask)
            first += len(mask)
            yield (found if numbers is None else numbers[found]).astype(kind)

    folder = parts_folder(index)
    if folder is not None:
        name = hashlib.sha256(f"{index.token}{rule}".encode()).hexdigest()[:24]
        path = folder / f"{name}.npy"
        with contextlib.suppress(OSError, ValueError):  # none yet, or damaged
            return mapped(path)
        with contextlib.suppress(OSError):  # a full disk
            with written(path, kind) as write:
                for piece in pieces():
                    write(piece)
            return mapped(path)
    return np.concatenate(list(pieces()))
