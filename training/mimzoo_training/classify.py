"""The parts of a fine-tuning run: classifier, loaders, optimizer, accuracy."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras

from mimzoo.data import Loader, Normalize, Source, check_labels
from mimzoo.data.augment import KerasAugment, finetune_augment
from mimzoo.hub import resolve
from mimzoo.models import ImageClassifier
from mimzoo.models.vit import VIT_SIZES
from mimzoo.optimizers import LayerDecayAdamW
from mimzoo_training import parts
from mimzoo_training.recipes import get_recipe, list_recipes
from mimzoo_training.recipes.base import FinetuneRecipe


def recipe_for(preset: str) -> FinetuneRecipe:
    """The fine-tuning recipe of the size of a preset's backbone.

    Raises:
        ValueError: an unknown preset, or no recipe for that size.
    """
    config = json.loads((Path(resolve(preset)) / "config.json").read_text(encoding="utf-8"))
    config = config["config"]
    shape = tuple(config.get(k) for k in ("embed_dim", "depth", "num_heads"))
    for size, known in VIT_SIZES.items():
        if shape == known[:3]:
            for name in list_recipes("finetune"):
                if name.startswith(f"vit_{size}_"):
                    return get_recipe(name)
    raise ValueError(
        f"there is no fine-tuning recipe for the backbone of {preset} (width {shape[0]}, "
        f"{shape[1]} blocks): name one with --recipe: {', '.join(list_recipes('finetune'))}."
    )


def preset_name(preset: str) -> str:
    """What a preset is called: by its recipe, or by its folder."""
    path = Path(resolve(preset)) / "recipe.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))["recipe"]["name"]
    return Path(str(preset).partition("@")[0].rstrip("/")).name


def run_name(recipe: FinetuneRecipe, start: str, num_labels: int | None) -> str:
    """<start>_ft_<data>_<pixels>, and what was changed."""
    changes = recipe.name.partition(f"_{recipe.data}_{recipe.image_size}")[2]
    labels = f"_{num_labels}labels" if num_labels else ""
    return f"{start}_ft_{recipe.data}_{recipe.image_size}{labels}{changes}"


def build_classifier(
    preset: Any, recipe: FinetuneRecipe, num_classes: int, load_weights: bool, dtype: str
) -> ImageClassifier:
    """The classifier, not compiled.

    Args:
        preset: name or folder, or a backbone, which is taken as it is.
        recipe: says how.
        num_classes: of the data.
        load_weights: False: new weights.
        dtype: "float32" or "mixed_bfloat16".
    """
    head = {
        "num_classes": num_classes,
        "pooling": recipe.pooling,
        "head_init_std": recipe.head_init_std,
    }
    if isinstance(preset, keras.Model):
        return ImageClassifier.for_backbone(type(preset))(preset, **head)
    positions = {"position_embedding": "learned"} if recipe.learned_positions else {}
    return ImageClassifier.from_preset(
        preset,
        load_weights=load_weights,
        image_shape=(recipe.image_size, recipe.image_size, 3),
        drop_path_rate=recipe.drop_path_rate,
        # The mean of the patches is normalised after pooling, the class token before.
        final_norm=recipe.pooling == "token",
        dtype=dtype,
        **positions,
        **head,
    )


def with_statistics_of(recipe: FinetuneRecipe, model: ImageClassifier) -> FinetuneRecipe:
    """The recipe with the mean and deviation that the preset was trained with."""
    converter = model.preprocessor.image_converter
    return dataclasses.replace(recipe, mean=tuple(converter.mean), std=tuple(converter.std))


def check_source(source: Source, num_classes: int) -> None:
    """Raises ValueError unless every example has a label below `num_classes`."""
    try:
        check_labels(source.labels, num_classes)
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from error


def train_loader(recipe: FinetuneRecipe, source: Source, num_classes: int) -> Loader:
    """Augmented images and one-hot labels for ever."""
    augment = finetune_augment(
        num_classes,
        flip=False,  # the transform does
        rand_augment=recipe.rand_augment,
        random_erasing=recipe.random_erasing,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        mean=recipe.mean,
        std=recipe.std,
    )
    return Loader(
        source,
        recipe.batch_size,
        transform=parts.train_transform(recipe),
        normalize=parts.normalize(recipe),
        seed=recipe.seed,
        epochs=None,
        labels=True,
        finish=[augment],
    )


def compile_classifier(model: ImageClassifier, label_smoothing: float, optimizer: Any) -> None:
    """Cross-entropy and accuracy against one-hot labels."""
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=model.activation is None, label_smoothing=label_smoothing
        ),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )


def finetune_optimizer(recipe: FinetuneRecipe, model: ImageClassifier, rate: Any) -> Any:
    """Layer-wise decayed AdamW, built."""
    averages = {}
    if recipe.ema_momentum is not None:
        averages = {"use_ema": True, "ema_momentum": recipe.ema_momentum}
    optimizer = LayerDecayAdamW(
        model,
        rate,
        recipe.layer_decay,
        weight_decay=recipe.weight_decay,
        beta_1=recipe.beta_1,
        beta_2=recipe.beta_2,
        global_clipnorm=recipe.clip_norm,
        **averages,
    )
    optimizer.build(model.trainable_variables)
    return optimizer


def measure(
    model: ImageClassifier, source: Source, transform: Any, normalize: Normalize, batch_size: int
) -> dict[str, float]:
    """{"loss", "accuracy"} of a compiled classifier on a labelled source."""
    loader = Loader(
        source,
        min(batch_size, len(source)),
        transform=transform,
        normalize=normalize,
        shuffle=False,
        drop_remainder=False,
        labels=True,
        finish=[KerasAugment([], model.num_classes)],
    )
    values = keras.Model.evaluate(
        model, loader.dataset(), steps=loader.steps_per_epoch, verbose=0, return_dict=True
    )
    return {name: float(value) for name, value in values.items()}
