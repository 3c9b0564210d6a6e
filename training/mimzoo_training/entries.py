"""An entry of the catalogue with all that is known of it, as JSON types, without Keras.

`mimzoo list --json` prints them; the grid explorer (`explorer/`) shows them.
"""

import csv
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

from mimzoo.hub.catalogue import Preset, grids, presets_folder
from mimzoo_training.recipes import PretrainRecipe, get_recipe

# Where commands read a data set from, by the start of its short name.
SOURCES = {
    "in1k": "tfds:imagenet2012",
    "in22k": "imagenet22k/",
    "coyo": "shards:coyo/",
    "fmnist": "fashion_mnist",
}
_TARGETS = {
    "SlidingWindowTarget": "pixels, window",
    "HOGTarget": "HOG",
    "FeatureTarget": "features",
    "Data2VecTarget": "features (EMA)",
}


def entry(preset: Preset) -> dict[str, Any]:
    """All fields of a preset of the catalogue, and what follows from its recipe and its folder.

    Returns:
        The fields of `mimzoo.hub.Preset`, and: paper (of the grid), pixels (side of the images),
        images, steps and target of the pretraining, results (with kind, shown: whether they are of
        what loads, and note: what a value is the mean of), commands, cost, hash ("sha256:…" of
        the weights, as far as it is known), curve (a row for each epoch), pictures (files in its
        folder), card (its text) and how_to_get. What nobody knows is None.
    """
    recipe = pretraining(preset)
    parts = preset.axes["data"].rpartition("-")[2]
    images = recipe.num_examples if recipe else None
    if recipe and parts.endswith("pct"):
        images = round(images * float(parts.removesuffix("pct")) / 100)
    return {
        **dataclasses.asdict(preset),
        "paper": grids()[preset.grid]["paper"],
        "pixels": pixels(preset),
        "images": images,
        "steps": recipe.steps(images)[0] if recipe else None,
        "target": _target(recipe) if recipe else None,
        "results": results(preset),
        "commands": commands(preset),
        "cost": costs().get(_pretrained(preset)),
        "hash": _hash(preset),
        "curve": _curve(preset.folder / "curve.csv"),
        "pictures": [n for n in ("reconstruction.png",) if (preset.folder / n).is_file()],
        "card": _text(preset.folder / "README.md"),
        "how_to_get": how_to_get(preset),
    }


def _pretrained(preset: Preset) -> str:
    """The name of the pretrained model that a classifier was made of, or its own."""
    return preset.name.removesuffix(f"_{preset.finetuned}") if preset.finetuned else preset.name


def pretraining(preset: Preset) -> PretrainRecipe | None:
    """How the model was pretrained, as far as that is known."""
    if preset.command:
        return _studied(preset.grid, preset.command.rpartition(" ")[2])
    try:
        return get_recipe(_pretrained(preset))
    except ValueError:
        return None


def _studied(study: str, cell: str) -> PretrainRecipe:
    """The recipe of a study's cell, whose name lacks the number of the seed."""
    return _cells(study)[f"{cell}0"].recipe()


@functools.cache
def _cells(study: str) -> dict[str, Any]:
    from mimzoo_training.study import load_study

    return {cell.name: cell for cell in load_study(study).cells}


def _target(recipe: PretrainRecipe) -> str:
    target = recipe.task["config"]["target"]
    name = target["class_name"].rpartition(">")[2]
    if name == "PixelTarget":
        return "pixels, by patch" if target["config"].get("normalize", True) else "pixels"
    return _TARGETS.get(name, name)


def results(preset: Preset) -> list[dict[str, Any]]:
    """Measured and published results, each with its kind and whether it is of what loads."""
    by = preset.checkpoint.by if preset.checkpoint else None
    ours = [
        {"kind": "measured", "shown": True, "note": _note(result, preset)} | result
        for result in preset.measured
    ]
    others = [{"kind": "published", "shown": r["by"] == by} | r for r in preset.published]
    return ours + others


def value_text(result: dict[str, Any]) -> str:
    """The value of a result as people read it: accuracies in percent."""
    value, metric = result["value"], result["metric"]
    if "accuracy" in metric:
        # 0.7005 is 70.1%, as people round: as a binary number it is a little less.
        return f"{value + 1e-9:.1%}"
    if metric.endswith(", %"):
        return f"{value}%"
    # What others published keeps their digits.
    return f"{value:.4f}" if "date" in result else str(value)


