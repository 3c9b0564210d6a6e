"""Heads of segmentation: from a pyramid of maps to the logits of each pixel."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor, add_constant
from mimzoo.layers.dropout import Dropout
from mimzoo.tasks.segmentation.levels import batch_norm, resized

HEADS = ("upernet", "linear")


def averaging_matrix(old: int, new: int) -> np.ndarray:
    """(new, old) float32: means over `new` equal parts of an axis, as torch's adaptive pooling.

    Part i is from floor(i * old / new) to ceil((i + 1) * old / new), so parts may overlap.
    """
    place = np.arange(old)
    first = np.arange(new)[:, None] * old // new
    end = -(-np.arange(1, new + 1)[:, None] * old // new)
    inside = ((place >= first) & (place < end)).astype(np.float32)
    return inside / inside.sum(1, keepdims=True)


class ConvNorm(keras.layers.Layer):
    """Convolution without bias, batch norm, ReLU.

    Args:
        channels: of the result.
        kernel_size: side of the kernel; the map keeps its size.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, channels: int, kernel_size: int, **kwargs):
        super().__init__(**kwargs)
        shared = {"dtype": self.dtype_policy}
        self.conv = keras.layers.Conv2D(
            channels,
            kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name="conv",
            **shared,
        )
        self.norm = batch_norm(name="norm", **shared)

    def build(self, shape: tuple) -> None:
        """For maps (B, rows, cols, channels)."""
        self.conv.build(shape)
        self.norm.build(self.conv.compute_output_shape(shape))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """(B, rows, cols, C) -> (B, rows, cols, channels)."""
        return ops.relu(self.norm(self.conv(x), training=training))


