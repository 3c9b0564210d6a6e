"""Files that are read in parts: regular ones only, and many at random by many threads."""

import errno
import io
import os
import stat
import threading
from collections import OrderedDict

State = tuple[int, int]


class FileChangedError(Exception):
    """A file whose state is not the one that was noted.

    Attributes:
        state: the present one.
    """

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = state


def open_regular(path: str) -> io.FileIO:
    """Opens a file for reading; a pipe or device is refused, and never waited for.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    file = io.FileIO(path, "rb", opener=_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", path)
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def state_of(file: io.FileIO) -> State:
    """Size in bytes and time of change in nanoseconds, by which a replaced file is noticed."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


class OpenFiles:
    """Keeps the files that were read last open.

    `pread` has no position, so threads and forked processes may read one file at a time. Pickled,
    it forgets its files.

    Args:
        limit: files that stay open, per process.
    """

    def __init__(self, limit: int = 128) -> None:
        self.limit = limit
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: str, offset: int, size: int, state: State | None = None) -> bytes:
        """`size` bytes of a file from `offset` on; fewer at its end.

        Args:
            path: of the file.
            offset: in bytes.
            size: in bytes.
            state: checked when the file is opened: what `state_of` gave before.

        Raises:
            OSError: the file cannot be opened or read.
            FileChangedError: it has another state.
        """
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = _File(_opened(path, state))
            self._files.move_to_end(path)
            file.readers += 1
            while len(self._files) > self.limit:
                self._files.popitem(last=False)[1].leave()
        try:
            number = file.file.fileno()
            data = os.pread(number, size, offset)
            # A read of more than 2 GB, or one that a signal cut short.
            while len(data) < size:
                more = os.pread(number, size - len(data), offset + len(data))
                if not more:
                    break
                data += more
            return data
        finally:
            with self._lock:
                file.readers -= 1
                file.close_if_left()

    def __len__(self) -> int:
        return len(self._files)

    def __reduce__(self) -> tuple:
        return OpenFiles, (self.limit,)

    def __del__(self) -> None:
        for file in self._files.values():
            file.leave()


def _opened(path: str, state: State | None) -> io.FileIO:
    file = open_regular(path)
    present = state_of(file)
    if state is not None and present != state:
        file.close()
        raise FileChangedError(present)
    return file


class _File:
    """A file that is closed when it is left and nobody reads from it any more."""

    def __init__(self, file: io.FileIO) -> None:
        self.file, self.readers, self.left = file, 0, False

    def leave(self) -> None:
        self.left = True
        self.close_if_left()

    def close_if_left(self) -> None:
        if self.left and not self.readers:
            self.file.close()
