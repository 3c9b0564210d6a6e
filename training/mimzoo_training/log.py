"""The log of a run: a row each epoch, as CSV and as JSON lines."""

import csv
import json
import time
from pathlib import Path

from mimzoo_training.files import RunError, write_file

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


def read_rows(folder: Path) -> list[dict]:
    """The rows of a work directory's `log.jsonl`; [] if there is none.

    Raises:
        RunError: a line that is no row.
    """
    path = Path(folder) / "log.jsonl"
    if not path.is_file():
        return []
    rows = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
            _ = rows[-1]["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is damaged in line {number}: remove the file and run the same command "
                "again to resume without the rows so far; no weight depends on them."
            ) from error
    return rows


class Log:
    """`log.csv` and `log.jsonl`: a row each epoch, written at most once a second.

    Args:
        folder: the work directory.
        step: rows of later steps, from a run that was stopped, are left out.
        extra: further columns.
        write: False: the rows are kept in memory only.
    """

    def __init__(
        self, folder: Path, step: int, extra: tuple[str, ...] = (), write: bool = True
    ) -> None:
        self.write = write
        self.folder = Path(folder)
        self.rows = [row for row in read_rows(folder) if row["step"] <= step] if step else []
        # A run that is finished by another command has the columns of its task.
        known = (name for row in self.rows for name in row)
        self.columns = tuple(dict.fromkeys((*COLUMNS, *extra, *known)))
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
