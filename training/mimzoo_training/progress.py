"""What a run prints: a bar with the time left on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Self


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of things done, on a terminal; gives a function of (done, total)."""
    if not sys.stdout.isatty():
        yield lambda done, total: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class Progress:
    """Progress over a whole run.

    Args:
        total: steps of the run.
        batch_size: images in a step.
        quiet: shows nothing, for all processes of a run but one.
        every: seconds between plain lines within an epoch.
    """

    def __init__(
        self, total: int, batch_size: int, quiet: bool = False, every: float = 60.0
    ) -> None:
        self.quiet = quiet
        self.total, self.batch_size, self.every = total, batch_size, every
        self.rate: float | None = None
        self._bar: Any = None
        self._printed = time.monotonic()
        self.start(0)

    def start(self, step: int) -> int:
        """The step from which the run continues; returns it."""
        self.step = self._begun = step
        self._pauses = 0.0
        self._last = (time.monotonic(), step)
        return step

    def __enter__(self) -> Self:
        if sys.stdout.isatty() and not self.quiet:
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.percentage:3.0f}%"),
                BarColumn(),
                TextColumn("{task.description}"),
            )
            self._task = self._bar.add_task("starting", total=self.total, completed=self.step)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def pause(self) -> None:
        """The time until `unpause` (validation, pictures) counts as left, not into the rate."""
        self._paused = time.monotonic()

    def unpause(self) -> None:
        """Ends `pause`."""
        paused = time.monotonic() - self._paused
        self._pauses += paused
        self._last = (self._last[0] + paused, self._last[1])

    def update(self, step: int, epoch: float, loss: float) -> None:
        """Shows where the run is."""
        now = time.monotonic()
        seconds, steps = now - self._last[0], step - self._last[1]
        if steps > 0 and seconds > 0:
            rate = steps / seconds
            self.rate = rate if self.rate is None else 0.8 * self.rate + 0.2 * rate
            self._last = (now, step)
        self.step = step
        text = f"epoch {epoch:.2f}  loss {loss:.4f}"
        if self.rate:
            text += f"  {self.rate * self.batch_size:.0f} images/s{self.left(step)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=text)
        elif now - self._printed >= self.every and not self.quiet:
            self.line(f"step {step}/{self.total}  {text}")

    def left(self, step: int) -> str:
        """The time left after a step, with two spaces before it; "" if it is not known, or none."""
        if not self.rate or step >= self.total:
            return ""
        per_step = 1 / self.rate + self._pauses / max(step - self._begun, 1)
        return f"  {duration((self.total - step) * per_step)} left"

    def line(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._printed = time.monotonic()
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            print(text, flush=True)
