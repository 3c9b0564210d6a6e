"""What dense heads share: norms of a backbone's maps, and maps scaled by powers of two."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from mimzoo.backend import Tensor


@keras.saving.register_keras_serializable(package="mimzoo")
class LevelNorms(keras.layers.Layer):
    """Layer norm of the first maps, as Swin's dense models have (mmsegmentation, swin.py).

    Args:
        count: how many maps are normalised; further ones stay as they are.
        epsilon: of the norms.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, count: int, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        self.count, self.epsilon = count, epsilon
        self.norms = [
            keras.layers.LayerNormalization(
                epsilon=epsilon, dtype=self.dtype_policy, name=f"norm_{number}"
            )
            for number in range(count)
        ]

    def build(self, shapes: list[tuple]) -> None:
        """One norm for each of the first maps."""
        for norm, shape in zip(self.norms, shapes, strict=False):
            norm.build(shape)

    def call(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps (B, rows, cols, channels) -> maps of the same shapes."""
        normed = [norm(level) for norm, level in zip(self.norms, levels, strict=False)]
        return normed + list(levels[self.count :])

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "count": self.count, "epsilon": self.epsilon}


def scaling_layers(
    power: int,
    channels: Sequence[int],
    norm: Callable[[], keras.layers.Layer],
    name: str,
    **shared: Any,
) -> list[keras.layers.Layer]:
    """Layers that scale a map (B, rows, cols, channels) by 2^power.

    Args:
        power: of transposed convolutions of stride 2, or below zero of maximum pooling, which
            rounds up.
        channels: of the results of the transposed convolutions.
        norm: makes the layer that stands, with GELU after it, between two of them.
        name: of the transposed convolutions.
        **shared: of all layers.
    """
    if power < 0:
        return [keras.layers.MaxPooling2D(2**-power, padding="same", **shared)]
    layers: list[keras.layers.Layer] = []
    for step in range(power):
        if step:
            layers += [norm(), keras.layers.Activation("gelu", **shared)]
        layers.append(
            keras.layers.Conv2DTranspose(
                channels[step], 2, strides=2, name=f"{name}_{step}", **shared
            )
        )
    return layers


def build_chain(layers: Sequence[keras.layers.Layer], shape: tuple) -> tuple:
    """Builds layers that are called one after the other; returns the shape of the result."""
    for layer in layers:
        layer.build(shape)
        shape = layer.compute_output_shape(shape)
    return shape


def run(layers: Sequence[keras.layers.Layer], x: Tensor, training: bool | None) -> Tensor:
    """The layers one after the other."""
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization | keras.layers.Dropout):
            x = layer(x, training=training)
        else:
            x = layer(x)
    return x
