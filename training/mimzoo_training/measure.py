"""Loading a preset to measure it or to look at what it sees."""

from pathlib import Path
from typing import Any

import keras

import mimzoo.pretraining  # noqa: F401 (registers the methods)
from mimzoo.hub import resolve
from mimzoo.pretraining.task import MIMTask
from mimzoo_training.files import RunError, read_json, weights_of

# MAE's evaluation (main_finetune.py): resize to 256, cut out 224.
CROP_FRACTION = 224 / 256


def load_task(preset: str, crop_fraction: float | None = None, **kwargs: Any) -> keras.Model:
    """The task that a preset holds, evaluated as its recipe says.

    Args:
        preset: name, folder or hf:// handle.
        crop_fraction: of evaluation, in place of the recipe's.
        **kwargs: for its `from_preset`.

    Raises:
        ValueError: an unknown preset, or one that holds a backbone only.
    """
    folder = Path(resolve(preset))
    found = _task_class(folder, preset)
    if found is None:
        raise ValueError(
            f"{preset} holds a backbone without a task, so nothing says how it takes images: "
            "save the whole task, or fine-tune it first."
        )
    with weights_of(folder):
        task = found.from_preset(str(folder), **kwargs)
    if task.preprocessor is not None:
        if crop_fraction is None:
            crop_fraction = _crop_fraction(folder)
        task.preprocessor.image_converter.crop_fraction = crop_fraction
    return task


def _crop_fraction(folder: Path) -> float:
    path, converter = folder / "recipe.json", folder / "image_converter.json"
    if path.is_file():
        recipe = read_json(path, "recipe")["recipe"]
        share = recipe.get("crop_fraction") if isinstance(recipe, dict) else None
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise RunError(f"{path} is damaged (no crop_fraction in (0, 1]): make the preset anew.")
        return share
    stored = read_json(converter, "config") if converter.is_file() else {}
    return stored.get("config", {}).get("crop_fraction", CROP_FRACTION)


def load_mim_task(preset: str, mask_ratio: float | None = None) -> MIMTask:
    """The MIM task of a preset, with another mask ratio if given.

    Raises:
        ValueError: the preset is of another kind, or the ratio makes no mask.
    """
    folder = Path(resolve(preset))
    found = _task_class(folder, preset)
    if found is None or not issubclass(found, MIMTask):
        raise ValueError(
            f"{preset} was not pretrained with a decoder, so it reconstructs nothing: "
            "name a preset of a MIM method, such as vit_nano_mae_fmnist_20ep."
        )
    task = load_task(preset)
    if mask_ratio is not None:
        config = {**task.masking.get_config(), "mask_ratio": mask_ratio}
        masking = type(task.masking).from_config(config)
        task = load_task(preset, masking=masking)
    return task


def _task_class(folder: Path, preset: str) -> type | None:
    """The class of a preset's task; None where it has none."""
    path = folder / "task.json"
    if not path.is_file():
        return None
    name = read_json(path, "registered_name")["registered_name"]
    found = keras.saving.get_registered_object(name)
    if not isinstance(found, type):
        raise ValueError(
            f"{preset} holds a {name}, which this version of mimzoo does not have; of a method of "
            "your own, load it in Python, after importing the module that defines it."
        )
    return found
