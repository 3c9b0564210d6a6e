"""The folder of a study, and what its processes share through it."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mimzoo_training.files import LOCK, UNFINISHED, RunError, read_json, write_file, write_json
from mimzoo_training.study.spec import Cell, Study, load_study, path_of


@dataclass(frozen=True)
class Place:
    """A study's folder.

    It holds `study.json` (what is run on which data), `spec.toml` (the study as it was when it was
    started last, which all its processes read), `plan.json` (what each cell costs),
    `cells/<name>/` (the cell's `pretrain/`, its evaluations, `output.txt` and, once it is
    finished, `cell.json`) and what `report.py` writes: `study.csv`, figures, `report.md`.

    Attributes:
        path: of the folder.
    """

    path: Path

    def cell(self, name: str) -> Path:
        """Folder of a cell."""
        return self.path / "cells" / name

    def claim(
        self,
        study: Study,
        sources: dict[str, str | None],
        spec: str,
        fingerprints: dict[str, str],
    ) -> None:
        """Makes the folder this study's, or resumes it; cells may have been added.

        Args:
            study: that is run.
            sources: names of data, validation and test.
            spec: the study's file or name.
            fingerprints: of the images of each split.

        Raises:
            RunError: another study's folder, or of other images, or a folder of something else.
        """
        path = self.path / "study.json"
        self.path.mkdir(parents=True, exist_ok=True)
        if path.exists():
            old = read_json(path, "name", mend="choose another --workdir")
            wanted = {"name": study.name, **sources}
            differing = [k for k, v in wanted.items() if old.get(k) != v]
            if differing:
                key = differing[0]
                raise RunError(
                    f"{self.path} was begun with {key} {old.get(key)!r}, not {wanted[key]!r}: "
                    "choose another --workdir."
                )
            known = old.get("fingerprints", fingerprints)  # earlier studies have none
            if changed := [split for split, one in fingerprints.items() if known[split] != one]:
                raise RunError(
                    f"{self.path} was begun with other images of {' and '.join(changed)}: put "
                    "them back, or choose another --workdir."
                )
        elif any(not _ours(found) for found in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no study: choose a new --workdir.")
        write_json(path, {"name": study.name, **sources, "fingerprints": fingerprints})
        text = path_of(spec).read_text(encoding="utf-8")
        write_file(self.path / "spec.toml", lambda copy: copy.write_text(text, encoding="utf-8"))

    def read(self) -> tuple[Study, dict[str, str | None]]:
        """The study that runs here, and its sources: data, validation, test."""
        sources = read_json(self.path / "study.json", "name", "data", "validation", "test")
        name = sources.pop("name")
        sources.pop("fingerprints", None)
        return dataclasses.replace(load_study(str(self.path / "spec.toml")), name=name), sources

    def row(self, cell: Cell, study: Study) -> dict | None:
        """Results of a cell, or None while it is not finished.

        Raises:
            RunError: it was run with another recipe, or evaluated otherwise, than the study says.
        """
        path = self.cell(cell.name) / "cell.json"
        if not path.is_file():
            return None
        row = read_json(path, "name", mend="remove it, and the cell is evaluated again")
        if row.pop("digest", None) != digest(cell, study):
            raise RunError(
                f"{cell.name} was run with another recipe or other evaluations than the study has "
                f"now: name the model otherwise, or remove {path.parent} to run it anew (or only "
                "its evaluations and cell.json to evaluate it anew)."
            )
        return row

    def plan(self) -> dict[str, dict]:
        """Name of a cell -> what it costs; {} if the study as it is now was not planned."""
        path = self.path / "plan.json"
        if not path.is_file():
            return {}
        plan = read_json(path, "of", "cells", mend="remove it, and it is made again")
        return plan["cells"] if plan["of"] == self._spec_digest() else {}

    def write_plan(self, cells: dict[str, dict]) -> None:
        """Keeps what each cell costs."""
        write_json(self.path / "plan.json", {"of": self._spec_digest(), "cells": cells})

    def _spec_digest(self) -> str:
        return hashlib.sha256((self.path / "spec.toml").read_bytes()).hexdigest()


def _ours(path: Path) -> bool:
    return path.name == LOCK or any(path.match(name) for name in UNFINISHED)


def digest(cell: Cell, study: Study) -> str:
    """What a cell's results depend on, but for the data and the backend."""
    parts = [cell.recipe().to_json(), study.finetune, study.features]
    parts += [cell.model.finetune, study.seed, study.validation, study.test, study.precision]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
