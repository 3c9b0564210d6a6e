"""From a recipe to the parts of a run: task, transforms, loaders, optimizer."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import mimzoo.pretraining  # noqa: F401 (registers the methods)
from mimzoo.data import (
    Compose,
    Loader,
    Normalize,
    RandomCropPad,
    RandomFlip,
    RandomResizedCrop,
    ResizeCrop,
    Source,
)
from mimzoo.data.named_subsets import NAMED_SUBSETS, check_sampling, named_subset
from mimzoo.data.subsets import select
from mimzoo.optimizers import AdamW, WarmupCosine, WarmupLinear, WarmupMultiStep
from mimzoo.optimizers.groups import matches_any
from mimzoo.pretraining.task import MIMPreprocessor, MIMTask
from mimzoo.tasks.inputs import fed
from mimzoo.tasks.preprocessing import ImageConverter
from mimzoo_training.distribution import Devices
from mimzoo_training.pictures import spread
from mimzoo_training.recipes.base import Recipe
from mimzoo_training.recipes.objects import build, merged
from mimzoo_training.recipes.recipe_kinds import PretrainRecipe


def build_task(recipe: PretrainRecipe, dtype: str = "float32") -> MIMTask:
    """The task of a pretraining recipe, not compiled.

    Raises:
        ValueError: sizes or ratios that make no model, or classes that nobody registered.
    """
    sides = (recipe.image_size, recipe.image_size)
    drop_path = {"drop_path_rate": recipe.drop_path_rate, "name": "backbone"}
    spec = merged(recipe.task, {"backbone": {"image_shape": (*sides, 3), **drop_path}})
    if "decoder" in spec["config"]:
        spec = merged(spec, {"decoder": {"name": "decoder"}})
    converter = ImageConverter.for_backbone(
        keras.saving.get_registered_object(spec["config"]["backbone"]["class_name"])
    )
    preprocessor = MIMPreprocessor(
        converter(sides, mean=recipe.mean, std=recipe.std, crop_fraction=recipe.crop_fraction)
    )
    return build(spec, dtype, preprocessor=preprocessor, compile=False, name=recipe.method)


def train_transform(recipe: Recipe) -> Compose:
    """Random crop and flip."""
    if recipe.crop == "crop_pad":
        crop = [ResizeCrop(recipe.image_size, 1.0)]
        crop += [RandomCropPad(recipe.crop_padding)] if recipe.crop_padding else []
    else:
        crop = [RandomResizedCrop(recipe.image_size, recipe.crop_scale)]
    return Compose([*crop, *([RandomFlip(recipe.flip)] if recipe.flip else [])])


def test_transform(recipe: Recipe) -> ResizeCrop:
    """Resize and central crop."""
    return ResizeCrop(recipe.image_size, recipe.crop_fraction)


def normalize(recipe: Recipe) -> Normalize:
    """The recipe's mean and std."""
    return Normalize(recipe.mean, recipe.std)


def pretrain_loader(
    recipe: PretrainRecipe, source: Source, task: MIMTask, shard: tuple[int, int] = (0, 1)
) -> Loader:
    """Batches of images and what the task draws, without end; of each batch the part `shard`."""
    return Loader(
        source,
        recipe.batch_size,
        transform=train_transform(recipe),
        normalize=normalize(recipe),
        seed=recipe.seed,
        epochs=None,
        draw=functools.partial(task.draw, seed=recipe.seed, training=True),
        multiple=task.multiple,
        shard=shard,
    )


def evaluation_loader(task: Any, source: Source, batch_size: int, **options: Any) -> Loader:
    """Each image of a source once, in order, as the task's own `evaluate` reads it.

    Args:
        task: a MIM task or a classifier.
        source: to read.
        batch_size: of a forward pass.
        **options: further ones of `Loader`.
    """
    rules = task.input_rules(training=False)
    return Loader(
        source,
        batch_size,
        transform=rules.transform,
        normalize=rules.normalize,
        shuffle=False,
        drop_remainder=False,
        **options,
    )


def masked_loss(
    task: MIMTask, source: Source, batch_size: int, devices: Devices | None = None
) -> float:
    """Loss of a MIM task on a source, as `task.evaluate(source)` gives it."""
    draw = task.input_rules(training=False).draw
    loader = evaluation_loader(
        task, source, batch_size, draw=draw, multiple=task.multiple, **padding(devices)
    )
    return evaluate(task, loader, devices)["loss"]


def padding(devices: Devices | None) -> dict[str, Any]:
    """Options of a loader for evaluation, whose last batch may be smaller."""
    if devices is None or devices.count == 1:
        return {}
    return {"pad_remainder": True, "shard": devices.shard}


