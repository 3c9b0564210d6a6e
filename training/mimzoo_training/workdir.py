"""The folder of a run: what lies in it, and how a run finds its way back into it."""

import contextlib
import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "val_loss",
    "lr",
    "images_per_second",
    "images",
    "seconds",
    "flop_utilisation",
)

# Between two writings of the log: with few images epochs are short.
WRITE_SECONDS = 1.0

# Fields of a recipe that no number depends on.
REMARKS = {"origin", "inferred"}


class RunError(RuntimeError):
    """A run cannot start or go on; the message says why and what to do."""


def write_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file, or nothing: `write` gets a temporary path, which is renamed if all is well.

    Raises:
        RunError: the file cannot be written, such as on a full disk.
    """
    path = Path(path)
    # The ending stays: matplotlib and others go by it.
    temporary = path.with_name(f".writing-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; "
            "make room or mend the folder, then run the same command again to go on."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Writes JSON by way of a temporary file."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_folder(path: Path, write: Callable[[Path], Any]) -> None:
    """Fills a temporary folder beside `path` and puts it in the place of `path`.

    Raises:
        RunError: something cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".writing-{path.name}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; "
            "make room or mend the folder, then run the same command again to go on."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keeps other processes from working in a folder; the lock goes with the process.

    Args:
        folder: that is there.
        wait: until another process is gone.

    Raises:
        RunError: another process is at work there, and is not waited for.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        os.close(opened)
        raise RunError(
            f"another run is at work in {folder}: wait for it, stop it, or choose another "
            "--workdir."
        ) from error
    except OSError:  # some network file systems have no locks
        pass
    try:
        yield
    finally:
        os.close(opened)


class Workdir:
    """A run's folder.

    It holds `recipe.json` (the recipe and what it runs on), `log.csv` and `log.jsonl`,
    TensorBoard events, `checkpoints/`, `curve.png`, `reconstruction_<epoch>.png` and, at the end,
    `preset/`.

    Args:
        path: made if it does not exist.

    Raises:
        RunError: the folder cannot be written to.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.preset = self.path / "preset"
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.checkpoints, prefix=".probe-") as probe:
                probe.write(b"mimzoo" * 1024)
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise RunError(
                f"cannot write to the work directory {self.path}: {error.strerror or error}; "
                "choose another --workdir or make room."
            ) from error

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return (self.path / "results.json").is_file()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from running in the folder; the lock goes with the process.

        Raises:
            RunError: another run is at work here.
        """
        with locked(self.path):
            self._tidy()
            yield

    def _tidy(self) -> None:
        """Removes what a killed process was writing."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(".writing-*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def require_space(self, needed: int) -> None:
        """Raises RunError if fewer than `needed` bytes are free."""
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise RunError(
                f"the disk of {self.path} has {free / 1e6:.0f} MB left, this run needs about "
                f"{needed / 1e6:.0f} MB for checkpoints and the preset: make room, or choose "
                "another --workdir."
            )

    def claim(self, recipe: dict, run: dict) -> None:
        """Records the recipe, or checks that it is the one that the folder was begun with.

        Args:
            recipe: as JSON.
            run: what else the numbers depend on: data, backend, precision.

        Raises:
            RunError: the folder belongs to another run; the differing fields are named.
        """
        path = self.path / "recipe.json"
        # What JSON makes of it, so that it compares with what was read.
        wanted = json.loads(json.dumps({"recipe": recipe, "run": run}))
        if not path.exists():
            write_json(path, wanted)
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            old = {**found["recipe"], **found["run"]}
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is no recipe of a run ({error}): choose an empty --workdir."
            ) from error
        new = {**wanted["recipe"], **wanted["run"]}
        names = {*old, *new} - REMARKS
        differing = sorted(k for k in names if old.get(k) != new.get(k))
        if differing:
            told = ", ".join(f"{k} (was {old.get(k)!r}, is {new.get(k)!r})" for k in differing)
            raise RunError(
                f"{self.path} was begun with another recipe; these differ: {told}. "
                "Give the same arguments to go on, or another --workdir."
            )

    def stop_unless_resumable(self) -> None:
        """Raises RunError if the folder holds files that no run of ours has left."""
        if (self.path / "recipe.json").exists():
            return
        strange = [p.name for p in self.path.iterdir() if p.name != "checkpoints"]
        if strange:
            raise RunError(
                f"{self.path} is not empty (it holds {strange[0]}) and was begun by no run: "
                "choose an empty or new --workdir."
            )


class Log:
    """`log.csv` and `log.jsonl`: a row each epoch, written at most once a second.

    Args:
        folder: the work directory.
        step: rows of later steps, from a run that was cut off, are left out.
        extra: further columns.
        write: False: the rows are kept in memory only.
    """

    def __init__(
        self, folder: Path, step: int, extra: tuple[str, ...] = (), write: bool = True
    ) -> None:
        self.write = write
        self.folder = Path(folder)
        self.columns = (*COLUMNS, *extra)
        path = self.folder / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() and step else []
        self.rows = [row for line in lines if (row := json.loads(line))["step"] <= step]
        self.flush()

    def add(self, row: dict) -> None:
        """Appends a row; what is missing stays empty."""
        self.rows.append({name: row.get(name) for name in self.columns})
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes all rows: before each checkpoint, so that none of its epochs is missing."""
        self._written = time.monotonic()
        if not self.write:
            return
        # Short rows, written anew each time, so never half a row.
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_file(self.folder / "log.jsonl", lambda path: path.write_text(lines, encoding="utf-8"))
        write_file(self.folder / "log.csv", self.write_csv)

    def write_csv(self, path: Path) -> None:
        """All rows as CSV."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
