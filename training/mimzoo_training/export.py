"""A finished run as a preset: weights, the recipe that made them, the measured results."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mimzoo.hub.card import card
from mimzoo.hub.manifest import is_read, write_manifest
from mimzoo_training.checkpoint import own, preset_bytes
from mimzoo_training.files import RunError, reserve, write_folder, write_json
from mimzoo_training.log import Log
from mimzoo_training.loop import Trainer
from mimzoo_training.pictures import draw_curve
from mimzoo_training.recipes.base import Recipe
from mimzoo_training.workdir import Workdir


def whole_weights(model: keras.Model, whole: Callable[[Any], np.ndarray]) -> list[np.ndarray]:
    """The weights as arrays, without a teacher's; `whole` collects what other processes hold."""
    return [whole(variable.value) for variable in own(model, model.weights)]


def set_weights(model: keras.Model, weights: list[np.ndarray], dtype: str) -> None:
    """Gives a model the weights of another one, rounded to `dtype`; a teacher's stay.

    Raises:
        RunError: a weight is too large for `dtype`.
    """
    for variable, value in zip(own(model, model.weights), weights, strict=True):
        with np.errstate(over="ignore"):
            rounded = value.astype("float32").astype(dtype)
        if not np.isfinite(rounded).all():
            raise RunError(
                f"the weight {variable.path} reaches {np.abs(value).max():.3g}, which {dtype} "
                "cannot hold: train at a lower learning rate in a new --workdir."
            )
        variable.assign(rounded.astype("float32"))


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
    """`write` of what a finished run's trainer knows."""
    write(trainer.workdir, trainer.log, task, recipe.to_json(), run, results, dtype)


def write(
    place: Workdir, log: Log, task: Any, recipe: dict, run: dict, results: list[dict], dtype: str
) -> None:
    """Writes `preset/` into the work directory, whole or not at all.

    Args:
        place: the work directory.
        log: of the run.
        task: float32, with the weights to publish.
        recipe: that was followed, as JSON.
        run: what it ran on, as in the work directory's recipe.json.
        results: entries of `result`.
        dtype: of the stored weights.

    Raises:
        RunError: there is no room, or something cannot be written.
    """

    def fill(folder: Path) -> None:
        # HDF5 ends the process where it finds the disk full.
        reserve(folder, preset_bytes(task))
        task.save_to_preset(str(folder))
        if dtype != "float32":
            store_as(folder, dtype)
        write_json(folder / "recipe.json", {"recipe": recipe, "run": run})
        write_json(folder / "results.json", results)
        log.write_csv(folder / "curve.csv")
        draw_curve(log.rows, folder / "curve.png")
        (folder / "README.md").write_text(card(folder), encoding="utf-8")
        write_manifest(folder, is_read)  # once more: `store_as` has changed the weights

    write_folder(place.preset, fill)
