"""Dropout whose draws a captured training step may hold."""

import keras

from mimzoo.backend import Tensor, uniform_rows


@keras.saving.register_keras_serializable(package="mimzoo")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, which draws as `DropPath` does.

    Keras' own reads the state of its seed from the device, so that no CUDA graph holds the step,
    and draws other numbers on several devices than on one.

    Args:
        rate: share of the inputs that are dropped in training, in [0, 1]; the rest is scaled up by
            1 / (1 - rate).
        noise_shape: shape of the draws, None where it is that of the inputs, 1 along axes that are
            dropped as a whole: (None, 1, 1, None) drops channels of maps (B, rows, cols, C), as
            `keras.layers.SpatialDropout2D`. Default: all of the inputs.
        seed: of the draws.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Any shape (B, ...) -> the same shape."""
        if not training or not self.rate:
            return inputs
        sizes = keras.ops.shape(inputs)
        given = self.noise_shape or (None,) * len(sizes)
        shape = tuple(n if fixed is None else fixed for n, fixed in zip(sizes, given, strict=True))
        kept = uniform_rows(shape, self.seed_generator) >= self.rate
        scale = 1 / (1 - self.rate) if self.rate < 1 else 0.0
        return inputs * keras.ops.cast(kept, inputs.dtype) * scale
