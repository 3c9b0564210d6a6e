"""The pre-norm transformer block of ViT, shared by encoders and decoders."""

import keras
from keras import ops

from mimzoo.backend import Tensor, check_remat
from mimzoo.layers.attention import MultiHeadAttention
from mimzoo.layers.chain import Block
from mimzoo.layers.drop_path import DropPath
from mimzoo.layers.mlp import MLP
from mimzoo.layers.token_windows import TokenWindows


@keras.saving.register_keras_serializable(package="mimzoo")
class TransformerBlock(Block):
    """x + drop(scale * attention(norm(x))), then x + drop(scale * mlp(norm(x))).

    Args:
        dim: width D of a token.
        num_heads: attention heads.
        mlp_ratio: hidden width of the MLP over D.
        qkv_bias: see MultiHeadAttention.
        layer_scale_init: start of a learned factor per channel on each branch (LayerScale,
            arXiv 2103.17239); None: no factor.
        drop_path_rate: stochastic depth of both branches, in [0, 1).
        relative_position_grid, class_token, decomposed: see MultiHeadAttention.
        remat: recompute activations in the backward pass instead of keeping them; see ViTBackbone.
        layer_norm_epsilon: of both norms; 1e-6 as in MAE's code.
        window_size: side of the windows inside which tokens attend; None: to all tokens. With
            windows there is no class token, `bias` or `index`.
        grid: rows and columns of tokens, which windows need.
    """

    optional = ("bias", "index")

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: str = "qkv",
        layer_scale_init: float | None = None,
        drop_path_rate: float = 0.0,
        relative_position_grid: tuple[int, int] | None = None,
        class_token: bool = False,
        remat: bool | str = False,
        layer_norm_epsilon: float = 1e-6,
        window_size: int | None = None,
        grid: tuple[int, int] | None = None,
        decomposed: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._config = {
            "dim": dim,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "qkv_bias": qkv_bias,
            "layer_scale_init": layer_scale_init,
            "drop_path_rate": drop_path_rate,
            "relative_position_grid": relative_position_grid,
            "class_token": class_token,
            "remat": remat,
            "layer_norm_epsilon": layer_norm_epsilon,
            "window_size": window_size,
            "grid": grid,
            "decomposed": decomposed,
        }
        self.dim = dim
        self.layer_scale_init = layer_scale_init
        self.remat = check_remat(remat)
        self.windows = window_size and TokenWindows(tuple(grid), window_size)
        shared = {"dtype": self.dtype_policy}
        norm = {"epsilon": layer_norm_epsilon, **shared}
        self.norm1 = keras.layers.LayerNormalization(name="norm1", **norm)
        self.attention = MultiHeadAttention(
            dim,
            num_heads,
            qkv_bias,
            relative_position_grid,
            class_token,
            decomposed,
            name="attention",
            **shared,
        )
        self.norm2 = keras.layers.LayerNormalization(name="norm2", **norm)
        self.mlp = MLP(int(dim * mlp_ratio), dim, name="mlp", **shared)
        self.drop_path = DropPath(drop_path_rate, name="drop_path", **shared)

    def build(self, input_shape: tuple) -> None:
        """Creates all weights."""
        for layer in (self.norm1, self.attention, self.norm2, self.mlp):
            layer.build(input_shape)
        if self.layer_scale_init is not None:
            start = keras.initializers.Constant(self.layer_scale_init)
            self.scale1 = self.add_weight(name="scale1", shape=(self.dim,), initializer=start)
            self.scale2 = self.add_weight(name="scale2", shape=(self.dim,), initializer=start)
        self.built = True

    def call(
        self,
        tokens: Tensor,
        bias: Tensor | None = None,
        index: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); `bias` and `index` as in MultiHeadAttention."""
        return self.run(tokens, (bias, index), training)

    def attend(self, x: Tensor, bias: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """Attention to all tokens, or inside windows."""
        if self.windows is None:
            return self.attention(x, bias=bias, index=index)
        return self.windows.join(self.attention(self.windows.cut(x)))

    def body(
        self,
        x: Tensor,
        bias: Tensor | None,
        index: Tensor | None,
        factors: Tensor | None,
    ) -> Tensor:
        """See Block."""
        first, second = self.drop_path.of_branches(factors)
        branch = self.attend(self.norm1(x), bias, index)
        if self.layer_scale_init is not None:
            branch = branch * ops.cast(self.scale1, branch.dtype)
        x = x + self.drop_path(branch, factor=first)
        branch = self.mlp(self.norm2(x))
        if self.layer_scale_init is not None:
            branch = branch * ops.cast(self.scale2, branch.dtype)
        return x + self.drop_path(branch, factor=second)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), **self._config}
