"""The parts of a fine-tuning run: classifier, loaders, optimizer, accuracy."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mimzoo.data import Loader, Source, check_labels
from mimzoo.data.augment import KerasAugment, finetune_augment
from mimzoo.hub import preset_class, resolve
from mimzoo.hub.cache import cached_digest
from mimzoo.models import ViTBackbone
from mimzoo.models.vit import VIT_SIZES, vit_size
from mimzoo.optimizers import LayerDecayAdamW
from mimzoo.tasks import ImageClassifier
from mimzoo_training import parts
from mimzoo_training.distribution import Devices
from mimzoo_training.files import read_json, weights_of
from mimzoo_training.recipes import get_recipe, list_recipes
from mimzoo_training.recipes.recipe_kinds import FinetuneRecipe


def recipe_for(preset: str) -> FinetuneRecipe:
    """The fine-tuning recipe of a preset's backbone and size, and of its method where there is one.

    A size without a recipe gets that of the nearest width, at the preset's own image size. No
    recipe makes the images smaller than they were in pretraining.

    Raises:
        ValueError: an unknown preset, or a backbone without any recipe.
    """
    folder = Path(resolve(preset))
    cls = preset_class(folder)
    config = read_json(folder / "config.json", "config")["config"]
    family, sizes = cls.family, _sizes(cls)
    names = [name for name in list_recipes("finetune") if name.startswith(f"{family}_")]
    known = [size for size in sizes if any(n.startswith(f"{family}_{size}_") for n in names)]
    if not known:
        raise ValueError(
            f"there is no fine-tuning recipe for the {cls.__name__} of {preset}: name one with "
            f"--recipe: {', '.join(list_recipes('finetune'))}."
        )
    own = _size_of(sizes, config)
    width = config["embed_dim"]
    size = own if own in known else min(known, key=lambda s: _ratio(sizes[s]["embed_dim"], width))
    method = preset_name(preset).removeprefix(f"{family}_{own}_").partition("_")[0]
    names = [name for name in names if name.startswith(f"{family}_{size}_")]
    named = [name for name in names if name.startswith(f"{family}_{size}_{method}_")]
    recipe = get_recipe((named or names)[0])
    image_size = config["image_shape"][0]
    if size == own and image_size <= recipe.image_size:
        return recipe
    inferred = {**recipe.inferred, "image_size": "that of the preset"}
    if size != own:
        inferred["size"] = f"all else is that of {recipe.name}, whose width is the nearest"
    changed = recipe.with_changes(image_size=image_size)
    # Windows are those of the preset: the recipe's fit its own image size.
    return dataclasses.replace(changed, size=own or f"w{width}", architecture={}, inferred=inferred)


def family_and_size(preset: str) -> tuple[str, str | None]:
    """Short name of a preset's backbone, and the name of its size, if it has one."""
    folder = Path(resolve(preset))
    cls = preset_class(folder)
    config = read_json(folder / "config.json", "config")["config"]
    return cls.family, _size_of(_sizes(cls), config)


def _sizes(cls: type) -> dict[str, dict]:
    """The arguments of each named size of a backbone's class."""
    return {s: vit_size(s) for s in VIT_SIZES} if issubclass(cls, ViTBackbone) else cls.sizes


def _size_of(sizes: dict[str, dict], config: dict) -> str | None:
    """The name of the size whose width, depth and heads a configuration has."""
    for size, arguments in sizes.items():
        names = {"embed_dim", "depth", "depths", "num_heads"} & set(arguments)
        if all(_plain(config[n]) == _plain(arguments[n]) for n in names):
            return size
    return None


def _ratio(one: int, other: int) -> float:
    return max(one / other, other / one)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def preset_name(preset: str) -> str:
    """What a preset is called: by its recipe, or by its folder."""
    path = Path(resolve(preset)) / "recipe.json"
    if path.is_file():
        return read_json(path, "recipe")["recipe"]["name"]
    return Path(str(preset).partition("@")[0].rstrip("/")).name


def weights_digest(preset: str | keras.Model) -> str | None:
    """Of the file of weights that a run begins with; None of a backbone in memory, or of shards."""
    if isinstance(preset, keras.Model):
        return None
    path = Path(resolve(preset)) / "model.weights.h5"
    return cached_digest(path) if path.is_file() else None


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
        batch_transform=[augment, functools.partial(_smoothed, share=recipe.label_smoothing)],
        shard=shard,
    )


def _smoothed(batch: dict[str, np.ndarray], seed: int, share: float) -> dict[str, np.ndarray]:
    """A batch whose labels give `share` to all classes alike; validation has none of that."""
    labels = batch["labels"]
    return {**batch, "labels": labels * np.float32(1 - share) + np.float32(share / labels.shape[1])}


def compile_classifier(model: ImageClassifier, optimizer: Any) -> None:
    """Cross-entropy and accuracy against one-hot labels."""
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=model.activation is None),
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
