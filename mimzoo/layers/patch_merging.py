"""Halving a grid of tokens."""

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.linear import Linear
from mimzoo.layers.window_attention import INITIALIZER


@keras.saving.register_keras_serializable(package="mimzoo")
class PatchMerging(keras.layers.Layer):
    """Four neighbours become one token of twice the width: (B, R, C, D) -> (B, R/2, C/2, 2 D).

    The neighbours stand in the order (0, 0), (1, 0), (0, 1), (1, 1), row first (Swin
    models/swin_transformer.py and swin_transformer_v2.py, `PatchMerging`). An odd grid is padded
    with zeros below and to the right, as in Swin's detection code.

    Args:
        dim: width D of a token.
        norm_first: Swin normalises 4 D channels before the linear layer, Swin V2 2 D after it.
        layer_norm_epsilon: of the norm.
        kernel_initializer: of the linear layer, by name or serialized; default: Swin's.
    """

    def __init__(
        self,
        dim: int,
        norm_first: bool = True,
        layer_norm_epsilon: float = 1e-5,
        kernel_initializer: str | dict = INITIALIZER,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.norm_first = norm_first
        self.layer_norm_epsilon = layer_norm_epsilon
        self.kernel_initializer = kernel_initializer
        shared = {"dtype": self.dtype_policy}
        self.norm = keras.layers.LayerNormalization(
            epsilon=layer_norm_epsilon, name="norm", **shared
        )
        self.reduction = Linear(
            2 * dim,
            use_bias=False,
            kernel_initializer=kernel_initializer,
            name="reduction",
            **shared,
        )

    def build(self, input_shape: tuple) -> None:
        """Creates both layers."""
        self.norm.build((*input_shape[:-1], (4 if self.norm_first else 2) * self.dim))
        self.reduction.build((*input_shape[:-1], 4 * self.dim))
        self.built = True

    def call(self, tokens: Tensor) -> Tensor:
        """(B, R, C, D) -> (B, ceil(R/2), ceil(C/2), 2 D)."""
        rows, cols = tokens.shape[1:3]
        if rows % 2 or cols % 2:
            tokens = ops.pad(tokens, ((0, 0), (0, rows % 2), (0, cols % 2), (0, 0)))
        down, across = (rows + 1) // 2, (cols + 1) // 2
        x = ops.reshape(tokens, (-1, down, 2, across, 2, self.dim))
        x = ops.transpose(x, (0, 1, 3, 4, 2, 5))
        x = ops.reshape(x, (-1, down, across, 4 * self.dim))
        return self.reduction(self.norm(x)) if self.norm_first else self.norm(self.reduction(x))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "norm_first": self.norm_first,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "kernel_initializer": self.kernel_initializer,
        }
