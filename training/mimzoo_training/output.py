"""Standard output and error that outlive whoever reads them, and without other libraries' logs."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class _Steady:
    """A stream that drops what it cannot write: the terminal is closed, the disk is full."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As of a file."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError as error:
            known = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            return self.write(known)
        except (OSError, ValueError):
            self._mute()
        return len(text)

    def flush(self) -> None:
        """As of a file."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._mute()

    def _mute(self) -> None:
        nothing = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (stays open)
        # Python writes what the stream still holds when the process ends.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(nothing.fileno(), self._stream.fileno())
        self._stream = nothing


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Inside, printing never fails, and there is something to print to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # or a checkpoint would be opened as standard output
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    streams = [_Steady(s or open(os.devnull, "w", encoding="utf-8")) for s in before]  # noqa: SIM115
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def without_native_logs() -> Iterator[None]:
    """Drops what compiled libraries write to standard error, such as TensorFlow at its import."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
