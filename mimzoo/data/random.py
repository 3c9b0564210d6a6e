"""Random numbers that follow from (seed, epoch, example) and from nothing else.

NumPy's generators are streams: the k-th number depends on how many were drawn before, so on
batch size, workers and the number of devices. Here every number is a hash of its address.
The hash is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
OOPSLA 2014): integer arithmetic only, hence the same bits on every machine.
"""

import math
import zlib

import numpy as np

# The greatest number of examples that `Loader` sorts by a hash of each to shuffle them: 16 MB an
# epoch. More are `shuffled`.
MAX_SORTED = 2**21
_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def mix(values: np.ndarray) -> np.ndarray:
    """Hashes of uint64, one to one."""
    with np.errstate(over="ignore"):
        return _mix(values + _GOLDEN)


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
    """The order in which an epoch visits `size` examples: (size,) int64. See `shuffled`."""
    keys = _keys(seed, epoch, np.arange(size), stream)
    return np.argsort(keys, kind="stable")


def shuffled(
    seed: int, epoch: int, size: int, places: np.ndarray, stream: str = "order"
) -> np.ndarray:
    """Which examples stand at some places of an epoch's order, without drawing the whole order.

    A Feistel network on pairs of digits (Black, Rogaway: Ciphers with Arbitrary Finite Domains,
    CT-RSA 2002): `size` is rounded up to a product a * b with both near its root, each round adds
    a hash of one digit to the other, and results beyond `size` go through it again. So memory and
    time follow from the number of places. The order is another one than that of `permutation`.

    Args:
        seed: any integer.
        epoch: an integer.
        size: how many examples there are.
        places: (B,) integers in 0..size-1; all of them give each example once.
        stream: as in `uniform`.

    Returns:
        (B,) int64 numbers of examples.
    """
    left = max(1, math.isqrt(max(size, 1) - 1) + 1)
    right = -(-size // left)
    keys = _keys(seed, epoch, np.arange(_ROUNDS), f"shuffled {stream}")
    found = np.array(places, np.uint64)
    outside = np.arange(found.size)
    while outside.size:
        found[outside] = _feistel(found[outside], left, right, keys)
        outside = outside[found[outside] >= size]
    return found.astype(np.int64)


def _feistel(values: np.ndarray, left: int, right: int, keys: np.ndarray) -> np.ndarray:
    high, low = np.divmod(values, np.uint64(right))
    with np.errstate(over="ignore"):
        for number, key in enumerate(keys):
            if number % 2:
                low = (low + _mix(_mix(high + key)) % np.uint64(right)) % np.uint64(right)
            else:
                high = (high + _mix(_mix(low + key)) % np.uint64(left)) % np.uint64(left)
    return high * np.uint64(right) + low
