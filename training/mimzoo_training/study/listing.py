"""The finished cells of a study as a grid of the catalogue.

    python -m mimzoo_training.study.listing FOLDER presets/NAME.json

An entry is a cell, whatever its seed: `from_preset` would load seed 0. Its results are lists, a
value for each seed.
"""

import json
import sys
from pathlib import Path
from typing import Any

from mimzoo_training.files import read_json, write_file
from mimzoo_training.study.place import Place
from mimzoo_training.study.rows import Row, measured
from mimzoo_training.study.spec import Study

LICENCE = "Apache-2.0"


def main(folder: str, out: str) -> None:
    """Writes the grid of the study in a folder."""
    place = Place(Path(folder).absolute())
    study, sources = place.read()
    rows = [row for cell in study.cells if (row := place.row(cell, study))]
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        found.setdefault(row["name"].removesuffix(f"_seed{row['seed']}"), []).append(row)
    text = dumps(grid(place, study, sources["data"], found))
    write_file(Path(out), lambda copy: copy.write_text(text, encoding="utf-8"))
    print(f"{out}: {len(found)} cells of {len(rows)} runs")


def grid(place: Place, study: Study, data: str | None, found: dict[str, list[Row]]) -> dict:
    """The file's content, of name without seed -> rows, seed by seed."""
    cells, measures = [], {}
    for name, rows in found.items():
        if rows[0]["seed"] != 0:
            continue
        preset = place.cell(rows[0]["name"]) / "pretrain" / "preset"
        stored = read_json(preset / "recipe.json", "recipe", "run")
        entries = read_json(preset / "results.json")
        keys = ["val_loss", *measured(rows[0])]
        measures = {
            key: {"metric": entry["metric"], "data": entry["data"]}
            for key, entry in zip(keys, entries, strict=True)
        }
        results = {key: [row[key] for row in rows] for key in keys}
        cells.append({"name": stored["recipe"]["name"], "cell": name, "results": results})
    every = [row for rows in found.values() for row in rows]
    return {
        "title": study.title,
        "paper": "",
        "ours": {
            "licence": LICENCE,
            "source": f"made by mimzoo: a cell of the study {study.name}, on {data}",
        },
        "metrics": {},
        "hosts": {},
        "study": {
            "name": study.name,
            "data": data,
            "date": max(row["date"] for row in every),
            "backend": ", ".join(sorted({row["backend"] for row in every})),
            "results": measures,
        },
        "cells": cells,
    }


def dumps(found: dict[str, Any]) -> str:
    """JSON with a line for each cell."""
    lines = [json.dumps(cell, ensure_ascii=False) for cell in found["cells"]]
    head = json.dumps({**found, "cells": []}, indent=2, ensure_ascii=False)
    body = ",\n".join(f"    {line}" for line in lines)
    return head.removesuffix("[]\n}") + f"[\n{body}\n  ]\n}}\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
