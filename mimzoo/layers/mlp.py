"""The two-layer perceptron of a transformer block."""

import keras

from mimzoo.backend import Tensor, gelu
from mimzoo.layers.linear import Linear


@keras.saving.register_keras_serializable(package="mimzoo")
class MLP(keras.layers.Layer):
    """Linear, GELU (exact, with erf), linear: (..., D) -> (..., D).

    Args:
        hidden_dim: width between the two.
        dim: width D of input and output.
        kernel_initializer: of both layers, by name or serialized; Xavier uniform is MAE's.
    """

    def __init__(
        self,
        hidden_dim: int,
        dim: int,
        kernel_initializer: str | dict = "glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.dim = dim
        self.kernel_initializer = kernel_initializer
        shared = {"dtype": self.dtype_policy, "kernel_initializer": self.kernel_initializer}
        self.expand = Linear(hidden_dim, name="expand", **shared)
        self.contract = Linear(dim, name="contract", **shared)

    def build(self, input_shape: tuple) -> None:
        """Creates both layers."""
        self.expand.build(input_shape)
        self.contract.build((*input_shape[:-1], self.hidden_dim))
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.contract(gelu(self.expand(inputs)))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "dim": self.dim,
            "kernel_initializer": self.kernel_initializer,
        }
