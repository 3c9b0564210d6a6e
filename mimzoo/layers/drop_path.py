"""Stochastic depth: a residual branch is dropped for whole examples."""

import keras
from keras import ops

from mimzoo.backend import Tensor, uniform_rows


@keras.saving.register_keras_serializable(package="mimzoo")
class DropPath(keras.layers.Layer):
    """Drops its input for a random share of the examples and scales the rest up.

    Huang et al., Deep Networks with Stochastic Depth, arXiv 1603.09382; per example, scaled by
    1 / (1 - rate) in training, as in the official code of MAE and Swin.

    Args:
        rate: probability of dropping, in [0, 1).
        seed: of the draws.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate must lie in [0, 1), got {rate}.")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed) if rate else None
        self.built = True

    def factor(self, like: Tensor, training: bool | None) -> Tensor | None:
        """(B, 1, ..., 1) factor of the branch of each example; None where nothing is dropped.

        Blocks draw it outside of what is rematerialised, which would draw anew.
        """
        if not training or not self.rate:
            return None
        shape = (ops.shape(like)[0],) + (1,) * (len(like.shape) - 1)
        keep = 1.0 - self.rate
        kept = ops.floor(uniform_rows(shape, self.seed_generator) + keep)
        return ops.cast(kept / keep, like.dtype)

    def call(
        self, inputs: Tensor, factor: Tensor | None = None, training: bool | None = None
    ) -> Tensor:
        """Any shape (B, ...) -> the same shape; `factor`: drawn before, default: drawn here."""
        factor = self.factor(inputs, training) if factor is None else factor
        return inputs if factor is None else inputs * factor

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """The rate of each block, growing linearly from 0 to `rate` (MAE models_vit.py, Swin)."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
