"""Fingerprints of data: short, the same on every machine, cheap also for large sources."""

import hashlib

import numpy as np

from mimzoo.data.ids import name_bytes

MAX_HASHED = 2**28  # bytes of an array; of a larger one, rows spread evenly
_DIGITS = 32


def hash_parts(*parts: str) -> str:
    """The fingerprint of some texts, in this order."""
    found = hashlib.sha256()
    for part in parts:
        data = name_bytes(part)
        found.update(b"%d:" % len(data) + data)
    return found.hexdigest()[:_DIGITS]


def hash_array(array: np.ndarray) -> str:
    """The fingerprint of an array: shape, type and bytes, or of large ones a sample of the rows."""
    found = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    step = max(1, -(-array.nbytes // MAX_HASHED))
    sample = array[::step]
    rows = max(1, 2**22 * len(sample) // max(1, sample.nbytes))
    for start in range(0, len(sample), rows):
        found.update(np.ascontiguousarray(sample[start : start + rows]).data)
    found.update(np.ascontiguousarray(array[-1:]).data)
    return found.hexdigest()[:_DIGITS]