def evaluate(model: keras.Model, loader: Loader, devices: Devices | None = None) -> dict:
    """{"loss", …} of a compiled model over all batches of all processes."""
    devices = devices or Devices()
    with fed():
        values = keras.Model.evaluate(
            model,
            devices.dataset(loader),
            steps=loader.steps_per_epoch,
            verbose=0,
            return_dict=True,
        )
    return devices.results(model, values)


def some_images(source: Source, recipe: Recipe, multiple: int = 1, count: int = 8) -> np.ndarray:
    """(N, H, W, 3) uint8: images that are spread over a source, at the recipe's size."""
    count = min(count, len(source)) // multiple * multiple
    shown = select(source, spread(len(source), count), source.name)
    loader = Loader(shown, count, transform=test_transform(recipe), shuffle=False)
    return loader.batch(0).astype("uint8")


def schedule(recipe: Recipe, num_examples: int) -> WarmupCosine | WarmupLinear | WarmupMultiStep:
    """Warm-up, then half a cosine, a line or a constant rate with a milestone, over the run."""
    total, warmup = recipe.steps(num_examples)
    peak, start = recipe.peak_learning_rate, recipe.initial_learning_rate
    if recipe.schedule == "multistep":
        return WarmupMultiStep(peak, total, warmup, start, [int(total * recipe.milestone)])
    kind = WarmupLinear if recipe.schedule == "linear" else WarmupCosine
    return kind(peak, total, warmup, start, final=recipe.final_learning_rate)


def no_weight_decay(recipe: Recipe, model: keras.Model) -> list[str]:
    """Those of the recipe's regexes that some weight of the model matches."""
    variables = model.trainable_variables
    return [r for r in recipe.no_weight_decay if any(matches_any(v, [r]) for v in variables)]


def pretrain_optimizer(recipe: PretrainRecipe, task: MIMTask, rate: Any) -> Any:
    """AdamW, built."""
    optimizer = AdamW(
        task,
        rate,
        weight_decay=recipe.weight_decay,
        beta_1=recipe.beta_1,
        beta_2=recipe.beta_2,
        global_clipnorm=recipe.clip_norm,
        no_weight_decay=no_weight_decay(recipe, task),
    )
    optimizer.build(task.trainable_variables)
    return optimizer


def identity(source: Source) -> dict[str, str]:
    """By what a resumed run knows its images again: where they are, and their fingerprint."""
    return {key: source.describe()[key] for key in ("root", "fingerprint")}


def fingerprint(source: Source | None) -> str | None:
    """By which a resumed run knows the images that it validates on."""
    return None if source is None else source.fingerprint()


def subset_for(recipe: Recipe, source: Source, scores: Any = None) -> Source:
    """The part of the source that the recipe trains on, where its data is a named subset.

    A source that has as many images as the whole data set (of COYO: more than the subset) is cut
    to the subset; any other is taken as it is.

    Args:
        recipe: of pretraining.
        source: images.
        scores: id -> score, for the sampling "filtered".

    Raises:
        ValueError: see `mimzoo.data.named_subset`.
    """
    check_sampling(recipe.sampling, scores is not None, recipe.min_score)
    part = NAMED_SUBSETS.get(recipe.data)
    if part is None or not part.cuts(len(source)):
        if recipe.sampling != "random":
            raise ValueError(
                f"sampling {recipe.sampling!r} chooses from a whole data set, and "
                f"{source.name} with {len(source)} images is none that {recipe.data} is cut from."
            )
        return source
    return named_subset(source, recipe.data, recipe.sampling, scores, recipe.min_score)


def named_for(recipe: Recipe, source: Source) -> Recipe:
    """The recipe, its data renamed unless the source has as many images as the recipe's set."""
    if len(source) == recipe.num_examples:
        return recipe
    return recipe.with_changes(data=data_name(source), num_examples=len(source))


def batch_for(recipe: Recipe, source: Source, say: Callable[[str], None]) -> Recipe:
    """The recipe with a batch of all images where there are fewer than its own has."""
    if len(source) >= recipe.batch_size:
        return recipe
    say(f"batches of {len(source)} images, all that there are, in place of {recipe.batch_size}")
    return recipe.with_changes(batch_size=len(source))


def data_name(source: Source) -> str:
    """What a run's name calls its images: words of letters and digits."""
    words = "".join(c if c.isalnum() else " " for c in source.name.removesuffix(" train")).split()
    return "-".join(words).lower() or "images"
