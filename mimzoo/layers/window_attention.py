"""Attention inside windows of a grid of tokens: Swin's, and Swin V2's cosine attention."""

import math
from typing import Any, ClassVar

import keras
from keras import ops

from mimzoo.backend import Tensor, add_constant, attention, inverse_length
from mimzoo.layers.attention import QKVAttention
from mimzoo.layers.position_bias import ContinuousPositionBias, RelativePositionBias
from mimzoo.layers.windows import FORBIDDEN, Windows

# Swin draws linear layers and tables from timm's trunc_normal_(std=0.02), whose limits of -2 and 2
# cut nothing off. Not an instance, which would give the same numbers at each use.
INITIALIZER = keras.initializers.serialize(keras.initializers.RandomNormal(stddev=0.02))
MAX_LOGIT_SCALE = math.log(100.0)


@keras.saving.register_keras_serializable(package="mimzoo")
class WindowAttention(QKVAttention):
    """Swin's attention inside windows: (B, rows, cols, D) -> the same shape.

    Liu et al., arXiv 2103.14030; models/swin_transformer.py. Padding, shift, windows and the way
    back are in here. Padding tokens are zeros that take part in the attention, as in Swin's
    detection code and in transformers.

    Args:
        dim, num_heads, qkv_bias: see QKVAttention.
        grid: rows and columns of tokens.
        window_size: side of a window; clamped to the grid, see Windows.
        shifted: whether windows are moved by half their side.
    """

    kernel_initializer: ClassVar[Any] = INITIALIZER
    table_initializer: ClassVar[Any] = INITIALIZER

    def __init__(
        self,
        dim: int,
        num_heads: int,
        grid: tuple[int, int],
        window_size: int,
        shifted: bool = False,
        qkv_bias: str = "qkv",
        **kwargs,
    ):
        super().__init__(dim, num_heads, qkv_bias, self.kernel_initializer, **kwargs)
        self.windows = Windows(tuple(grid), window_size, shifted)
        if self.windows.shift:
            add_constant(self, "shift_mask", self.windows.mask())
        self.position_bias = self._make_position_bias()

    def _make_position_bias(self) -> keras.layers.Layer:
        side = self.windows.size
        return RelativePositionBias(
            (side, side),
            self.num_heads,
            initializer=self.table_initializer,
            dtype=self.dtype_policy,
            name="position_bias",
        )

    def build(self, input_shape: tuple) -> None:
        """Creates the weights."""
        super().build(input_shape)
        self.position_bias.build()
        self.built = True

    def call(self, tokens: Tensor, group_mask: Tensor | None = None) -> Tensor:
        """(B, rows, cols, D) -> (B, rows, cols, D); `group_mask`: see there."""
        query, key, value = self._split(self.project(self._arrange(tokens)))
        bias = self.position_bias(tokens)
        masks = [ops.convert_to_tensor(self.shift_mask)] if self.windows.shift else []
        masks += [] if group_mask is None else [group_mask]
        out = self._attend(query, key, value, bias, masks)
        return self._restore(self.projection(self._merge(out)))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, masks: list[Tensor]
    ) -> Tensor:
        return attention(query, key, value, bias, masks=masks)

    def group_mask(self, sources: Tensor) -> Tensor:
        """What is added to the logits so that a token sees those of its own source only.

        Padding is of every source, as it is where there is one source only.

        Args:
            sources: (B or 1, rows, cols), which of two images, 0 or 1, a token is from.

        Returns:
            (B or 1, windows, 1, T, T) float32: 0, or `FORBIDDEN`.
        """
        (down, across), size = self.windows.counts, self.windows.size
        sign = self._arrange(2.0 * ops.cast(sources[..., None], "float32") - 1.0)
        sign = ops.reshape(sign, (-1, down, size, across, size))
        sign = ops.reshape(ops.transpose(sign, (0, 1, 3, 2, 4)), (-1, down * across, 1, size**2))
        return ops.where(sign[..., :, None] * sign[..., None, :] < 0, FORBIDDEN, 0.0)

    # --- windows and back -----------------------------------------------------------------------

    def _arrange(self, tokens: Tensor) -> Tensor:
        """Pads and rolls: (B, rows, cols, D) -> (B, padded rows, padded cols, D)."""
        pads = [(0, p - g) for p, g in zip(self.windows.padded, self.windows.grid, strict=True)]
        if any(p for _, p in pads):
            tokens = ops.pad(tokens, ((0, 0), *pads, (0, 0)))
        shift = self.windows.shift
        return ops.roll(tokens, (-shift, -shift), axis=(1, 2)) if shift else tokens

    def _restore(self, tokens: Tensor) -> Tensor:
        """The inverse of `_arrange`."""
        shift, (rows, cols) = self.windows.shift, self.windows.grid
        if shift:
            tokens = ops.roll(tokens, (shift, shift), axis=(1, 2))
        return tokens if self.windows.padded == (rows, cols) else tokens[:, :rows, :cols]

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, rows, cols, 3 D) -> three of (B, windows, heads, T, head_dim)."""
        (down, across), size = self.windows.counts, self.windows.size
        head_dim = self.dim // self.num_heads
        # Windows and heads are cut in one copy.
        x = ops.reshape(qkv, (-1, down, size, across, size, 3, self.num_heads, head_dim))
        x = ops.transpose(x, (5, 0, 1, 3, 6, 2, 4, 7))
        x = ops.reshape(x, (3, -1, down * across, self.num_heads, size * size, head_dim))
        return tuple(ops.unstack(x, 3))

    def _merge(self, out: Tensor) -> Tensor:
        """(B, windows, heads, T, head_dim) -> (B, rows, cols, D)."""
        (down, across), size = self.windows.counts, self.windows.size
        head_dim = self.dim // self.num_heads
        x = ops.reshape(out, (-1, down, across, self.num_heads, size, size, head_dim))
        x = ops.transpose(x, (0, 1, 4, 2, 5, 3, 6))
        return ops.reshape(x, (-1, *self.windows.padded, self.dim))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "grid": self.windows.grid,
            "window_size": self.windows.window_size,
            "shifted": self.windows.shifted,
        }


@keras.saving.register_keras_serializable(package="mimzoo")
class CosineWindowAttention(WindowAttention):
    """Swin V2's attention inside windows.

    Logits are the cosine of query and key times exp(min(logit_scale, ln 100)), with a learned
    logit_scale a head that starts at ln 10, plus a ContinuousPositionBias (Liu et al., arXiv
    2111.09883 section 3.3; models/swin_transformer_v2.py, `WindowAttention`). Norms are computed
    in float32.

    Args:
        pretrained_window_size: see ContinuousPositionBias.
        dim, num_heads, grid, window_size, shifted: see WindowAttention.
        qkv_bias: "qv" as in the official code.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        grid: tuple[int, int],
        window_size: int,
        shifted: bool = False,
        qkv_bias: str = "qv",
        pretrained_window_size: int = 0,
        **kwargs,
    ):
        self.pretrained_window_size = pretrained_window_size
        super().__init__(dim, num_heads, grid, window_size, shifted, qkv_bias, **kwargs)

    def _make_position_bias(self) -> keras.layers.Layer:
        return ContinuousPositionBias(
            self.windows.size,
            self.num_heads,
            self.pretrained_window_size,
            dtype=self.dtype_policy,
            name="position_bias",
        )

    def build(self, input_shape: tuple) -> None:
        """Creates the weights."""
        super().build(input_shape)
        self.logit_scale = self.add_weight(
            name="logit_scale",
            shape=(self.num_heads, 1, 1),
            initializer=keras.initializers.Constant(math.log(10.0)),
        )
        self.built = True

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, masks: list[Tensor]
    ) -> Tensor:
        scale = ops.cast(self.logit_scale, "float32")
        scale = ops.exp(ops.minimum(scale, MAX_LOGIT_SCALE))
        query, key = ops.cast(query, "float32"), ops.cast(key, "float32")
        # Lengths, which are few numbers, are scaled, not vectors.
        query = ops.cast(query * (inverse_length(query) * scale), value.dtype)
        key = ops.cast(key * inverse_length(key), value.dtype)
        return attention(query, key, value, bias, scale=1.0, masks=masks)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "pretrained_window_size": self.pretrained_window_size}


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMIMWindowAttention(WindowAttention):
    """WindowAttention as MixMIM starts it; see MixMIMBlock."""

    kernel_initializer = "glorot_uniform"
    table_initializer = "zeros"
