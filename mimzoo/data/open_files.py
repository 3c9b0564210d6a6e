"""Parts of many files, read at random by many threads."""

import os
import threading
from collections import OrderedDict


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

    def read(self, path: str, offset: int, size: int) -> bytes:
        """`size` bytes of a file from `offset` on; fewer at its end.

        Raises:
            OSError: the file cannot be opened or read.
        """
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = _File(os.open(path, os.O_RDONLY))
            self._files.move_to_end(path)
            file.readers += 1
            while len(self._files) > self.limit:
                self._files.popitem(last=False)[1].leave()
        try:
            data = os.pread(file.number, size, offset)
            # A read of more than 2 GB, or one that a signal cut short.
            while len(data) < size and (more := self._more(file, offset, size, data)):
                data += more
            return data
        finally:
            with self._lock:
                file.readers -= 1
                file.close_if_left()

    @staticmethod
    def _more(file: "_File", offset: int, size: int, data: bytes) -> bytes:
        return os.pread(file.number, size - len(data), offset + len(data))

    def __len__(self) -> int:
        return len(self._files)

    def __reduce__(self) -> tuple:
        return OpenFiles, (self.limit,)

    def __del__(self) -> None:
        for file in self._files.values():
            file.leave()


class _File:
    """A descriptor that is closed when it is left and nobody reads from it any more."""

    def __init__(self, number: int) -> None:
        self.number, self.readers, self.left = number, 0, False

    def leave(self) -> None:
        self.left = True
        self.close_if_left()

    def close_if_left(self) -> None:
        if self.left and not self.readers and self.number >= 0:
            os.close(self.number)
            self.number = -1
