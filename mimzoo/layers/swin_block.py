"""The blocks of Swin and Swin V2."""

from typing import ClassVar

import keras

from mimzoo.backend import Tensor, check_remat
from mimzoo.layers.chain import Block
from mimzoo.layers.drop_path import DropPath
from mimzoo.layers.mlp import MLP
from mimzoo.layers.window_attention import (
    CosineWindowAttention,
    MixMIMWindowAttention,
    WindowAttention,
)


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinBlock(Block):
    """x + drop(attention(norm(x))), then x + drop(mlp(norm(x))): (B, rows, cols, D) -> the same.

    Liu et al., arXiv 2103.14030; models/swin_transformer.py, `SwinTransformerBlock`.

    Args:
        dim: width D of a token.
        num_heads: attention heads.
        grid: rows and columns of tokens.
        window_size, shifted, qkv_bias: see WindowAttention.
        mlp_ratio: hidden width of the MLP over D.
        drop_path_rate: stochastic depth of both branches, in [0, 1).
        remat: recompute activations in the backward pass instead of keeping them; see ViTBackbone.
        layer_norm_epsilon: of both norms.
        **kwargs: of the attention (`pretrained_window_size` for Swin V2) and of keras.Layer.
    """

    optional = ("group_mask",)
    attention_cls: ClassVar[type] = WindowAttention
    attention_arguments: ClassVar[tuple[str, ...]] = ()
    norm_gamma: ClassVar[str] = "ones"

    def __init__(
        self,
        dim: int,
        num_heads: int,
        grid: tuple[int, int],
        window_size: int,
        shifted: bool = False,
        qkv_bias: str = "qkv",
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        remat: bool | str = False,
        layer_norm_epsilon: float = 1e-5,
        **kwargs,
    ):
        attention = {k: kwargs.pop(k) for k in self.attention_arguments if k in kwargs}
        super().__init__(**kwargs)
        self._config = {
            "dim": dim,
            "num_heads": num_heads,
            "grid": tuple(grid),
            "window_size": window_size,
            "shifted": shifted,
            "qkv_bias": qkv_bias,
            "mlp_ratio": mlp_ratio,
            "drop_path_rate": drop_path_rate,
            "remat": remat,
            "layer_norm_epsilon": layer_norm_epsilon,
            **attention,
        }
        self.remat = check_remat(remat)
        shared = {"dtype": self.dtype_policy}
        norm = {"epsilon": layer_norm_epsilon, "gamma_initializer": self.norm_gamma, **shared}
        self.norm1 = keras.layers.LayerNormalization(name="norm1", **norm)
        self.attention = self.attention_cls(
            dim,
            num_heads,
            grid,
            window_size,
            shifted,
            qkv_bias,
            name="attention",
            **attention,
            **shared,
        )
        self.norm2 = keras.layers.LayerNormalization(name="norm2", **norm)
        start = self.attention_cls.kernel_initializer
        self.mlp = MLP(int(dim * mlp_ratio), dim, kernel_initializer=start, name="mlp", **shared)
        self.drop_path = DropPath(drop_path_rate, name="drop_path", **shared)

    def build(self, input_shape: tuple) -> None:
        """Creates all weights."""
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(input_shape)
        self.built = True

    def call(
        self, tokens: Tensor, group_mask: Tensor | None = None, training: bool | None = None
    ) -> Tensor:
        """(B, rows, cols, D) -> (B, rows, cols, D); `group_mask`: see WindowAttention."""
        return self.run(tokens, (group_mask,), training)

    def body(self, x: Tensor, group_mask: Tensor | None, factors: Tensor | None) -> Tensor:
        """See Block."""
        first, second = self.drop_path.of_branches(factors)
        branch = self.attention(self.norm1(x), group_mask=group_mask)
        x = x + self.drop_path(branch, factor=first)
        return x + self.drop_path(self.mlp(self.norm2(x)), factor=second)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), **self._config}


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinV2Block(SwinBlock):
    """x + drop(norm(attention(x))), then x + drop(norm(mlp(x))): (B, rows, cols, D) -> the same.

    Liu et al., arXiv 2111.09883; models/swin_transformer_v2.py, `SwinTransformerBlock`. Both norms
    start at zero, so that a new block changes nothing.

    Args:
        pretrained_window_size: see ContinuousPositionBias.
        dim, num_heads, grid, window_size, shifted, qkv_bias: see CosineWindowAttention.
        mlp_ratio, drop_path_rate, remat, layer_norm_epsilon: see SwinBlock.
    """

    attention_cls = CosineWindowAttention
    attention_arguments = ("pretrained_window_size",)
    norm_gamma = "zeros"

    def body(self, x: Tensor, group_mask: Tensor | None, factors: Tensor | None) -> Tensor:
        """See Block."""
        first, second = self.drop_path.of_branches(factors)
        branch = self.norm1(self.attention(x, group_mask=group_mask))
        x = x + self.drop_path(branch, factor=first)
        return x + self.drop_path(self.norm2(self.mlp(x)), factor=second)


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMIMBlock(SwinBlock):
    """SwinBlock as MixMIM starts it (Liu et al., arXiv 2205.13137; models_mixmim.py).

    Linear layers start from Glorot's uniform numbers, position tables from zero.
    """

    attention_cls = MixMIMWindowAttention
