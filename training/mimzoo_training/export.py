"""A finished run as a preset: weights, the recipe that made them, the measured results."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mimzoo.hub.card import card
from mimzoo.hub.manifest import is_read, write_manifest
from mimzoo_training.checkpoint import own
from mimzoo_training.loop import Trainer
from mimzoo_training.pictures import draw_curve
from mimzoo_training.recipes.base import Recipe
from mimzoo_training.workdir import write_folder


def whole_weights(model: keras.Model, whole: Callable[[Any], np.ndarray]) -> list[np.ndarray]:
    """The weights as arrays, without a teacher's; `whole` collects what other processes hold."""
    return [whole(variable.value) for variable in own(model, model.weights)]


def set_weights(model: keras.Model, weights: list[np.ndarray], dtype: str) -> None:
    """Gives a model the weights of another one, rounded to `dtype`; a teacher's stay."""
    for variable, value in zip(own(model, model.weights), weights, strict=True):
        variable.assign(value.astype("float32").astype(dtype).astype("float32"))


def store_as(folder: Path, dtype: str) -> None:
    """Rewrites the weight files of a preset with another type of number.

    Loading turns them into the model's own type; where the values were rounded before, nothing
    is lost.
    """
    import h5py

    for path in folder.glob("*.weights.h5"):
        shrunk = path.with_suffix(".tmp")
        with h5py.File(path) as old, h5py.File(shrunk, "w") as new:
            _copy(old, new, dtype)
        shrunk.replace(path)


def _copy(old: Any, new: Any, dtype: str) -> None:
    import h5py

    new.attrs.update(old.attrs)
    for name, item in old.items():
        if isinstance(item, h5py.Group):
            _copy(item, new.create_group(name), dtype)
        else:
            value = item[()]
            if getattr(value, "dtype", None) == np.float32:
                value = value.astype(dtype)
            new.create_dataset(name, data=value).attrs.update(item.attrs)


def result(metric: str, value: float, data: str, command: str, **more: Any) -> dict:
    """One entry of results.json."""
    return {
        "metric": metric,
        "value": round(float(value), 6),
        "data": data,
        "date": datetime.date.today().isoformat(),
        "command": command,
        **more,
    }


def write_preset(
    trainer: Trainer, task: Any, recipe: Recipe, run: dict, results: list[dict], dtype: str
) -> None:
    """Writes `preset/` into the work directory, whole or not at all.

    Args:
        trainer: of the finished run.
        task: float32, with the weights to publish.
        recipe: that was followed.
        run: what it ran on, as in the work directory's recipe.json.
        results: entries of `result`.
        dtype: of the stored weights.
    """

    def write(folder: Path) -> None:
        task.save_to_preset(str(folder))
        if dtype != "float32":
            store_as(folder, dtype)
        for name, data in (
            ("recipe.json", {"recipe": recipe.to_json(), "run": run}),
            ("results.json", results),
        ):
            text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8")
        trainer.log.write_csv(folder / "curve.csv")
        draw_curve(trainer.log.rows, folder / "curve.png")
        (folder / "README.md").write_text(card(folder), encoding="utf-8")
        write_manifest(folder, is_read)  # once more: `store_as` has changed the weights

    write_folder(trainer.workdir.preset, write)
