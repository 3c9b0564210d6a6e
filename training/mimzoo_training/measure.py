"""Loading a preset to measure it or to look at what it sees."""

from pathlib import Path
from typing import Any

import keras

import mimzoo.pretraining  # noqa: F401 (registers the methods)
from mimzoo.data import Normalize, ResizeCrop
from mimzoo.hub import resolve
from mimzoo.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from mimzoo.pretraining.task import MIMTask
from mimzoo_training.files import read_json, weights_of
from mimzoo_training.recipes import recipe_from_json

# MAE's evaluation: resize to 256, cut out 224 (papers' notes, section 3).
CROP_FRACTION = 224 / 256


def load_task(preset: str, **kwargs: Any) -> keras.Model:
    """The task that a preset holds.

    Args:
        preset: name, folder or hf:// handle.
        **kwargs: for its `from_preset`.

    Raises:
        ValueError: an unknown preset, or one that holds a backbone only.
    """
    folder = Path(resolve(preset))
    path = folder / "task.json"
    if not path.is_file():
        raise ValueError(
            f"{preset} holds a backbone without a task, so there is nothing to measure: "
            "fine-tune it first."
        )
    name = read_json(path, "registered_name")["registered_name"]
    found = keras.saving.get_registered_object(name)
    if found is None:
        raise ValueError(f"{preset} holds a {name}, which this version of mimzoo does not have.")
    with weights_of(folder):
        return found.from_preset(str(folder), **kwargs)


def load_mim_task(preset: str, mask_ratio: float | None = None) -> MIMTask:
    """The MIM task of a preset, with another mask ratio if given.

    Raises:
        ValueError: the preset is of another kind, or the ratio makes no mask.
    """
    folder = Path(resolve(preset))
    task = load_task(preset) if _is_mim(folder) else None
    if task is None:
        raise ValueError(
            f"{preset} was not pretrained with a decoder, so it reconstructs nothing: "
            "name a preset of a MIM method, such as vit_nano_mae_fmnist_20ep."
        )
    if mask_ratio is not None:
        config = {**task.masking.get_config(), "mask_ratio": mask_ratio}
        masking = type(task.masking).from_config(config)
        task = load_task(preset, masking=masking)
    return task


def _is_mim(folder: Path) -> bool:
    path = folder / "task.json"
    if not path.is_file():
        return False
    name = read_json(path, "registered_name")["registered_name"]
    found = keras.saving.get_registered_object(name)
    return isinstance(found, type) and issubclass(found, MIMTask)


def transforms(
    task: Any, preset: str, crop_fraction: float | None = None
) -> tuple[ResizeCrop, Normalize]:
    """Resize and crop as the preset's recipe evaluates, and the preset's normalisation."""
    size = task.backbone.image_shape[0]
    path = Path(resolve(preset)) / "recipe.json"
    if crop_fraction is None and path.is_file():
        recipe = recipe_from_json(read_json(path, "recipe")["recipe"])
        crop_fraction = recipe.crop_fraction
    converter = task.preprocessor.image_converter if task.preprocessor else None
    mean, std = (converter.mean, converter.std) if converter else (IMAGENET_MEAN, IMAGENET_STD)
    return ResizeCrop(size, crop_fraction or CROP_FRACTION), Normalize(mean, std)
