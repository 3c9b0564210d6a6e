"""Multi-head self-attention with one fused projection of queries, keys and values."""

import keras
from keras import ops

from mimzoo.backend import Tensor, attention
from mimzoo.layers.decomposed_positions import DecomposedRelativePositions
from mimzoo.layers.linear import Linear
from mimzoo.layers.position_bias import RelativePositionBias

QKV_BIASES = ("qkv", "qv", "none")


class QKVAttention(keras.layers.Layer):
    """What all attention shares: projections to queries, keys and values, and of the result.

    Args:
        dim: width D of a token.
        num_heads: heads; `dim` must be a multiple of it.
        qkv_bias: "qkv" (all three), "qv" (none on the keys, as SimMIM's and BEiT's ViT and Swin
            V2) or "none".
        kernel_initializer: of both projections, by name or serialized.

    Raises:
        ValueError: heads that do not divide the width, or an unknown `qkv_bias`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: str,
        kernel_initializer: str | dict = "glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if dim % num_heads:
            raise ValueError(f"embed_dim {dim} is not divisible by num_heads {num_heads}.")
        if qkv_bias not in QKV_BIASES:
            raise ValueError(f"qkv_bias must be one of {QKV_BIASES}, got {qkv_bias!r}.")
        self.dim = dim
        self.num_heads = num_heads
        self.qkv_bias = qkv_bias
        shared = {"dtype": self.dtype_policy, "kernel_initializer": kernel_initializer}
        self.qkv = Linear(3 * dim, use_bias=qkv_bias == "qkv", name="qkv", **shared)
        self.projection = Linear(dim, name="projection", **shared)

    def build(self, input_shape: tuple) -> None:
        """Creates the projections."""
        self.qkv.build(input_shape)
        self.projection.build(input_shape)
        if self.qkv_bias == "qv":
            self.query_bias = self.add_weight(
                name="query_bias", shape=(self.dim,), initializer="zeros"
            )
            self.value_bias = self.add_weight(
                name="value_bias", shape=(self.dim,), initializer="zeros"
            )

    def project(self, tokens: Tensor) -> Tensor:
        """Queries, keys and values: (..., D) -> (..., 3 D)."""
        qkv = self.qkv(tokens)
        if self.qkv_bias == "qv":
            no_bias = ops.zeros((self.dim,), self.query_bias.dtype)
            biases = ops.concatenate([self.query_bias, no_bias, self.value_bias])
            qkv = qkv + ops.cast(biases, qkv.dtype)
        return qkv

    def get_config(self) -> dict:
        """The constructor's arguments, but for the initializer, which a subclass chooses."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "num_heads": self.num_heads,
            "qkv_bias": self.qkv_bias,
        }


@keras.saving.register_keras_serializable(package="mimzoo")
class MultiHeadAttention(QKVAttention):
    """Self-attention over all tokens: (B, T, D) -> (B, T, D).

    Args:
        dim, num_heads, qkv_bias: see QKVAttention.
        relative_position_grid: if given, the attention owns a RelativePositionBias of this grid.
        class_token: whether the first token is a class token (for the relative bias only).
        decomposed: whether it owns DecomposedRelativePositions instead; without class token, `bias`
            or `index`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: str = "qkv",
        relative_position_grid: tuple[int, int] | None = None,
        class_token: bool = False,
        decomposed: bool = False,
        **kwargs,
    ):
        super().__init__(dim, num_heads, qkv_bias, **kwargs)
        self.relative_position_grid = relative_position_grid
        self.class_token = class_token
        self.decomposed = decomposed
        self.relative_position_bias = (
            RelativePositionBias(
                relative_position_grid,
                num_heads,
                class_token,
                dtype=self.dtype_policy,
                name="relative_position_bias",
            )
            if relative_position_grid and not decomposed
            else None
        )
        self.relative_positions = (
            DecomposedRelativePositions(
                relative_position_grid,
                dim // num_heads,
                dtype=self.dtype_policy,
                name="relative_positions",
            )
            if relative_position_grid and decomposed
            else None
        )

    def build(self, input_shape: tuple) -> None:
        """Creates all weights."""
        super().build(input_shape)
        for positions in (self.relative_position_bias, self.relative_positions):
            if positions is not None:
                positions.build()
        self.built = True

    def call(
        self, tokens: Tensor, bias: Tensor | None = None, index: Tensor | None = None
    ) -> Tensor:
        """Attention.

        Args:
            tokens: (B, T, D).
            bias: added to the logits, broadcastable to (B, heads, T, T).
            index: (B, K), the places of the tokens on the grid (without class token), where not
                all are there; only the relative bias reads it.
        """
        length, head_dim = tokens.shape[1], self.dim // self.num_heads
        qkv = ops.reshape(self.project(tokens), (-1, length, 3, self.num_heads, head_dim))
        query, key, value = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)
        if self.relative_position_bias:
            own = self.relative_position_bias(tokens, index=index)
            bias = own if bias is None else bias + own
        if self.relative_positions:
            query, key = self.relative_positions(query, key)
        out = attention(query, key, value, bias, scale=head_dim**-0.5)
        out = ops.reshape(ops.transpose(out, (0, 2, 1, 3)), (-1, length, self.dim))
        return self.projection(out)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "relative_position_grid": self.relative_position_grid,
            "class_token": self.class_token,
            "decomposed": self.decomposed,
        }
