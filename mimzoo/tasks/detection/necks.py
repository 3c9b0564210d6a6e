"""From a backbone's maps to the pyramid that a detector's heads read."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.tasks.maps import build_chain, run, scaling_layers


def _channel_norm(**options: Any) -> keras.layers.LayerNormalization:
    """detectron2's `LN`: layer norm of the channels of each place."""
    return keras.layers.LayerNormalization(epsilon=1e-6, **options)


@keras.saving.register_keras_serializable(package="mimzoo")
class SimpleFeaturePyramid(keras.layers.Layer):
    """One map of a plain ViT -> maps of several sizes: ViTDet's simple feature pyramid.

    Li et al., arXiv 2203.16527; detectron2, modeling/backbone/vit.py, `SimpleFeaturePyramid`. The
    map is scaled by transposed convolutions of stride 2, each of half of the channels (two of them
    with layer norm and GELU in between), or by maximum pooling; then come convolutions of 1 x 1 and
    3 x 3 without bias, each with layer norm.

    Args:
        channels: of all results.
        powers: of the scales 2^power, in the order of the results; at most 2. ViTDet's are x4, x2,
            x1 and x0.5.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, channels: int = 256, powers: Sequence[int] = (2, 1, 0, -1), **kwargs):
        super().__init__(**kwargs)
        self.channels, self.powers = channels, tuple(powers)
        self.chains: list[list[keras.layers.Layer]] = []

    def build(self, shape: tuple) -> None:
        """For a map (B, rows, cols, D)."""
        shared, conv = {"dtype": self.dtype_policy}, {"padding": "same", "use_bias": False}
        for power in self.powers:
            chain = scaling_layers(
                power,
                [shape[-1] // 2, shape[-1] // 4],
                lambda: _channel_norm(**shared),
                "up",
                **shared,
            )
            for size in (1, 3):
                chain += [
                    keras.layers.Conv2D(self.channels, size, name=f"conv_{size}", **conv, **shared),
                    _channel_norm(name=f"norm_{size}", **shared),
                ]
            build_chain(chain, shape)
            self.chains.append(chain)

    def call(self, x: Tensor) -> list[Tensor]:
        """(B, rows, cols, D) -> maps (B, rows x 2^power, cols x 2^power, channels)."""
        return [run(chain, x, None) for chain in self.chains]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels, "powers": self.powers}


@keras.saving.register_keras_serializable(package="mimzoo")
class TopDownPyramid(keras.layers.Layer):
    """Maps of a backbone with stages -> maps of the same sizes: a feature pyramid network.

    Lin et al., arXiv 1612.03144, as KerasHub's RetinaNetBackbone has it, at any number of channels
    and sizes that are not halves of each other: convolutions of 1 x 1; each map is added to the one
    below, resized by nearest neighbours; convolutions of 3 x 3.

    Args:
        channels: of all results.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, channels: int = 256, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, shapes: list[tuple]) -> None:
        """For maps (B, rows, cols, D), the finest first."""

        def conv(size: int, name: str, shape: tuple) -> keras.layers.Layer:
            layer = keras.layers.Conv2D(
                self.channels, size, padding="same", name=name, dtype=self.dtype_policy
            )
            layer.build(shape)
            return layer

        self.laterals = [conv(1, f"lateral_{n}", shape) for n, shape in enumerate(shapes)]
        self.outputs = [
            conv(3, f"output_{n}", (*shape[:-1], self.channels)) for n, shape in enumerate(shapes)
        ]

    def call(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps (B, rows, cols, D), the finest first -> (B, rows, cols, channels)."""
        maps = [layer(level) for layer, level in zip(self.laterals, levels, strict=True)]
        for n in range(len(maps) - 1, 0, -1):
            rows, cols = maps[n - 1].shape[1:3]
            # A coarser map is half of the finer one, rounded up.
            finer = ops.repeat(ops.repeat(maps[n], 2, axis=1), 2, axis=2)
            maps[n - 1] = maps[n - 1] + finer[:, :rows, :cols]
        return [layer(level) for layer, level in zip(self.outputs, maps, strict=True)]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="mimzoo")
class CoarserLevels(keras.layers.Layer):
    """Further maps after the last one of a pyramid, each by a convolution of 3 x 3 of stride 2.

    RetinaNet's P6 and P7 (Lin et al., arXiv 1708.02002, section 4), with ReLU between them.

    Args:
        count: how many.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, count: int, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    def build(self, shapes: list[tuple]) -> None:
        """For maps (B, rows, cols, channels), the finest first."""
        self.convs = [
            keras.layers.Conv2D(
                shapes[-1][-1], 3, 2, padding="same", name=f"conv_{n}", dtype=self.dtype_policy
            )
            for n in range(self.count)
        ]
        build_chain(self.convs, shapes[-1])

    def call(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps, the finest first -> these and `count` more, each half as large, rounded up."""
        levels = list(levels)
        for number, conv in enumerate(self.convs):
            levels.append(conv(ops.relu(levels[-1]) if number else levels[-1]))
        return levels

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "count": self.count}
