"""Signals that end a run: the step is finished, a checkpoint written, then the run ends."""

import signal
import threading
from types import FrameType
from typing import Any, Self

# Ctrl-C; a scheduler or `kill`; a closed terminal; a limit of CPU time; SLURM's --signal=USR1.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


class Interrupted(Exception):
    """A run was stopped by a signal after it was saved.

    Args:
        message: how to resume.
        number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class SignalGuard:
    """Notes the first signal in `received`; Ctrl-C after it stops at once, as usual.

    The others often come more than once: shell and kernel both say that a terminal is closed.
    Signals that the process ignores, as under `nohup`, stay ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._old):
            self._restore(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        if signal.SIGINT in self._old:
            self._restore(signal.SIGINT)

    def _restore(self, number: int) -> None:
        # None: a handler that Python did not install, and cannot bring back.
        signal.signal(number, self._old.pop(number) or signal.SIG_DFL)