def _note(result: dict[str, Any], preset: Preset) -> str:
    """What a measured value is the mean of."""
    count = len(result.get("seeds", ()))
    of_seeds = f"mean of {count} seeds" if count > 1 else "one seed" if count else ""
    if "mean" in result:
        return (
            f"these weights, seed 0; {of_seeds}: {value_text(result | {'value': result['mean']})}"
        )
    return f"these weights, {of_seeds}" if of_seeds and preset.state == "bundled" else of_seeds


def commands(preset: Preset) -> dict[str, str | None]:
    """What to type to load, fine-tune and train a preset; None where there is no way."""
    name, first = preset.name, ""
    if preset.state == "recipe only":
        name = _workdir(preset)
    elif preset.state != "bundled" and preset.checkpoint.by_hand:
        name = f"presets/{preset.name}"  # a browser has downloaded the file
        first = f"mimzoo convert {preset.checkpoint.file} --out {name}\n"
    kind = "ImageClassifier" if preset.finetuned else "Backbone"
    return {
        "load": f'{first}import mimzoo\n\nmodel = mimzoo.models.{kind}.from_preset("{name}")',
        "finetune": f"mimzoo finetune {name} --data photos/ --workdir runs/tuned",
        "train": _training(preset),
    }


def _workdir(preset: Preset) -> str:
    if preset.command:
        return f"runs/{preset.grid}/cells/{preset.command.rpartition(' ')[2]}0/pretrain"
    return f"runs/{preset.name}"


def _training(preset: Preset) -> str | None:
    if preset.command:
        return f"{preset.command}0"
    if not preset.recipe:
        return None
    data = get_recipe(preset.recipe).data
    source = next((name for start, name in SOURCES.items() if data.startswith(start)), "photos/")
    run = f"--data {source} --workdir {_workdir(preset)}"
    if preset.finetuned:
        return f"mimzoo finetune {_pretrained(preset)} --recipe {preset.recipe} {run}"
    return f"mimzoo pretrain {preset.recipe} {run}"


@functools.cache
def costs() -> dict[str, dict[str, float | None]]:
    """Name of a pretrained model -> what it costs.

    Returns:
        weights (numbers in the backbone), train_flops (of all training steps, by formula; a
        teacher is not counted), seconds (measured, mean over seeds; None where nobody measured).
    """
    with open(presets_folder() / "costs.csv", newline="", encoding="utf-8") as file:
        return {
            row["name"]: {
                "weights": int(row["weights"]),
                "train_flops": float(row["train_flops"]),
                "seconds": float(row["seconds"]) if row["seconds"] else None,
            }
            for row in csv.DictReader(file)
        }


def _hash(preset: Preset) -> str | None:
    manifest = json_of(preset.folder / "manifest.json")
    if manifest:
        return f"sha256:{manifest['files']['model.weights.h5']['sha256']}"
    return preset.checkpoint.digest if preset.checkpoint else None


def _curve(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = ("step", "loss", "val_loss")
    return [{name: float(row[name]) for name in kept if row.get(name)} for row in rows]


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def json_of(path: Path) -> dict[str, Any]:
    """The content of a JSON file, {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def pixels(preset: Preset) -> int | None:
    """Side of the images that the preset was made for, None where only its file says it."""
    shape = json_of(preset.folder / "config.json").get("config", {}).get("image_shape")
    if shape:
        return shape[0]
    if preset.finetuned:
        return int(preset.finetuned.rpartition("_")[2])
    recipe = pretraining(preset)
    return recipe.image_size if recipe else None


def how_to_get(preset: Preset) -> str:
    """How to get the weights of a preset."""
    if preset.state == "bundled":
        return f'from_preset("{preset.name}"): comes with the package'
    if preset.checkpoint is None:
        return preset.made_by
    if preset.checkpoint.by_hand:
        return (
            f"download {preset.checkpoint.file} in a browser, then "
            f"mimzoo convert {preset.checkpoint.file} --out {preset.name}"
        )
    return f'from_preset("{preset.name}"): downloads {preset.checkpoint.file} and converts it'
