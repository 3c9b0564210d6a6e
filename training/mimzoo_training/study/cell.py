"""One cell of a study: pretraining, then each evaluation. A process of its own.

    python -m mimzoo_training.study.cell FOLDER NAME

What is done already is not done again. Ends when the process that started it ends.
"""

import dataclasses
import datetime
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from mimzoo_training.files import locked, read_json, write_json
from mimzoo_training.log import read_rows
from mimzoo_training.study.place import Place, digest
from mimzoo_training.study.results import record
from mimzoo_training.study.sampling import suffix
from mimzoo_training.study.spec import Cell, Study, data_label


def main(folder: str, name: str) -> int:
    """Runs a cell, or the rest of it; the exit code is 0 if it is finished."""
    from mimzoo_training.interrupt import Interrupted

    place = Place(Path(folder))
    study, sources = place.read()
    cell = next(c for c in study.cells if c.name == name)
    # A process whose study was killed may still be saving here.
    with locked(place.cell(name), wait=True):
        try:
            run_cell(cell, study, sources, place)
        except Interrupted as stop:
            return stop.exit_code
    return 0


def run_cell(cell: Cell, study: Study, sources: dict, place: Place) -> None:
    """Pretrains and evaluates; `cell.json` is written last."""
    import mimzoo  # noqa: F401 (registers the classes)
    from mimzoo.data.ids import printable
    from mimzoo_training.runner import pretrain
    from mimzoo_training.study.data import images_of, open_sources

    opened = open_sources(study, sources)
    source = images_of(cell, study, opened["train"])
    recipe = recipe_on(cell, opened["train"], source)
    folder, plan = place.cell(cell.name), place.plan()[cell.name]
    epochs = plan["steps"] * recipe.batch_size / plan["images"]
    run = pretrain(
        recipe,
        source,
        folder / "pretrain",
        validation=opened["validation"],
        precision=study.precision,
        validation_every=max(1, round(epochs / study.validations)),
        command=printable(
            f"mimzoo study {study.name} --data {sources['data']} --workdir {place.path.name} "
            f"--only {cell.name}"
        ),
    )
    last = read_rows(run.path)[-1]
    loss = read_json(run.results)[0]
    stored = read_json(run.recipe, "run")
    row = {
        "name": cell.name,
        "model": cell.label,
        "family": cell.family(recipe),
        "size": cell.size(recipe),
        "data": cell.data,
        "sampling": cell.sampling,
        "length": cell.length,
        "seed": cell.seed,
        **{key: plan[key] for key in ("images", "steps", "images_seen", "weights", "flops")},
        "loss": last["loss"],
        "val_loss": loss["value"],
        "seconds": loss["training_seconds"],
        "backend": stored["run"]["backend"],
        "date": datetime.date.today().isoformat(),
        "digest": digest(cell, study),
    }
    row |= evaluate(cell, study, run.preset, opened, folder)
    record(run.preset, row, study, f"{opened['test'].name} ({len(opened['test'])} images)")
    write_json(folder / "cell.json", row)


def recipe_on(cell: Cell, train: Any, source: Any) -> Any:
    """The cell's recipe, its data called as the part that it is: `fmnist-1pct`."""
    from mimzoo_training.parts import named_for

    recipe = cell.recipe()
    if isinstance(cell.data, str):
        return recipe  # the run names it
    whole = named_for(recipe, train)
    if source is train:
        return whole
    name = f"{whole.data}-{data_label(cell.data)}{suffix(cell.sampling)}"
    return whole.with_changes(data=name, num_examples=len(source))


def evaluate(
    cell: Cell, study: Study, preset: Path, opened: dict[str, Any], folder: Path
) -> dict[str, float]:
    """Name of an evaluation with its labels, such as `probe_1000` -> accuracy."""
    from mimzoo_training.probing import probe_preset

    found = {}
    for entry in study.finetune:
        found[f"finetune_{entry['labels']}"] = finetuned(cell, entry, preset, opened, folder)
    if study.features:
        path = folder / "features.json"
        if not path.is_file():
            rows = probe_preset(
                str(preset), opened["train"], opened["test"], seed=cell.seed, **study.features
            )
            write_json(path, rows)
        rows = read_json(path, mend="remove it, and the features are measured again")
        found |= {f"{row['kind']}_{row['labels']}": row["accuracy"] for row in rows}
    return found


def finetuned(cell: Cell, entry: dict, preset: Path, opened: dict, folder: Path) -> float:
    """Test accuracy after fine-tuning on some labels."""
    from mimzoo_training.classify import recipe_for
    from mimzoo_training.finetune import finetune
    from mimzoo_training.recipes import get_recipe

    recipe = get_recipe(cell.model.finetune) if cell.model.finetune else recipe_for(str(preset))
    changes = {k: entry[k] for k in ("base_learning_rate", "batch_size") if k in entry}
    recipe = dataclasses.replace(recipe.with_length(entry["length"]), seed=cell.seed, **changes)
    place = folder / f"finetune_{entry['labels']}"
    finetune(
        str(preset),
        opened["train"],
        place,
        recipe,
        test=opened["test"],
        num_labels=entry["labels"],
        precision="float32",
    )
    # The classifier was wanted for its accuracy only.
    for name in ("preset", "checkpoints"):
        shutil.rmtree(place / name, ignore_errors=True)
    return read_json(place / "results.json")[0]["value"]


def end_with_parent() -> None:
    """Asks this process to save and stop once the other end of its standard input is gone."""

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*sys.argv[1:]))
