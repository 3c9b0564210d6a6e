"""Runs cells side by side, each in a process of its own, until all are done or have failed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mimzoo_training.files import RunError
from mimzoo_training.interrupt import Interrupted, SignalGuard
from mimzoo_training.log import read_rows
from mimzoo_training.progress import duration
from mimzoo_training.study.devices import Device, place
from mimzoo_training.study.estimate import Estimate
from mimzoo_training.study.place import Place
from mimzoo_training.study.rows import measured
from mimzoo_training.study.spec import Cell, Study

# Seconds between two looks at the processes, and between two plain lines.
LOOK, REPORT = 0.5, 60.0
# What a process has to save itself after it was asked to stop.
PATIENCE = 300.0


@dataclass
class Job:
    """A cell that is running."""

    cell: Cell
    process: subprocess.Popen
    device: Device
    began: float


class Pool:
    """The cells that are to be run, in order.

    Args:
        where: the study's folder.
        study: that is run.
        cells: in the order in which they start.
        plan: of `plan.json`.
        devices: where they run.
        say: gets a line for each cell that ends.
    """

    def __init__(
        self,
        where: Place,
        study: Study,
        cells: list[Cell],
        plan: dict[str, dict],
        devices: list[Device],
        say: Callable[[str], None],
    ) -> None:
        self.where, self.study, self.plan = where, study, plan
        self.devices, self.say = devices, say
        self.waiting = list(cells)
        self.jobs: list[Job] = []
        self.failed: dict[str, str] = {}
        # Share of each cell that is done; what failed does not count.
        self.shares = {cell.name: self._part(cell.name) for cell in cells}
        self.estimate = Estimate(plan, self.shares)
        self.count = len(cells)
        self.ended = 0
        self.began = self.printed = time.monotonic()

    def run(self) -> dict[str, str]:
        """Name of each cell that failed -> the last line that it printed.

        Raises:
            Interrupted: a signal came; all cells have saved what they did.
        """
        with SignalGuard() as guard, self._bar() as show:
            try:
                while self.waiting or self.jobs:
                    self._fill()
                    self._look()
                    show()
                    if guard.received is not None:
                        raise Interrupted(
                            "stopped and saved; run the same command again to resume.",
                            guard.received,
                        )
                    time.sleep(LOOK)
            finally:
                self._stop()
        return self.failed

    def left(self) -> str:
        """The time left, once something was measured."""
        seconds = time.monotonic() - self.began
        left = self.estimate.left(self.shares, seconds)
        if left is None or seconds < 5:
            return "time left not known yet"
        return f"{duration(left)} left"

    def _part(self, name: str) -> float:
        """How much of a cell's FLOP is done: of pretraining; evaluations end with the cell."""
        try:
            last = read_rows(self.where.cell(name) / "pretrain")[-1]
        except (OSError, RunError, IndexError):
            return 0.0
        cost = self.plan[name]
        return cost["training_flops"] / cost["flops"] * last["step"] / cost["steps"]

    def _fill(self) -> None:
        for cell in list(self.waiting):
            found = place(self.devices, cell.name, self.plan[cell.name]["bytes"])
            if found is None:
                return
            self.waiting.remove(cell)
            self.jobs.append(self._begin(cell, *found))

    def _begin(self, cell: Cell, device: Device, slot: int) -> Job:
        folder = self.where.cell(cell.name)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mimzoo_training.study.cell"]
        with open(folder / "output.txt", "a", encoding="utf-8") as output:
            process = subprocess.Popen(
                [*command, str(self.where.path), cell.name],
                env={**os.environ, **device.env},
                # The cell ends when this end of the pipe is gone, however this process ends.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if device.cores:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(process.pid, device.cores[slot])
        return Job(cell, process, device, time.monotonic())

    def _look(self) -> None:
        for job in self.jobs:
            self.shares[job.cell.name] = self._part(job.cell.name)
        for job in [job for job in self.jobs if job.process.poll() is not None]:
            self.jobs.remove(job)
            self._end(job)
            name = job.cell.name
            self.ended += 1
            self.shares[name] = 1.0
            row = self.where.row(job.cell, self.study)
            if row is None:
                self.failed[name] = last_line(self.where.cell(name) / "output.txt")
                del self.shares[name]
                self.report(f"{name} failed: {self.failed[name]}")
            else:
                self.estimate.ended(name, time.monotonic() - job.began)
                results = "  ".join(f"{k} {row[k]:.4f}" for k in ("val_loss", *measured(row)))
                self.report(f"{name}  {results}  {duration(row['seconds'])}")

    def _end(self, job: Job) -> None:
        job.device.running.pop(job.cell.name)
        job.process.stdin.close()

    def _stop(self) -> None:
        """Asks what still runs to save itself, and waits."""
        for job in self.jobs:
            job.process.send_signal(signal.SIGTERM)
        for job in self.jobs:
            try:
                job.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                job.process.kill()
            self._end(job)
        self.jobs.clear()

    def report(self, text: str) -> None:
        """A line, with how far the study is."""
        self.printed = time.monotonic()
        self.say(f"[{self.ended}/{self.count}] {text}  ({self.left()})")

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Callable[[], None]]:
        if not sys.stdout.isatty():
            yield self._line
            return
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.percentage:3.0f}%"),
            BarColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns) as bar:
            task = bar.add_task("", total=1.0)

            def show() -> None:
                names = ", ".join(job.cell.name for job in self.jobs)
                bar.update(
                    task,
                    completed=self.estimate.done(self.shares),
                    description=f"{self.left()}  {names}",
                )

            said, self.say = self.say, lambda text: bar.console.print(text, highlight=False)
            yield show
            self.say = said

    def _line(self) -> None:
        if time.monotonic() - self.printed >= REPORT:
            self.report("running: " + ", ".join(job.cell.name for job in self.jobs))


def last_line(path: Path) -> str:
    """What a process said last, such as its error."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return "it said nothing"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
