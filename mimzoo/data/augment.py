"""The papers' fine-tuning augmentation, made of Keras layers."""

from collections.abc import Sequence
from typing import Any

import keras

from mimzoo.data.keras_augment import KerasAugment, OneOf
from mimzoo.data.normalize import IMAGENET_MEAN, IMAGENET_STD, check_statistics

__all__ = ["KerasAugment", "OneOf", "finetune_augment", "rand_augment"]


def rand_augment(
    magnitude: float = 9.0,
    num_ops: int = 2,
    rate: float = 0.5,
    group_size: int | None = 8,
    fill_value: float = 128.0,
) -> list[OneOf]:
    """RandAugment from Keras layers, on images of 0..255, after timm's `rand-m9-mstd0.5-inc1`.

    Operations and ranges are those of timm/data/auto_augment.py ("increasing"). What differs,
    since Keras' layers are made that way: the strength is uniform up to that of `magnitude`
    instead of close to it; brightness is added instead of multiplied; colour is only taken
    away; the solarizing threshold is anywhere in 0..255; SolarizeAdd has no such layer and is left
    out; neighbours in a batch share the operation, each with a strength of its own.
    `keras.layers.RandAugment` may be used instead, but computes all its operations on all images,
    and its one default factor for all of them means a rotation by up to half a turn.

    Args:
        magnitude: timm's "m", in (0, 10].
        num_ops: operations on an image, one after the other.
        rate: probability of each image to undergo each of them.
        group_size: how many neighbours share the operation; None for the entire batch.
        fill_value: of pixels from outside of the image (timm's default is this grey).

    Returns:
        `num_ops` stages for `KerasAugment`.

    Raises:
        ValueError: a `magnitude` outside (0, 10].
    """
    if not 0 < magnitude <= 10:
        raise ValueError(f"magnitude must lie in (0, 10], got {magnitude!r}.")
    level = magnitude / 10
    shear, move, enhance = 0.3 * level, 0.45 * level, 0.9 * level
    plain = {"dtype": "float32"}
    fill = {"fill_mode": "constant", "fill_value": fill_value, **plain}

    def operations() -> list[Any]:
        make = keras.layers
        return [
            make.AutoContrast(**plain),
            make.Equalization(**plain),
            make.RandomInvert(factor=(1.0, 1.0), **plain),
            make.RandomRotation(30 / 360 * level, **fill),
            make.RandomPosterization(factor=max(1, 4 - int(4 * level)), **plain),
            make.Solarization(threshold_factor=1.0, **plain),
            # Not RandomSaturation, which leaves the range of 0..255.
            make.RandomColorDegeneration(enhance, **plain),
            make.RandomContrast(enhance, **plain),
            make.RandomBrightness(enhance, **plain),
            make.RandomSharpness((0.5 - enhance / 2, 0.5 + enhance / 2), **plain),
            make.RandomShear(x_factor=(0.0, shear), **fill),
            make.RandomShear(y_factor=(0.0, shear), **fill),
            make.RandomTranslation(height_factor=0.0, width_factor=move, **fill),
            make.RandomTranslation(height_factor=move, width_factor=0.0, **fill),
        ]

    return [OneOf(operations(), rate=rate, group_size=group_size) for _ in range(num_ops)]


def finetune_augment(
    num_classes: int,
    *,
    flip: bool = True,
    rand_augment: bool = True,
    random_erasing: float = 0.25,
    mixup: float = 0.8,
    cutmix: float = 1.0,
    switch_prob: float = 0.5,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> KerasAugment:
    """Flip, RandAugment, random erasing, then mixup or cutmix: MAE's, SimMIM's and MixMIM's.

    Defaults are MAE's (FINETUNE.md, main_finetune.py). Images are 0..255 before and
    after, so normalise afterwards; erased pixels are noise of one standard deviation around the
    mean. Label smoothing is the loss's: `CategoricalCrossentropy(label_smoothing=0.1)`.

    Where Keras' layers differ from timm's, which the papers use: mixup and cutmix are chosen for
    the whole batch, but each image has its own partner and share; the noise is clipped at one
    standard deviation; an erased box has its height and width drawn independently.

    Args:
        num_classes: of the one-hot labels.
        flip: left-right, half of the images. Leave out if the transform flips already.
        rand_augment: see `rand_augment`.
        random_erasing: probability of each image to lose a box; 0 for none.
        mixup: alpha of the Beta distribution of the shares, up to 1; 0 for none.
        cutmix: likewise, for the area kept.
        switch_prob: probability of cutmix if both are on.
        mean: of each channel, on the scale 0..1.
        std: of each channel, on the scale 0..1.

    Returns:
        A `batch_transform` for `mimzoo.data.Loader`: ({"images", "labels"}, seed) -> such a dict,
        with images (B, H, W, 3) float32 and labels (B, num_classes) float32.

    Raises:
        ValueError: a probability or alpha outside [0, 1].
    """
    for name in ("random_erasing", "mixup", "cutmix", "switch_prob"):
        if not 0 <= locals()[name] <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {locals()[name]!r}.")
    plain = {"dtype": "float32"}
    layers: list[Any] = []
    if flip:
        layers.append(keras.layers.RandomFlip("horizontal", **plain))
    if rand_augment:
        layers += _rand_augment()
    if random_erasing:
        layers += _erasing(random_erasing, mean, std)
    mixing = {}
    if mixup:
        mixing[keras.layers.MixUp(alpha=mixup, **plain)] = 1 - switch_prob if cutmix else 1.0
    if cutmix:
        cut = keras.layers.CutMix(factor=(cutmix, cutmix), **plain)
        mixing[cut] = switch_prob if mixup else 1.0
    if mixing:
        layers.append(OneOf(list(mixing), list(mixing.values())))
    return KerasAugment(layers, num_classes)


_rand_augment = rand_augment


def _erasing(rate: float, mean: Sequence[float], std: Sequence[float]) -> list[Any]:
    """Erasing in normalised units. A box is 0.02 to 1/3 of the image (timm's RandomErasing)."""
    check_statistics(mean, std)
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    back = [255 * s for s in std]
    return [
        keras.layers.Rescaling(scale, offset, dtype="float32"),
        keras.layers.RandomErasing(
            factor=(rate, rate), scale=(0.02, 1 / 3), value_range=(-1, 1), dtype="float32"
        ),
        keras.layers.Rescaling(back, [255 * m for m in mean], dtype="float32"),
    ]
