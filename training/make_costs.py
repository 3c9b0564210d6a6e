"""What each pretrained model of the catalogue costs: writes presets/costs.csv.

    python training/make_costs.py

Weights are counted and operations computed on models without memory (torch's device "meta"), so
that the largest need no more than the smallest. Models whose teacher is not at hand are left out.
Seconds are those of the bundled presets and of the study nano_scaling.
"""

import csv
import json
import os
import statistics
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
from mimzoo_training.entries import pretraining
from mimzoo_training.flops import step_flops
from mimzoo_training.parts import build_task
from mimzoo_training.study.rows import read_csv

from mimzoo.hub.catalogue import Preset, catalogue, presets_folder

STUDY = Path(__file__).parents[1] / "docs" / "nano_scaling" / "study.csv"


def cost(recipe: Any) -> tuple[int, float]:
    """Weights of the backbone, operations of a training step for an image."""
    # What reads its own weights, such as a teacher, cannot be built without memory.
    with keras.device("cpu" if recipe.size == "nano" else "meta"):
        task = build_task(recipe)
    return task.backbone.count_params(), step_flops(task, 1)


def seconds(preset: Preset) -> float | None:
    """What the pretraining took, where somebody measured it."""
    if preset.command:
        cell = preset.command.rpartition(" ")[2]
        return round(
            statistics.mean(r["seconds"] for r in read_csv(STUDY) if r["name"][:-1] == cell), 1
        )
    path = preset.folder / "results.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return next((r["training_seconds"] for r in found if "training_seconds" in r), None)


def main() -> None:
    """Writes the table."""
    rows, known = [], {}
    for preset in catalogue().values():
        recipe = pretraining(preset)
        if preset.finetuned or recipe is None or "clip" in preset.axes["method"]:
            continue
        key = json.dumps([recipe.task, recipe.image_size, recipe.size], sort_keys=True)
        if key not in known:
            known[key] = cost(recipe)
        weights, flops = known[key]
        images = recipe.steps(recipe.num_examples)[0] * recipe.batch_size
        rows.append((preset.name, weights, f"{flops * images:.4g}", seconds(preset)))
    with open(presets_folder() / "costs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "weights", "train_flops", "seconds"))
        writer.writerows(rows)
    print(f"{len(rows)} models, {len(known)} architectures")


if __name__ == "__main__":
    main()
