"""The learned token that stands for hidden patches."""

import keras
from keras import ops

from mimzoo.backend import Tensor


@keras.saving.register_keras_serializable(package="mimzoo")
class MaskToken(keras.layers.Layer):
    """Puts one learned token in place of the hidden ones: (B, N, D), (B, N) -> (B, N, D).

    SimMIM (models/simmim.py) starts it from a normal of std 0.02.
    """

    def build(self, input_shape: tuple) -> None:
        """Creates the token."""
        self.token = self.add_weight(
            name="token",
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        self.built = True

    def call(self, tokens: Tensor, masks: Tensor) -> Tensor:
        """Replaces the tokens whose mask is 1."""
        hidden = ops.cast(masks[..., None], "bool")
        return ops.where(hidden, ops.cast(self.token, tokens.dtype), tokens)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return super().get_config()
