"""Augmentation made of Keras layers, for whole batches in the input pipeline.

`KerasAugment` is a `batch_transform` of `mimzoo.data.Loader`: it takes a batch and a seed. Layers
keep random state, so each thread has its own copy of them, seeded anew for each call: what a batch
gets follows from its seed, not from the batches before it or from the thread. All is computed on
the CPU and handed back as NumPy.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from mimzoo.data.random import uniform

Batch = dict[str, Any]

_MIXING = ("CutMix", "FourierMix", "MixUp", "Mosaic")
# KerasCV draws from TensorFlow's one global generator, and Keras on torch draws Beta and Gamma
# numbers from torch's; calls from two threads would mix.
_GLOBAL_GENERATOR = threading.Lock()
_DRAWS_BETA = ("AugMix", "CutMix", "MixUp")


@dataclass(frozen=True)
class OneOf:
    """One of several layers, drawn anew for each batch.

    Args:
        layers: Keras or KerasCV layers.
        probabilities: of each layer, adding up to 1; by default all are as likely.
        rate: probability of each image to be changed at all.
        group_size: draws anew for each so many neighbours in the batch, which makes a batch more
            varied; by default the entire batch gets the same layer. Not for layers that mix
            images, which see the group only.
    """

    layers: Sequence[Any]
    probabilities: Sequence[float] | None = None
    rate: float = 1.0
    group_size: int | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("OneOf needs at least one layer.")
        chances = self.probabilities
        if chances is not None and (
            len(chances) != len(self.layers) or min(chances) < 0 or abs(sum(chances) - 1) > 1e-6
        ):
            raise ValueError(
                f"probabilities must be {len(self.layers)} numbers adding up to 1, got {chances!r}."
            )
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must lie in [0, 1], got {self.rate!r}.")
        if self.group_size is not None and self.group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {self.group_size!r}.")

    def pick(self, number: float) -> Any:
        """The layer for a uniform number in [0, 1)."""
        chances = self.probabilities or [1 / len(self.layers)] * len(self.layers)
        index = int(np.searchsorted(np.cumsum(chances), number, side="right"))
        return self.layers[min(index, len(self.layers) - 1)]


class KerasAugment:
    """Applies Keras layers, one after the other, to a batch of images and labels.

    ```python
    augment = KerasAugment(
        [keras.layers.RandomFlip("horizontal"), keras.layers.MixUp(0.8)], num_classes=1000
    )
    loader = mimzoo.data.Loader(source, 256, labels=True, batch_transform=[augment])
    ```

    A layer of KerasCV (package keras-cv, which computes with TensorFlow) may stand wherever one
    of Keras may. TensorFlow's global seed is then set in each call. (Its CutMix counts in the
    labels what of a box lies beyond the image.)

    Args:
        layers: image augmentation layers of Keras or KerasCV, which get images and labels;
            `keras.layers.Rescaling`, `Normalization` and `Resizing`, which get images; or `OneOf`.
            They are copied through `get_config`.
        num_classes: makes one-hot labels of integer ones. Needed for layers that mix images.
            By default labels stay as they are.
        value_range: of the images, as the layers expect it. uint8 images are scaled to it.

    Raises:
        ValueError: something that is no layer, or a layer that its config does not make again;
            when called: images or labels of a wrong shape, images outside of `value_range`,
            labels that are no class, or integer labels before a mixing layer.
    """

    def __init__(
        self,
        layers: Sequence[Any],
        num_classes: int | None = None,
        value_range: tuple[float, float] = (0, 255),
    ) -> None:
        if not value_range[0] < value_range[1]:
            raise ValueError(f"value_range must be (low, high), got {value_range!r}.")
        self.num_classes = num_classes
        self.value_range = value_range
        stages = [s if isinstance(s, OneOf) else OneOf([s]) for s in layers]
        for layer in (layer for stage in stages for layer in stage.layers):
            if not isinstance(layer, keras.Layer):
                raise ValueError(f"layers must be Keras or KerasCV layers, got {layer!r}.")
            if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
                value_range = None  # unknown after such a layer
            own = getattr(layer, "value_range", None)
            if None not in (own, value_range) and tuple(own) != tuple(value_range):
                raise ValueError(
                    f"{type(layer).__name__} takes images of {tuple(own)}, and these are of "
                    f"{tuple(value_range)}: give both the same value_range."
                )
        self._mixes = any(type(x).__name__ in _MIXING for s in stages for x in s.layers)
        self._recipe = [
            replace(s, layers=[(type(x), x.get_config()) for x in s.layers]) for s in stages
        ]
        self._local = threading.local()
        self._stages()

    def __getstate__(self) -> dict:
        return {k: v for k, v in vars(self).items() if k != "_local"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, _local=threading.local())

    def __call__(self, batch: Batch, seed: int) -> Batch:
        """Augment a batch.

        Args:
            batch: "images" (B, H, W, 3), uint8 or float within `value_range`; optionally "labels",
                (B,) integers or (B, num_classes) shares. Other entries pass unchanged.
            seed: what the batch gets follows from it.

        Returns:
            A new dict: images (B, H', W', 3) float32, labels (B, num_classes) float32 if
            `num_classes` is given.
        """
        images, labels = self._images(batch["images"]), self._labels(batch.get("labels"))
        with keras.device("cpu"):
            for number, stage in enumerate(self._stages()):
                images, labels = _apply(stage, images, labels, seed, number)
        batch = {**batch, "images": images}
        if labels is not None:
            batch["labels"] = labels
        return batch

    def _stages(self) -> list[OneOf]:
        if not hasattr(self._local, "stages"):
            with keras.device("cpu"):
                self._local.stages = [
                    replace(s, layers=[_copy(*layer) for layer in s.layers]) for s in self._recipe
                ]
        return self._local.stages

    def _images(self, images: Any) -> np.ndarray:
        images = np.asarray(images)
        low, high = self.value_range
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images must have the shape (B, H, W, 3), got {images.shape}.")
        if images.dtype == np.uint8:
            return images.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
        images = images.astype(np.float32)
        if images.size and not (images.min() >= low and images.max() <= high):
            raise ValueError(
                f"images lie in [{images.min()}, {images.max()}], outside of value_range "
                f"{self.value_range}: augment before normalising, or give their range."
            )
        return images

    def _labels(self, labels: Any) -> np.ndarray | None:
        if labels is None:
            return None
        labels = np.asarray(labels)
        if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
            if self.num_classes is None:
                if self._mixes:
                    raise ValueError("Mixing images needs num_classes to mix integer labels.")
                return labels
            if labels.size and not (labels.min() >= 0 and labels.max() < self.num_classes):
                raise ValueError(
                    f"labels must lie in 0..{self.num_classes - 1}, got {labels.min()} to "
                    f"{labels.max()}."
                )
            return np.eye(self.num_classes, dtype=np.float32)[labels]
        if labels.ndim != 2 or self.num_classes not in (None, labels.shape[1]):
            raise ValueError(
                f"labels must be (B,) integers or (B, {self.num_classes or 'classes'}) shares, got "
                f"{labels.dtype} of shape {labels.shape}."
            )
        return labels.astype(np.float32)


def _copy(cls: type, config: dict) -> Any:
    try:
        return cls.from_config(dict(config))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A {cls.__name__} cannot be made again from its own config; give its ranges as pairs "
            f"(low, high). {error}"
        ) from error


def _apply(
    stage: OneOf, images: np.ndarray, labels: np.ndarray | None, seed: int, number: int
) -> tuple[np.ndarray, np.ndarray | None]:
    size = stage.group_size or len(images)
    parts = []
    for group, start in enumerate(range(0, len(images), size)):
        part = slice(start, start + size)
        old = images[part], None if labels is None else labels[part]
        pick, *state = uniform(seed, number, np.array([group]), 3, stream="augment")[0]
        layer_seed = int(state[0] * 2**24) * 2**7 + int(state[1] * 2**7)
        new = _run(stage.pick(pick), *old, layer_seed)
        if stage.rate < 1:
            rows = np.arange(start, start + len(old[0]))
            keep = uniform(seed, number, rows, 1, stream="augment rate")[:, 0] >= stage.rate
            new[0][keep] = old[0][keep]
            if labels is not None:
                new[1][keep] = old[1][keep]
        parts.append(new)
    if len(parts) == 1:
        return parts[0]
    together = np.concatenate([p[0] for p in parts])
    return together, None if labels is None else np.concatenate([p[1] for p in parts])


def _run(
    layer: Any, images: np.ndarray, labels: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    # Integer labels are not for mixing; they pass by.
    shares = labels if labels is not None and labels.ndim == 2 else None
    _reseed(layer, seed)
    if type(layer).__module__.startswith("keras_cv"):
        out = _run_keras_cv(layer, images, shares, seed)
    elif hasattr(layer, "transform_labels"):
        data = {"images": keras.ops.convert_to_tensor(images)}
        if shares is not None:
            data["labels"] = keras.ops.convert_to_tensor(shares)
        with _global_generator(layer):
            out = layer(data, training=True)
    else:
        out = {"images": layer(keras.ops.convert_to_tensor(images))}
    # A copy: the tensor's memory may be read-only, or the input's.
    new = np.array(keras.ops.convert_to_numpy(out["images"]), dtype=np.float32)
    if shares is not None and "labels" in out:
        labels = np.array(keras.ops.convert_to_numpy(out["labels"]), dtype=np.float32)
    return new, None if labels is None else np.array(labels)


def _global_generator(layer: Any) -> AbstractContextManager:
    draws = keras.backend.backend() == "torch" and any(
        base.__name__ in _DRAWS_BETA for base in type(layer).__mro__
    )
    return _GLOBAL_GENERATOR if draws else nullcontext()


def _run_keras_cv(layer: Any, images: np.ndarray, shares: np.ndarray | None, seed: int) -> Batch:
    import tensorflow as tf

    # On TensorFlow its mixing layers want tensors; on the others it converts by itself.
    convert = tf.constant if keras.backend.backend() == "tensorflow" else np.asarray
    data = {"images": convert(images)}
    if shares is not None:
        data["labels"] = convert(shares)
    with _GLOBAL_GENERATOR, tf.device("CPU:0"):
        tf.random.set_seed(seed)
        _reseed(layer, seed)
        return layer(data, training=True)


def _reseed(layer: Any, seed: int) -> None:
    for position, generator in enumerate(_generators(layer, set())):
        # Neighbouring states start unrelated streams.
        new = (seed + position) % 2**31
        if isinstance(generator, keras.random.SeedGenerator):
            state = generator.state
            state.assign(np.array([new, 0], dtype=keras.backend.standardize_dtype(state.dtype)))
        else:
            generator.reset_from_seed(new)


def _generators(thing: Any, seen: set[int]) -> Iterator[Any]:
    """Keras' seed generators and TensorFlow's generators in a layer and the layers in it."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, keras.random.SeedGenerator) or hasattr(thing, "reset_from_seed"):
        yield thing
    elif isinstance(thing, keras.Layer):
        for name in sorted(vars(thing)):
            yield from _generators(vars(thing)[name], seen)
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from _generators(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _generators(value, seen)
