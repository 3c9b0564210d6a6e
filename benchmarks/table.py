"""A CSV file of runs that grows row by row, and its means."""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any


class Table:
    """Rows of a CSV file, found by their first columns.

    Args:
        path: of the file; read if it is there, written whole after each new row.
        key: columns that name a row.
        fields: all columns, those of the key first.
    """

    def __init__(self, path: Path, key: Sequence[str], fields: Sequence[str]) -> None:
        self.path, self.key, self.fields = path, tuple(key), tuple(fields)
        self.rows = list(csv.DictReader(path.open())) if path.exists() else []

    def get(self, *key: Any) -> dict | None:
        """The row with this key, or None."""
        wanted = tuple(map(str, key))
        return next((r for r in self.rows if tuple(r[k] for k in self.key) == wanted), None)

    def add(self, *key: Any, **values: Any) -> dict:
        """Writes a row down, prints and returns it."""
        row = {**dict(zip(self.key, key, strict=True)), **values}
        self.rows.append({k: str(v) for k, v in row.items()})
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.fields, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(self.path)
        print({k: row[k] for k in self.fields}, flush=True)
        return row

    def show(self, group: str, columns: Sequence[str]) -> None:
        """Prints mean and standard deviation of columns for each value of a column."""
        print(f"{group:20s} " + "  ".join(f"{c:>18s}" for c in columns) + "  runs")
        for name in dict.fromkeys(row[group] for row in self.rows):
            found = [row for row in self.rows if row[group] == name]
            cells = []
            for column in columns:
                values = [float(row[column]) for row in found]
                spread = stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{mean(values):10.4f} ± {spread:.4f}")
            print(f"{name:20s} " + "  ".join(f"{c:>18s}" for c in cells) + f"  {len(found)}")
