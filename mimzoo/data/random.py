"""Random numbers that follow from (seed, epoch, example) and from nothing else.

NumPy's generators are streams: the k-th number depends on how many were drawn before, so on
batch size, workers and the number of devices. Here every number is a hash of its address.
The hash is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
OOPSLA 2014): integer arithmetic only, hence the same bits on every machine.
"""

import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _keys(seed: int, epoch: int | np.ndarray, index: np.ndarray, stream: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed % 2**64) + _GOLDEN)
        key = _mix((key ^ np.uint64(zlib.crc32(stream.encode()))) + _GOLDEN)
        key = _mix((key ^ np.asarray(epoch).astype(np.uint64)) + _GOLDEN)
        return _mix((key ^ np.asarray(index).astype(np.uint64)) + _GOLDEN)


def uniform(
    seed: int, epoch: int | np.ndarray, index: np.ndarray, count: int, stream: str = ""
) -> np.ndarray:
    """Uniform numbers in [0, 1) for each example.

    Args:
        seed: any integer.
        epoch: an integer, or one integer for each example.
        index: (B,) example indices. Row i of the result depends on `index[i]` alone.
        count: how many numbers an example gets.
        stream: name of the use ("mask", "crop", ...); streams are independent.

    Returns:
        (B, count) float32, multiples of 2^-24.
    """
    keys = _keys(seed, epoch, np.atleast_1d(index), stream)
    steps = np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        bits = _mix(keys[:, None] + steps * _GOLDEN)
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def permutation(seed: int, epoch: int, size: int, stream: str = "order") -> np.ndarray:
    """The order in which an epoch visits `size` examples: (size,) int64."""
    keys = _keys(seed, epoch, np.arange(size), stream)
    return np.argsort(keys, kind="stable")
