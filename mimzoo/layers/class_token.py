"""The learned token that stands in front of the patches."""

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor


@keras.saving.register_keras_serializable(package="mimzoo")
class ClassToken(keras.layers.Layer):
    """Prepends one learned token: (B, N, D) -> (B, 1 + N, D).

    Starts at a normal distribution of std 0.02 (models_mae.py).

    Args:
        position: whether the token has a learned position of its own, added to it. MAE's fixed
            table has a row of zeros for it, so models with fixed positions need none.
    """

    def __init__(self, position: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.position = position

    def build(self, input_shape: tuple) -> None:
        """Creates the token."""
        shape = (1, 1, input_shape[-1])
        self.token = self.add_weight(
            name="token", shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.02)
        )
        if self.position:
            self.token_position = self.add_weight(name="position", shape=shape, initializer="zeros")
        self.built = True

    def call(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, 1 + N, D)."""
        token = self.token + self.token_position if self.position else self.token
        token = ops.cast(token, tokens.dtype)
        shape = (ops.shape(tokens)[0], 1, tokens.shape[-1])
        return ops.concatenate([ops.broadcast_to(token, shape), tokens], axis=1)

    def load_own_variables(self, store: dict) -> None:
        """Reads the token; a file without its position (fixed positions) means zero."""
        token = np.array(store["0"])
        if "1" in store.keys() and not self.position:  # noqa: SIM118 (an h5 group)
            token = token + np.array(store["1"])
        self.token.assign(token)
        if self.position:
            stored = "1" in store.keys()  # noqa: SIM118
            self.token_position.assign(np.array(store["1"]) if stored else np.zeros(token.shape))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "position": self.position}
