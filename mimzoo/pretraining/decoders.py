"""From features to predictions for every patch."""

from typing import ClassVar

import keras
from keras import ops

from mimzoo.backend import Tensor, gather_tokens
from mimzoo.layers.chain import run_layers
from mimzoo.layers.linear import Linear
from mimzoo.layers.positions import PositionEmbedding
from mimzoo.layers.transformer_block import TransformerBlock
from mimzoo.models.flops import block_flops

# The narrowest backbone that MAE and MixMIM were published for: ViT-B.
PUBLISHED_FROM = 768


class TransformerDecoder(keras.layers.Layer):
    """A ViT over all positions, with a token for hidden ones; base of MAE's and MixMIM's.

    Args:
        embed_dim: width E of the decoder. Default: 512, as published, for backbones from ViT-B on;
            for smaller ones half of their width, in multiples of 32 (ours).
        depth: blocks. Default: 8, as published; for smaller backbones a third of theirs (ours).
        num_heads: attention heads of a block. Default: heads of 32 channels, as published.
        mlp_ratio: hidden width of a block's MLP over `embed_dim`.
        layer_norm_epsilon: of all norms; default: that of the official code.
    """

    official_epsilon: ClassVar[float]

    def __init__(
        self,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        layer_norm_epsilon: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.depth = depth
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.layer_norm_epsilon = (
            self.official_epsilon if layer_norm_epsilon is None else layer_norm_epsilon
        )

    def _create(self, grid: tuple[int, int], width: int, blocks: int, output_dim: int) -> None:
        """Creates the weights for tokens of `width` on `grid`, after so many blocks."""
        large = width >= PUBLISHED_FROM
        self.embed_dim = self.embed_dim or (512 if large else max(32, round(width / 64) * 32))
        self.depth = self.depth or (8 if large else max(1, blocks // 3))
        self.num_heads = self.num_heads or max(1, self.embed_dim // 32)
        shared = {"dtype": self.dtype_policy}
        epsilon = self.layer_norm_epsilon
        self.embed = Linear(self.embed_dim, name="embed", **shared)
        self.positions = PositionEmbedding(grid, name="positions", **shared)
        self.blocks = [
            TransformerBlock(
                self.embed_dim,
                self.num_heads,
                self.mlp_ratio,
                layer_norm_epsilon=epsilon,
                name=f"block_{i}",
                **shared,
            )
            for i in range(self.depth)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, name="norm", **shared)
        self.prediction = Linear(output_dim, name="prediction", **shared)
        self.embed.build((None, None, width))
        for layer in (self.positions, *self.blocks, self.norm, self.prediction):
            layer.build((None, None, self.embed_dim))
        self.mask_token = self.add_weight(
            name="mask_token",
            shape=(1, 1, self.embed_dim),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        self.built = True

    def _hide(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """The mask token in place of the tokens (B, N, E) where `hidden` (B, N) is true."""
        return ops.where(hidden[..., None], ops.cast(self.mask_token, tokens.dtype), tokens)

    def flops(self, tokens: int) -> float:
        """Forward pass of the blocks over one image of so many tokens."""
        return self.depth * block_flops(tokens, self.embed_dim, self.mlp_ratio)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "embed_dim": self.embed_dim,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }


@keras.saving.register_keras_serializable(package="mimzoo")
class MAEDecoder(TransformerDecoder):
    """The transformer decoder of MAE (models_mae.py, `forward_decoder`).

    Args:
        embed_dim, depth, num_heads, mlp_ratio, layer_norm_epsilon: see TransformerDecoder.
    """

    official_epsilon = 1e-6

    def build_for(self, backbone: keras.Model, output_dim: int) -> None:
        """Creates the weights for a backbone; the task calls it once.

        Args:
            backbone: whose `grid`, `embed_dim` and `class_token` the decoder follows.
            output_dim: numbers to predict per patch.
        """
        self.class_token = backbone.class_token
        self._create(backbone.grid, backbone.embed_dim, backbone.depth, output_dim)

    def call(self, features: Tensor, masks: Tensor, training: bool | None = None) -> Tensor:
        """Predictions for all patches.

        Args:
            features: ([1 +] K) visible tokens, in the order of the grid: (B, [1 +] K, D).
            masks: (B, N), 1 = hidden; K of them are 0 in each row.
            training: whether this call is for training.

        Returns:
            (B, N, output_dim).
        """
        x = self.embed(features)
        first = 1 if self.class_token else 0
        # Where each patch of the grid finds its token: the k-th visible one takes row k. The rows
        # of hidden ones are replaced, so whatever they gather gets no gradient.
        rank = ops.cumsum(1 - ops.cast(masks, "int32"), axis=1) - 1
        tokens = gather_tokens(x, ops.maximum(rank, 0) + first)
        tokens = self.positions(self._hide(tokens, ops.cast(masks, "bool")))
        if self.class_token:
            tokens = ops.concatenate([x[:, :1], tokens], axis=1)
        layers = [(layer, {}) for layer in (*self.blocks, self.norm)]
        return self.prediction(run_layers(layers, tokens, training)[:, first:])


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMIMDecoder(TransformerDecoder):
    """The transformer decoder of MixMIM (models_mixmim.py, `forward_decoder`).

    Each mixture is decoded twice: with the positions of the partner hidden, which gives the image
    itself, and with its own hidden, which gives the partner.

    Args:
        embed_dim, depth, num_heads, mlp_ratio, layer_norm_epsilon: see TransformerDecoder.
    """

    official_epsilon = 1e-5

    def build_for(self, backbone: keras.Model, output_dim: int) -> None:
        """Creates the weights for a backbone; the task calls it once.

        Args:
            backbone: whose last stage and `output_dim` the decoder follows.
            output_dim: numbers to predict per position.
        """
        blocks = sum(backbone.depths)
        self._create(backbone.stage_grids[-1], backbone.output_dim, blocks, output_dim)

    def decode(
        self, features: Tensor, shows_partner: Tensor, training: bool | None = None
    ) -> Tensor:
        """Tokens of both branches before the prediction.

        Args:
            features: (B, M, D) of the mixtures.
            shows_partner: (B, M) boolean, which positions show the partner.
            training: whether this call is for training.

        Returns:
            (2 B, M, E): those of the images themselves, then those of the partners.
        """
        x = self.embed(features)
        own = self._hide(x, shows_partner)
        partner = self._hide(x, ops.logical_not(shows_partner))
        tokens = self.positions(ops.concatenate([own, partner]))
        return run_layers([(block, {}) for block in self.blocks], tokens, training)

    def call(self, features: Tensor, shows_partner: Tensor, training: bool | None = None) -> Tensor:
        """Predictions (B, M, output_dim) for each image, each position from where it was hidden.

        Args:
            features, shows_partner, training: see `decode`.
        """
        own, partner = ops.split(self.decode(features, shows_partner, training), 2)
        # What was predicted for the partner is needed at that image's place in the batch. Each
        # position is predicted once, so the last layer works on half of the tokens.
        hidden = ops.where(shows_partner[..., None], own, swap_neighbours(partner))
        return self.prediction(self.norm(hidden))


def swap_neighbours(x: Tensor) -> Tensor:
    """Rows 2k and 2k + 1 of a batch change places: (B, ...) -> (B, ...)."""
    shape = x.shape[1:]
    x = ops.flip(ops.reshape(x, (-1, 2, *shape)), axis=1)
    return ops.reshape(x, (-1, *shape))


@keras.saving.register_keras_serializable(package="mimzoo")
class LinearDecoder(keras.layers.Layer):
    """SimMIM's decoder: one linear layer from each token to the pixels it stands for.

    The 1 x 1 convolution and pixel shuffle of models/simmim.py; the numbers of a token are in
    (row, col, channel) order here, which `unpatchify` lays out.
    """

    def build_for(self, backbone: keras.Model, output_dim: int) -> None:
        """Creates the weights for a backbone; the task calls it once.

        Args:
            backbone: its `output_dim` is the width of a token.
            output_dim: numbers to predict per token.
        """
        # The official code leaves the convolution at torch's default.
        limit = backbone.output_dim**-0.5
        start = keras.initializers.RandomUniform(-limit, limit)
        self.prediction = Linear(
            output_dim, kernel_initializer=start, name="prediction", dtype=self.dtype_policy
        )
        self.prediction.build((None, None, backbone.output_dim))
        self.built = True

    def call(self, features: Tensor) -> Tensor:
        """(B, rows, cols, D) -> (B, rows cols, output_dim)."""
        rows, cols = features.shape[1:3]
        return self.prediction(ops.reshape(features, (-1, rows * cols, features.shape[-1])))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return super().get_config()
