"""Stochastic depth: a residual branch is dropped for whole examples."""

import functools
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Constant, Tensor, draw_rows, uniform_rows


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
        """(B, 1, ..., 1) factor of the branch of each example; None where nothing is dropped."""
        (factors,) = draw_factors([self], like, training, 1)
        return None if factors is None else factors[0]

    def of_branches(self, factors: Tensor | None) -> Sequence[Tensor | None]:
        """Of `draw_factors`, the factor of each of two branches."""
        return (None, None) if factors is None else ops.unstack(factors, 2)

    def call(
        self, inputs: Tensor, factor: Tensor | None = None, training: bool | None = None
    ) -> Tensor:
        """Any shape (B, ...) -> the same shape; `factor`: drawn before, default: drawn here."""
        factor = self.factor(inputs, training) if factor is None else factor
        return inputs if factor is None else inputs * factor

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def draw_factors(
    layers: Sequence[DropPath], like: Tensor, training: bool | None, count: int = 2
) -> list[Tensor | None]:
    """Factors of `count` branches for each layer, (count, B, 1, ..., 1) in the dtype of `like`.

    None where nothing is dropped. Blocks draw them outside of what is rematerialised, which would
    draw anew.
    """
    dropping = [layer for layer in layers if training and layer.rate]
    shape = (ops.shape(like)[0],) + (1,) * (len(like.shape) - 1)
    if not dropping:
        return [None] * len(layers)
    keep = _keep(tuple(layer.rate for layer in dropping))(like)
    if keras.config.backend() == "torch":
        uniform = draw_rows([layer.seed_generator for layer in dropping], shape[0], count)
    else:
        seeds = [layer.seed_generator for layer in dropping for _ in range(count)]
        uniform = ops.stack([uniform_rows(shape, seed) for seed in seeds])
    uniform = ops.reshape(uniform, (len(dropping), count, *shape))
    keep = ops.reshape(keep, (-1, 1) + (1,) * len(shape))
    factors = ops.cast(ops.floor(uniform + keep) / keep, like.dtype)
    drawn = dict(zip(dropping, ops.unstack(factors, len(dropping)), strict=True))
    return [drawn.get(layer) for layer in layers]


@functools.cache
def _keep(rates: tuple[float, ...]) -> Constant:
    return Constant(1.0 - np.array(rates, "float32"))


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """The rate of each block, growing linearly from 0 to `rate` (MAE models_vit.py, Swin)."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
