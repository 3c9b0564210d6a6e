"""What fine-tuning of segmenters and of detectors shares: recipes, models, batches of windows."""

from collections.abc import Sequence
from typing import Any

import keras

from mimzoo.data import Compose, Loader, Photometric, RandomFlip, Source
from mimzoo.hub import preset_class, resolve
from mimzoo_training import classify, parts
from mimzoo_training.files import weights_of
from mimzoo_training.recipes import Recipe, get_recipe, list_recipes
from mimzoo_training.recipes.recipe_kinds import DetectRecipe, SegmentRecipe

TASKS = {"segment": "segmentation", "detect": "detection"}  # kind of a recipe -> what it is for


def chosen_recipe(preset: str, recipe: Recipe | None, kind: str) -> Recipe:
    """The recipe, or the one of the preset's backbone and size.

    Args:
        preset: name or folder.
        recipe: None: of the preset's size.
        kind: "segment" or "detect".

    Raises:
        ValueError: an unknown preset, no recipe for that size, or a recipe of another kind.
    """
    if recipe is not None:
        if recipe.kind != kind:
            raise ValueError(f"{recipe.name} is no recipe for {TASKS[kind]}: {_names(kind)}.")
        return recipe
    family, size = classify.family_and_size(preset)
    names = [n for n in list_recipes(kind) if n.startswith(f"{family}_{size}_")]
    if not names:
        raise ValueError(f"there is no recipe for the backbone of {preset}: {_names(kind)}.")
    return get_recipe(names[0])


def _names(kind: str) -> str:
    return f"name one with --recipe: {', '.join(list_recipes(kind))}"


def check_classes(source: Source, num_classes: int) -> None:
    """Raises ValueError unless a source has so many classes."""
    if source.num_classes != num_classes:
        raise ValueError(
            f"{source.name} has {source.num_classes} classes, and the run {num_classes}: give "
            "both the same"
        )


def build_dense(
    task_cls: type,
    preset: str,
    recipe: SegmentRecipe | DetectRecipe,
    num_classes: int,
    load_weights: bool,
    dtype: str,
    class_names: Sequence[str] | None = None,
) -> keras.Model:
    """The model, not compiled.

    Args:
        task_cls: ImageSegmenter or ObjectDetector.
        preset: name or folder.
        recipe: says how.
        num_classes: of the data.
        load_weights: False: new weights.
        dtype: "float32" or "mixed_bfloat16".
        class_names: of the data, if they are known.
    """
    cls = preset_class(resolve(preset))
    if cls.family != recipe.backbone:
        raise ValueError(
            f"{recipe.name} is a recipe for a backbone {recipe.backbone!r}, and {preset} holds a "
            f"{cls.__name__}: {_names(recipe.kind)}."
        )
    with weights_of(preset):
        return task_cls.from_preset(
            preset,
            load_weights=load_weights,
            image_shape=(recipe.image_size, recipe.image_size, 3),
            drop_path_rate=recipe.drop_path_rate,
            dtype=dtype,
            **recipe.architecture,
            num_classes=num_classes,
            class_names=class_names,
            compile=False,
            **recipe.head_options,
        )


def tenth(epochs: float) -> int:
    """Epochs between two validations, which read whole images and may take longer than training."""
    return max(1, round(epochs / 10))


def fill_colour(recipe: Recipe) -> tuple[int, ...]:
    """Of what a window shows outside of its image: the mean, red, green and blue in 0..255."""
    return tuple(round(255 * value) for value in recipe.mean)


def window_loader(recipe: Recipe, source: Source, window: Any) -> Loader:
    """Augmented windows and what is known of them, without end; `window` cuts them out."""
    transforms = [window]
    if recipe.flip:
        transforms.append(RandomFlip(recipe.flip))
    if recipe.photometric:
        transforms.append(Photometric())
    return Loader(
        source,
        recipe.batch_size,
        transform=Compose(transforms),
        normalize=parts.normalize(recipe),
        seed=recipe.seed,
        epochs=None,
    )
