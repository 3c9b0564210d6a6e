"""From a recipe to the parts of a run: task, transforms, loaders, optimizer."""

from typing import Any

import keras
import numpy as np

from mimzoo.data import (
    Compose,
    Loader,
    Normalize,
    RandomCropPad,
    RandomFlip,
    RandomResizedCrop,
    ResizeCrop,
    Source,
    open_source,
)
from mimzoo.models.vit import ViTBackbone, ViTImageConverter
from mimzoo.optimizers import AdamW, WarmupCosine
from mimzoo.pretraining import MAE
from mimzoo.pretraining.decoders import MAEDecoder
from mimzoo.pretraining.masking import RandomMasking
from mimzoo.pretraining.targets import PixelTarget
from mimzoo.pretraining.task import MIMPreprocessor
from mimzoo_training.recipes.base import PretrainRecipe, Recipe

# Masks of validation are the same in every run, whatever its seed.
VALIDATION_MASKS = 0
METHODS = ("mae",)


def build_task(recipe: PretrainRecipe, dtype: str = "float32") -> MAE:
    """The task of a pretraining recipe, not compiled.

    Raises:
        ValueError: sizes or ratios that make no model.
    """
    if recipe.method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {recipe.method!r}.")
    backbone = ViTBackbone.from_size(
        recipe.size,
        image_shape=(recipe.image_size, recipe.image_size, 3),
        patch_size=recipe.patch_size,
        drop_path_rate=recipe.drop_path_rate,
        dtype=dtype,
        name="backbone",
    )
    decoder = MAEDecoder(
        recipe.decoder_dim, recipe.decoder_depth, recipe.decoder_heads, dtype=dtype, name="decoder"
    )
    converter = ViTImageConverter(
        (recipe.image_size, recipe.image_size), mean=recipe.mean, std=recipe.std
    )
    return MAE(
        backbone,
        masking=RandomMasking(recipe.mask_ratio, seed=VALIDATION_MASKS),
        decoder=decoder,
        target=PixelTarget(recipe.normalize_target),
        preprocessor=MIMPreprocessor(converter),
        compile=False,
        name=recipe.method,
    )


def train_transform(recipe: Recipe) -> Compose:
    """Random crop and flip."""
    if recipe.crop == "crop_pad":
        crop = [ResizeCrop(recipe.image_size, 1.0), RandomCropPad(recipe.crop_padding)]
    else:
        crop = [RandomResizedCrop(recipe.image_size, recipe.crop_scale)]
    return Compose([*crop, *([RandomFlip(recipe.flip)] if recipe.flip else [])])


def test_transform(recipe: Recipe) -> ResizeCrop:
    """Resize and central crop."""
    return ResizeCrop(recipe.image_size, recipe.crop_fraction)


def normalize(recipe: Recipe) -> Normalize:
    """The recipe's mean and deviation."""
    return Normalize(recipe.mean, recipe.std)


def pretrain_loader(recipe: PretrainRecipe, source: Source, task: MAE) -> Loader:
    """Masked batches for ever."""
    masking = RandomMasking(recipe.mask_ratio, seed=recipe.seed)
    grid = task.backbone.grid
    return Loader(
        source,
        recipe.batch_size,
        transform=train_transform(recipe),
        normalize=normalize(recipe),
        seed=recipe.seed,
        epochs=None,
        masking=lambda index, epoch: masking.draw(index, epoch, grid),
    )


def masked_loss(
    task: Any, source: Source, transform: Any, normalize: Normalize, batch_size: int
) -> float:
    """Loss of a MIM task on a source with the task's masks of epoch 0."""
    loader = Loader(
        source,
        min(batch_size, len(source)),
        transform=transform,
        normalize=normalize,
        shuffle=False,
        drop_remainder=False,
        masking=task.draw_masks,
    )
    loss = keras.Model.evaluate(
        task, loader.dataset(), steps=loader.steps_per_epoch, verbose=0, return_dict=True
    )
    return float(loss["loss"])


def first_images(source: Source, recipe: Recipe, count: int = 8) -> np.ndarray:
    """(N, H, W, 3) uint8: the first images of a source at the recipe's size."""
    count = min(count, len(source))
    loader = Loader(source, count, transform=test_transform(recipe), shuffle=False)
    return loader.batch(0).astype("uint8")


def schedule(recipe: Recipe, num_examples: int) -> WarmupCosine:
    """Warm-up and half-cosine over the run."""
    total, warmup = recipe.steps(num_examples)
    return WarmupCosine(recipe.peak_learning_rate, total, warmup, final=recipe.final_learning_rate)


def pretrain_optimizer(recipe: PretrainRecipe, task: MAE, rate: WarmupCosine) -> Any:
    """AdamW, built."""
    optimizer = AdamW(
        task,
        rate,
        weight_decay=recipe.weight_decay,
        beta_1=recipe.beta_1,
        beta_2=recipe.beta_2,
        global_clipnorm=recipe.clip_norm,
    )
    optimizer.build(task.trainable_variables)
    return optimizer


def to_source(source: Source | str, split: str) -> Source:
    """A source as it is, or opened by name."""
    return source if isinstance(source, Source) else open_source(source, split)


def named_for(recipe: Recipe, source: Source) -> Recipe:
    """The recipe, its data renamed unless the source has as many images as the recipe's set."""
    if len(source) == recipe.num_examples:
        return recipe
    words = "".join(c if c.isalnum() else " " for c in source.name.removesuffix(" train")).split()
    name = "-".join(words).lower() or "images"
    return recipe.with_changes(data=name, num_examples=len(source))
