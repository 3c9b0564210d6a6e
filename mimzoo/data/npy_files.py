"""Files of one long array: written piece by piece, then mapped."""

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


@contextlib.contextmanager
def written(path: Path, dtype: np.dtype, reserve: int = 0) -> Iterator[Callable[[np.ndarray], Any]]:
    """Gives a function that appends to a .npy file, which gets its name at the end.

    Not a mapped one: where the disk is full, writing to that kills the process.

    Args:
        path: of the file.
        dtype: of its values.
        reserve: how many values there will be at most, so that a full disk is an error at once.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            _reserve(file.fileno(), dtype.itemsize * reserve)
            _write_header(file, dtype, 0)
            start = file.tell()
            yield lambda values: file.write(np.ascontiguousarray(values, dtype).tobytes())
            total = (file.tell() - start) // dtype.itemsize
            file.truncate()
            file.seek(0)
            _write_header(file, dtype, total)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def mapped(path: Path) -> np.ndarray:
    """The array in a .npy file, mapped, not read.

    Raises:
        OSError: there is none.
        ValueError: it is damaged.
    """
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape == (0,):  # nothing can be mapped of an empty array
            return np.empty(0, dtype)
        # As a plain array: np.memmap makes each access several times slower.
        return np.load(path, mmap_mode="r").view(np.ndarray)
    except OSError:
        raise
    except Exception as error:  # of a damaged header NumPy makes nearly anything
        raise ValueError(f"{path} is damaged") from error


def _write_header(file: BinaryIO, dtype: np.dtype, total: int) -> None:
    # NumPy pads it so that the length of the first axis can be changed in place.
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (total,)}
    np.lib.format.write_array_header_1_0(file, header)


def _reserve(file: int, size: int) -> None:
    if not size or not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        # Some file systems cannot; then writing fails later.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
