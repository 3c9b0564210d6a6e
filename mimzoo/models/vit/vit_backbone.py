"""The plain vision transformer."""

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.chain import run_layers
from mimzoo.layers.class_token import ClassToken
from mimzoo.layers.drop_path import drop_path_rates
from mimzoo.layers.patches import PatchEmbed, patch_grid
from mimzoo.layers.position_bias import RelativePositionBias
from mimzoo.layers.positions import PositionEmbedding
from mimzoo.layers.transformer_block import TransformerBlock
from mimzoo.models.backbone import Backbone, check_image_shape
from mimzoo.models.layer_decay import vit_layer_decay_scales
from mimzoo.models.vit.pyramid import scaled_maps
from mimzoo.models.vit.relative_positions import (
    RELATIVE_BIASES,
    check_all_tokens,
    check_class_token,
    with_other_positions,
)
from mimzoo.models.vit.sizes import vit_size
from mimzoo.models.vit.windows import block_windows

POSITIONS = ("sincos", "learned", "none")

_ARGUMENTS = (
    "image_shape",
    "patch_size",
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_ratio",
    "class_token",
    "position_embedding",
    "relative_position_bias",
    "qkv_bias",
    "layer_scale_init",
    "drop_path_rate",
    "final_norm",
    "layer_norm_epsilon",
    "remat",
    "window_size",
    "global_attention_blocks",
)