class Classify(keras.layers.Layer):
    """Dropout of whole channels and a convolution of 1 x 1; the logits are float32.

    Args:
        num_classes: channels of the result.
        dropout: share of the channels that are dropped in training.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, num_classes: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        shared = {"dtype": self.dtype_policy}
        self.dropout = Dropout(dropout, (None, 1, 1, None), name="dropout", **shared)
        self.conv = keras.layers.Conv2D(
            num_classes,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="conv",
            **shared,
        )

    def build(self, shape: tuple) -> None:
        """For maps (B, rows, cols, channels)."""
        self.conv.build(shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """(B, rows, cols, C) -> (B, rows, cols, num_classes) float32."""
        return ops.cast(self.conv(self.dropout(x, training=training)), "float32")


@keras.saving.register_keras_serializable(package="mimzoo")
class UPerNetHead(keras.layers.Layer):
    """UPerNet's head, with an auxiliary one for training.

    Xiao et al., arXiv 1807.10221, as mmsegmentation has it (uper_head.py, fcn_head.py): pyramid
    pooling on the coarsest map, lateral convolutions of 1 x 1, a feature pyramid of convolutions of
    3 x 3, all of its maps together at the finest size, one more convolution, and the classes. The
    auxiliary head is a convolution of 3 x 3 and the classes, on the last map but one.

    Args:
        num_classes: of the logits.
        channels: of all maps of the head.
        pool_scales: sides of the grids that the coarsest map is averaged to.
        auxiliary_channels: of the auxiliary head; 0 for none.
        dropout: before the classes.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 512,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        auxiliary_channels: int = 256,
        dropout: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.channels = channels
        self.pool_scales = tuple(pool_scales)
        self.auxiliary_channels = auxiliary_channels
        self.dropout = dropout

    def build(self, shapes: list[tuple]) -> None:
        """For maps (B, rows, cols, channels), the finest first."""
        shared = {"dtype": self.dtype_policy}
        sides = [tuple(shape[1:3]) for shape in shapes]
        self.flops = 0  # of the convolutions, for one image

        def conv(
            name: str, size: int, inputs: int, at: tuple[int, int], channels: int = self.channels
        ) -> ConvNorm:
            layer = ConvNorm(channels, size, name=name, **shared)
            layer.build((None, *at, inputs))
            self.flops += 2 * at[0] * at[1] * size**2 * inputs * channels
            return layer

        def classify(name: str, inputs: int, at: tuple[int, int]) -> Classify:
            layer = Classify(self.num_classes, self.dropout, name=name, **shared)
            layer.build((None, *at, inputs))
            self.flops += 2 * at[0] * at[1] * inputs * self.num_classes
            return layer

        *inner, last = (shape[-1] for shape in shapes)
        width = self.channels
        for side in self.pool_scales:
            for axis, old in zip("rc", shapes[-1][1:3], strict=True):
                add_constant(self, f"pool_{axis}{side}", averaging_matrix(old, side))
        self.pooled = [conv(f"pooled_{side}", 1, last, (side, side)) for side in self.pool_scales]
        self.bottleneck = conv("bottleneck", 3, last + len(self.pooled) * width, sides[-1])
        self.laterals = [conv(f"lateral_{n}", 1, size, sides[n]) for n, size in enumerate(inner)]
        self.outputs = [conv(f"output_{n}", 3, width, sides[n]) for n in range(len(inner))]
        self.fuse = conv("fuse", 3, len(shapes) * width, sides[0])
        self.classify = classify("classify", width, sides[0])
        self.auxiliary_layers = []
        if self.auxiliary_channels:
            level, count = self.auxiliary_level(len(shapes)), self.auxiliary_channels
            self.auxiliary_layers = [
                conv("auxiliary", 3, shapes[level][-1], sides[level], count),
                classify("auxiliary_classify", count, sides[level]),
            ]

    def call(self, levels: list[Tensor], training: bool | None = None) -> Tensor:
        """Maps, the finest first -> logits (B, rows, cols, num_classes) at the finest size."""
        *inner, last = levels
        size = tuple(last.shape[1:3])
        pooled = [
            resized(layer(self._pool(last, side), training=training), size)
            for side, layer in zip(self.pool_scales, self.pooled, strict=True)
        ]
        top = self.bottleneck(ops.concatenate([last, *pooled], axis=-1), training=training)
        maps = [
            layer(level, training=training)
            for layer, level in zip(self.laterals, inner, strict=True)
        ]
        maps.append(top)
        for n in range(len(maps) - 1, 0, -1):
            maps[n - 1] = maps[n - 1] + resized(maps[n], tuple(maps[n - 1].shape[1:3]))
        maps = [
            layer(level, training=training)
            for layer, level in zip(self.outputs, maps[:-1], strict=True)
        ]
        finest = tuple(maps[0].shape[1:3]) if maps else size
        fused = ops.concatenate([resized(level, finest) for level in (*maps, top)], axis=-1)
        return self.classify(self.fuse(fused, training=training), training=training)

    def _pool(self, x: Tensor, side: int) -> Tensor:
        # Keras' own adaptive pooling fails on TensorFlow where the map is smaller than the result.
        rows, columns = (
            ops.cast(ops.convert_to_tensor(getattr(self, f"pool_{axis}{side}")), x.dtype)
            for axis in "rc"
        )
        return ops.einsum("rh,bhwk,cw->brck", rows, x, columns)

    def auxiliary(self, levels: list[Tensor], training: bool | None = None) -> Tensor:
        """Maps -> logits (B, rows, cols, num_classes) of the auxiliary head, at its map's size."""
        x = levels[self.auxiliary_level(len(levels))]
        for layer in self.auxiliary_layers:
            x = layer(x, training=training)
        return x

    @staticmethod
    def auxiliary_level(count: int) -> int:
        """Which of so many maps the auxiliary head reads."""
        return max(count - 2, 0)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("num_classes", "channels", "pool_scales", "auxiliary_channels", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="mimzoo")
class LinearHead(keras.layers.Layer):
    """Batch norm and one linear layer: what frozen features are worth.

    All maps are resized to the finest and concatenated, as in the linear evaluation of DINOv2 with
    four layers (arXiv 2304.07193, section 7.4).

    Args:
        num_classes: of the logits.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        shared = {"dtype": self.dtype_policy}
        self.norm = batch_norm(name="norm", **shared)
        self.classify = Classify(num_classes, 0.0, name="classify", **shared)

    def build(self, shapes: list[tuple]) -> None:
        """For maps (B, rows, cols, channels), the finest first."""
        shape = (None, *shapes[0][1:3], sum(shape[-1] for shape in shapes))
        self.flops = 2 * shape[1] * shape[2] * shape[3] * self.num_classes
        self.norm.build(shape)
        self.classify.build(shape)

    def call(self, levels: list[Tensor], training: bool | None = None) -> Tensor:
        """Maps, the finest first -> logits (B, rows, cols, num_classes) at the finest size."""
        finest = tuple(levels[0].shape[1:3])
        x = ops.concatenate([resized(level, finest) for level in levels], axis=-1)
        return self.classify(self.norm(x, training=training))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "num_classes": self.num_classes}


def make_head(kind: str, num_classes: int, dtype: Any, **options: Any) -> keras.layers.Layer:
    """The head of a kind in `HEADS`; `options` are those of UPerNet's."""
    if kind == "linear":
        return LinearHead(num_classes, dtype=dtype, name="head")
    return UPerNetHead(num_classes, dtype=dtype, name="head", **options)
