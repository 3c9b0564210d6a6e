"""The folder of a study, and what its processes tell each other through it."""

import json
from dataclasses import dataclass
from pathlib import Path

from mimzoo_training.study.spec import Cell, Study, load_study
from mimzoo_training.workdir import RunError, write_json


@dataclass(frozen=True)
class Place:
    """A study's folder.

    It holds `study.json` (what is run on which data), `plan.json` (what each cell costs),
    `cells/<name>/` (the cell's `pretrain/`, its evaluations, `output.txt` and, once it is
    finished, `cell.json`) and what `report.py` writes: `study.csv`, figures, `report.md`.

    Attributes:
        path: of the folder.
    """

    path: Path

    def cell(self, name: str) -> Path:
        """Folder of a cell."""
        return self.path / "cells" / name

    def claim(self, study: Study, sources: dict[str, str | None], spec: str) -> None:
        """Makes the folder this study's, or goes on with it; cells may have been added.

        Raises:
            RunError: another study's folder, or a folder of something else.
        """
        path = self.path / "study.json"
        self.path.mkdir(parents=True, exist_ok=True)
        if path.exists():
            old = json.loads(path.read_text(encoding="utf-8"))
            wanted = {"name": study.name, **sources}
            differing = [k for k, v in wanted.items() if old.get(k) != v]
            if differing:
                key = differing[0]
                raise RunError(
                    f"{self.path} was begun with {key} {old.get(key)!r}, not {wanted[key]!r}: "
                    "choose another --workdir."
                )
        elif any(self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no study: choose a new --workdir.")
        write_json(path, {"name": study.name, "spec": str(spec), **sources})

    def read(self) -> tuple[Study, dict[str, str | None]]:
        """The study that runs here, and its sources: data, validation, test."""
        told = json.loads((self.path / "study.json").read_text(encoding="utf-8"))
        return load_study(told["spec"]), {k: told[k] for k in ("data", "validation", "test")}

    def row(self, cell: Cell) -> dict | None:
        """Results of a cell, or None while it is not finished."""
        path = self.cell(cell.name) / "cell.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def plan(self) -> dict[str, dict]:
        """Name of a cell -> what it costs; {} before it was planned."""
        path = self.path / "plan.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