@keras.saving.register_keras_serializable(package="mimzoo")
class ViTBackbone(Backbone):
    """Vision transformer: images (B, H, W, C) -> tokens (B, [1 +] N, embed_dim).

    Dosovitskiy et al., arXiv 2010.11929, in the variants of MAE (models_vit.py) and SimMIM
    (models/vision_transformer.py). With a class token it stands first. Pooling is the
    classifier's business.

    Args:
        image_shape: (H, W, C) in pixels; any rectangle that `patch_size` divides.
        patch_size: side of a patch in pixels.
        embed_dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads of a block.
        mlp_ratio: hidden width of a block's MLP over `embed_dim`.
        class_token: whether a learned class token is prepended.
        position_embedding: "sincos" (fixed, MAE), "learned" (starting at sine-cosine) or "none".
        relative_position_bias: "none", "shared" (one table, SimMIM's pretraining), "per_block"
            (SimMIM's and BEiT's fine-tuning) or "decomposed" (ViTDet's, which depends on the
            queries; needs `class_token=False`).
        qkv_bias: "qkv", "qv" (SimMIM, BEiT) or "none".
        layer_scale_init: LayerScale's start, None for no LayerScale.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        final_norm: whether the tokens are normalised at the end. MAE's fine-tuning sets False
            and normalises after pooling.
        layer_norm_epsilon: of all norms.
        remat: recompute activations of the blocks in the backward pass, saving memory. True or
            "full": all of them. "dots_with_no_batch_dims_saveable" (JAX's name; JAX and torch):
            all but the outputs of linear layers, so that only norms, activations and attention are
            computed again.
        window_size: side of the windows, in tokens, inside which blocks attend (ViTDet, arXiv
            2203.16527); needs `class_token=False`. None: all blocks attend to all tokens.
        global_attention_blocks: blocks that do so in spite of `window_size`, from 0; default: the
            last of each quarter.
        dtype: Keras dtype or policy.

    Raises:
        ValueError: the patch does not divide the image, heads do not divide the width, an unknown
            option, options that do not go with windows; in training on TensorFlow, a policy of
            `remat` by name, but "full".

    Example:
    ```python
    backbone = mimzoo.models.ViTBackbone.from_size("base", image_shape=(224, 224, 3))
    tokens = backbone(images)  # (B, 197, 768)
    ```
    """

    family = "vit"
    block_cls = TransformerBlock

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        class_token: bool = True,
        position_embedding: str = "sincos",
        relative_position_bias: str = "none",
        qkv_bias: str = "qkv",
        layer_scale_init: float | None = None,
        drop_path_rate: float = 0.0,
        final_norm: bool = True,
        layer_norm_epsilon: float = 1e-6,
        remat: bool | str = False,
        window_size: int | None = None,
        global_attention_blocks: tuple[int, ...] | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs,
    ):
        for name, value, known in (
            ("position_embedding", position_embedding, POSITIONS),
            ("relative_position_bias", relative_position_bias, RELATIVE_BIASES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}.")
        if global_attention_blocks is not None:
            global_attention_blocks = tuple(global_attention_blocks)
        check_class_token(relative_position_bias, class_token)
        windows = block_windows(
            depth, window_size, global_attention_blocks, class_token, relative_position_bias
        )
        self.image_shape = check_image_shape(image_shape)
        self.grid = grid = patch_grid(image_shape, patch_size)
        shared = {"dtype": dtype}

        # === Layers ===
        self.patch_embed = PatchEmbed(patch_size, embed_dim, name="patch_embed", **shared)
        self.positions = (
            PositionEmbedding(
                grid, trainable=position_embedding == "learned", name="positions", **shared
            )
            if position_embedding != "none"
            else None
        )
        self.class_token_layer = (
            ClassToken(position=position_embedding == "learned", name="class_token", **shared)
            if class_token
            else None
        )
        self.shared_bias = (
            RelativePositionBias(
                grid, num_heads, class_token, name="relative_position_bias", **shared
            )
            if relative_position_bias == "shared"
            else None
        )
        self.blocks = [
            self.block_cls(
                embed_dim,
                num_heads,
                mlp_ratio,
                qkv_bias,
                layer_scale_init,
                rate,
                relative_position_grid=(
                    ((size, size) if size else grid)
                    if relative_position_bias in ("per_block", "decomposed")
                    else None
                ),
                decomposed=relative_position_bias == "decomposed",
                class_token=class_token,
                remat=remat,
                layer_norm_epsilon=layer_norm_epsilon,
                window_size=size,
                grid=grid if size else None,
                name=f"block_{i}",
                **shared,
            )
            for i, (rate, size) in enumerate(
                zip(drop_path_rates(drop_path_rate, depth), windows, strict=True)
            )
        ]
        self.norm = (
            keras.layers.LayerNormalization(epsilon=layer_norm_epsilon, name="norm", **shared)
            if final_norm
            else None
        )

        # === Functional Model ===
        images = keras.Input(shape=self.image_shape, name="images")
        tokens = self.embed(images)
        intermediates: list[Tensor] = []
        outputs = self._encode(tokens, kept=intermediates)
        super().__init__(inputs=images, outputs=outputs, dtype=dtype, **kwargs)

        # === Config ===
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.depth = depth
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.class_token = class_token
        self.position_embedding = position_embedding
        self.relative_position_bias = relative_position_bias
        self.qkv_bias = qkv_bias
        self.layer_scale_init = layer_scale_init
        self.drop_path_rate = drop_path_rate
        self.final_norm = final_norm
        self.layer_norm_epsilon = layer_norm_epsilon
        self.remat = remat
        self.window_size = window_size
        self.global_attention_blocks = global_attention_blocks
        self.stride = patch_size
        self.output_dim = embed_dim
        self.intermediate_outputs = tuple(intermediates[:depth])
        self.pyramid_outputs = scaled_maps(self.feature_map(outputs), patch_size)

    @classmethod
    def from_size(cls, size: str, **kwargs) -> "ViTBackbone":
        """A new backbone of a named size; `kwargs` are the constructor's arguments."""
        return cls(**{**vit_size(size), **kwargs})

    @classmethod
    def from_other_config(cls, folder: str, stored: dict, changes: dict) -> "Backbone | None":
        """Another kind of relative positions: see `with_other_positions`."""
        return with_other_positions(cls, folder, stored, changes)

    def embed(self, images: Tensor) -> Tensor:
        """Patch embedding without positions: (B, H, W, C) -> (B, N, embed_dim).

        Raises:
            ValueError: images of another shape than `image_shape`.
        """
        self.check_images(images)
        return self.patch_embed(images)

    def encode(
        self, tokens: Tensor, index: Tensor | None = None, *, training: bool | None = None
    ) -> Tensor:
        """Adds positions and class token and runs the blocks.

        Args:
            tokens: (B, N, embed_dim), or (B, K, embed_dim) with `index`.
            index: (B, K) integers, the place of each token on the grid where some are left out.
            training: whether paths are dropped; default: as the layer that calls says.

        Returns:
            (B, [1 +] N or K, embed_dim), the class token first.
        """
        return self._encode(tokens, index, training=training)

    def check_dropping(self) -> None:
        """Raises ValueError where tokens cannot be dropped: blocks need all of an image."""
        check_all_tokens(self.relative_position_bias, self.window_size)

    def prepare(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """What the first block gets: tokens with positions, the class token first."""
        if self.positions is not None:
            x = self.positions(x, index=index)
        return x if self.class_token_layer is None else self.class_token_layer(x)

    def _encode(
        self,
        x: Tensor,
        index: Tensor | None = None,
        kept: list[Tensor] | None = None,
        training: bool | None = None,
    ) -> Tensor:
        # `kept` gets each layer's output. Nothing else may hold one.
        if index is None:
            self.check_tokens(x)
        else:
            self.check_dropping()
        x = self.prepare(x, index)
        bias = None if self.shared_bias is None else self.shared_bias(x, index=index)
        layers = [(block, {"bias": bias, "index": index}) for block in self.blocks]
        layers += [] if self.norm is None else [(self.norm, {})]
        return run_layers(layers, x, training, kept)

    def feature_map(self, tokens: Tensor) -> Tensor:
        """Tokens of a whole image as a map: (B, [1 +] N, D) -> (B, rows, cols, D)."""
        patches = tokens[:, 1:] if self.class_token else tokens
        return ops.reshape(patches, (-1, *self.grid, self.embed_dim))

    def layer_decay_scales(self, layer_decay: float) -> list[tuple[str, float]]:
        """MAE's groups (util/lr_decay.py): embedding 0, block k -> k + 1, the rest depth + 1."""
        return vit_layer_decay_scales(self.depth, layer_decay)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        for name in _ARGUMENTS:
            config[name] = getattr(self, name)
        return config
