"""The parts of a fine-tuning run: classifier, loaders, optimizer, accuracy."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from mimzoo.data import Loader, Source, check_labels
from mimzoo.data.augment import KerasAugment, finetune_augment
from mimzoo.hub import preset_class, resolve
from mimzoo.models import ImageClassifier, ViTBackbone
from mimzoo.models.vit import VIT_SIZES, vit_size
from mimzoo.optimizers import LayerDecayAdamW
from mimzoo_training import parts
from mimzoo_training.distribution import Devices
from mimzoo_training.files import read_json, weights_of
from mimzoo_training.recipes import get_recipe, list_recipes
from mimzoo_training.recipes.kinds import FinetuneRecipe


def recipe_for(preset: str) -> FinetuneRecipe:
    """The fine-tuning recipe of a preset's backbone and size, and of its method where there is one.

    Raises:
        ValueError: an unknown preset, or no recipe for that size.
    """
    family, size = family_and_size(preset)
    names = [n for n in list_recipes("finetune") if n.startswith(f"{family}_{size}_")]
    if not names:
        raise ValueError(
            f"there is no fine-tuning recipe for the {family} backbone of {preset}: name one with "
            f"--recipe: {', '.join(list_recipes('finetune'))}."
        )
    method = preset_name(preset).removeprefix(f"{family}_{size}_").partition("_")[0]
    named = [n for n in names if n.startswith(f"{family}_{size}_{method}_")]
    return get_recipe((named or names)[0])


def family_and_size(preset: str) -> tuple[str, str | None]:
    """Short name of a preset's backbone, and the name of its size, if it has one."""
    folder = Path(resolve(preset))
    cls = preset_class(folder)
    return cls.family, _size_of(cls, read_json(folder / "config.json", "config")["config"])


def _size_of(cls: type, config: dict) -> str | None:
    """The name of the size whose width, depth and heads a configuration has."""
    if issubclass(cls, ViTBackbone):
        names, known = ("embed_dim", "depth", "num_heads"), {s: vit_size(s) for s in VIT_SIZES}
    else:
        names, known = ("embed_dim", "depths", "num_heads"), cls.sizes
    for size, arguments in known.items():
        if all(_plain(config[n]) == _plain(arguments[n]) for n in names):
            return size
    return None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def preset_name(preset: str) -> str:
    """What a preset is called: by its recipe, or by its folder."""
    path = Path(resolve(preset)) / "recipe.json"
    if path.is_file():
        return read_json(path, "recipe")["recipe"]["name"]
    return Path(str(preset).partition("@")[0].rstrip("/")).name


def run_name(recipe: FinetuneRecipe, start: str, num_labels: int | None) -> str:
    """<start>_ft_<data>_<pixels>, and what was changed."""
    changes = recipe.name.partition(f"_{recipe.data}_{recipe.image_size}")[2]
    labels = f"_{num_labels}labels" if num_labels else ""
    return f"{start}_ft_{recipe.data}_{recipe.image_size}{labels}{changes}"


def build_classifier(
    preset: Any,
    recipe: FinetuneRecipe,
    num_classes: int,
    load_weights: bool,
    dtype: str,
    class_names: Sequence[str] | None = None,
) -> ImageClassifier:
    """The classifier, not compiled.

    Args:
        preset: name or folder, or a backbone, which is taken as it is.
        recipe: says how.
        num_classes: of the data.
        load_weights: False: new weights.
        dtype: "float32" or "mixed_bfloat16".
        class_names: of the data, if they are known.
    """
    head = {
        "num_classes": num_classes,
        "class_names": class_names,
        "pooling": recipe.pooling,
        "head_init_std": recipe.head_init_std,
    }
    if isinstance(preset, keras.Model):
        model = ImageClassifier.for_backbone(type(preset))(preset, **head)
        model.preprocessor.image_converter.crop_fraction = recipe.crop_fraction
        return model
    cls = preset_class(resolve(preset))
    if cls.family != recipe.backbone:
        raise ValueError(
            f"{recipe.name} is a recipe for a backbone {recipe.backbone!r}, and {preset} holds a "
            f"{cls.__name__}: name another recipe, or none."
        )
    architecture = dict(recipe.architecture)
    if issubclass(cls, ViTBackbone):
        # The mean of the patches is normalised after pooling, the class token before.
        architecture["final_norm"] = recipe.pooling == "token"
        if recipe.learned_positions:
            architecture["position_embedding"] = "learned"
    with weights_of(preset):
        model = ImageClassifier.from_preset(
            preset,
            load_weights=load_weights,
            image_shape=(recipe.image_size, recipe.image_size, 3),
            drop_path_rate=recipe.drop_path_rate,
            dtype=dtype,
            **architecture,
            **head,
        )
    # As the run evaluates it, so `evaluate` does, too.
    model.preprocessor.image_converter.crop_fraction = recipe.crop_fraction
    return model


def with_statistics_of(recipe: FinetuneRecipe, model: ImageClassifier) -> FinetuneRecipe:
    """The recipe with the mean and std that the preset was trained with."""
    converter = model.preprocessor.image_converter
    return dataclasses.replace(recipe, mean=tuple(converter.mean), std=tuple(converter.std))


def check_source(source: Source, num_classes: int) -> None:
    """Raises ValueError unless every example has a label below `num_classes`."""
    try:
        check_labels(source.labels, num_classes)
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from error


def train_loader(
    recipe: FinetuneRecipe, source: Source, num_classes: int, shard: tuple[int, int] = (0, 1)
) -> Loader:
    """Augmented images and one-hot labels, without end; of each batch the part `shard`."""
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
        batch_transform=[augment],
        shard=shard,
    )


def compile_classifier(model: ImageClassifier, label_smoothing: float, optimizer: Any) -> None:
    """Cross-entropy and accuracy against one-hot labels."""
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=model.activation is None, label_smoothing=label_smoothing
        ),
        metrics=None,  # KerasHub would add one for integer labels
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
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
        no_weight_decay=parts.no_weight_decay(recipe, model),
        **averages,
    )
    optimizer.build(model.trainable_variables)
    return optimizer


def measure(
    model: ImageClassifier, source: Source, batch_size: int, devices: Devices | None = None
) -> dict[str, float]:
    """{"loss", "accuracy"} of a compiled classifier on a labelled source."""
    loader = parts.evaluation_loader(
        model,
        source,
        batch_size,
        labels=True,
        batch_transform=[KerasAugment([], model.num_classes)],
        **parts.padding(devices),
    )
    return parts.evaluate(model, loader, devices)
