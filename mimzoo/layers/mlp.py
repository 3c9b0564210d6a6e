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
    """

    def __init__(self, hidden_dim: int, dim: int, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.dim = dim
        self.expand = Linear(hidden_dim, dtype=self.dtype_policy, name="expand")
        self.contract = Linear(dim, dtype=self.dtype_policy, name="contract")

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
        return {**super().get_config(), "hidden_dim": self.hidden_dim, "dim": self.dim}
