"""What the hierarchical backbones share: stages of blocks, with merging between them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.drop_path import drop_path_rates
from mimzoo.layers.patch_merging import PatchMerging
from mimzoo.layers.patches import PatchEmbed
from mimzoo.layers.positions import PositionEmbedding
from mimzoo.models.backbone import Backbone
from mimzoo.optimizers.groups import swin_layer_decay_scales

ARGUMENTS = (
    "image_shape",
    "patch_size",
    "embed_dim",
    "depths",
    "num_heads",
    "window_size",
    "mlp_ratio",
    "qkv_bias",
    "drop_path_rate",
    "final_norm",
    "layer_norm_epsilon",
    "remat",
)


def stage_grids(image_shape: Sequence[int], patch_size: int, stages: int) -> list[tuple[int, int]]:
    """Rows and columns of tokens of each stage; what does not divide is rounded up (padded)."""
    grid = tuple(-(-side // patch_size) for side in image_shape[:2])
    grids = [grid]
    for _ in range(stages - 1):
        grids.append(tuple((side + 1) // 2 for side in grids[-1]))
    return grids


def window_sizes(window_size: int | Sequence[int], stages: int) -> tuple[int, ...]:
    """The window of each stage, from one number for all or one for each.

    Raises:
        ValueError: another number of entries than stages.
    """
    sizes = (window_size,) * stages if isinstance(window_size, int) else tuple(window_size)
    if len(sizes) != stages:
        raise ValueError(
            f"window_size {sizes} must be one number, or one for each of the {stages} stages."
        )
    return sizes


class HierarchicalBackbone(Backbone):
    """Patch embedding and norm, then stages of blocks; patches merge between stages.

    A family gives `block_cls`, and says whether every other block shifts its windows, whether
    merging normalises first, and whether fixed positions are added to the patches. See
    SwinBackbone for the arguments.
    """

    block_cls: ClassVar[type]
    shifted: ClassVar[bool] = True
    norm_first: ClassVar[bool] = True
    fixed_positions: ClassVar[bool] = False
    sizes: ClassVar[dict[str, dict]] = {}

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch_size: int,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_size: int | Sequence[int],
        mlp_ratio: float,
        qkv_bias: str,
        drop_path_rate: float,
        final_norm: bool,
        layer_norm_epsilon: float,
        remat: bool,
        dtype: str | keras.DTypePolicy | None,
        block_arguments: Sequence[dict] = (),
        norm_interval: int = 0,
        **kwargs,
    ):
        depths, num_heads = tuple(depths), tuple(num_heads)
        if len(depths) != len(num_heads):
            raise ValueError(
                f"depths {depths} and num_heads {num_heads} must have one entry for each stage."
            )
        grids = stage_grids(image_shape, patch_size, len(depths))
        windows = window_sizes(window_size, len(depths))
        if not all(1 <= size <= max(grids[0]) for size in windows):
            raise ValueError(
                f"window_size {window_size} does not fit the image: the first stage has "
                f"{grids[0][0]}x{grids[0][1]} tokens, so give window_size 1 to {max(grids[0])} "
                "or larger images."
            )
        shared = {"dtype": dtype}
        norm = {"epsilon": layer_norm_epsilon, **shared}

        # === Layers ===
        self.patch_embed = PatchEmbed(patch_size, embed_dim, pad=True, name="patch_embed", **shared)
        self.patch_norm = keras.layers.LayerNormalization(name="patch_norm", **norm)
        self.positions = (
            PositionEmbedding(grids[0], name="positions", **shared)
            if self.fixed_positions
            else None
        )
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.stages: list[list[keras.Layer]] = []
        self.mergings: list[keras.Layer] = []
        self.extra_norms: dict[str, keras.Layer] = {}
        for stage, (depth, heads, grid) in enumerate(zip(depths, num_heads, grids, strict=True)):
            dim = embed_dim * 2**stage
            self.stages.append(
                [
                    self.block_cls(
                        dim,
                        heads,
                        grid,
                        windows[stage],
                        shifted=self.shifted and block % 2 == 1,
                        qkv_bias=qkv_bias,
                        mlp_ratio=mlp_ratio,
                        drop_path_rate=next(rates),
                        remat=remat,
                        layer_norm_epsilon=layer_norm_epsilon,
                        name=f"stage_{stage}_block_{block}",
                        **(block_arguments[stage] if block_arguments else {}),
                        **shared,
                    )
                    for block in range(depth)
                ]
            )
            for block in range(norm_interval - 1, depth, norm_interval) if norm_interval else ():
                self.extra_norms[f"{stage}_{block}"] = keras.layers.LayerNormalization(
                    name=f"stage_{stage}_block_{block}_norm", **norm
                )
            if stage < len(depths) - 1:
                self.mergings.append(
                    PatchMerging(
                        dim,
                        self.norm_first,
                        layer_norm_epsilon,
                        self.block_cls.attention_cls.kernel_initializer,
                        name=f"stage_{stage}_merging",
                        **shared,
                    )
                )
        self.norm = keras.layers.LayerNormalization(name="norm", **norm) if final_norm else None
        self.stage_grids = grids
        self.embed_dim = embed_dim

        # === Functional Model ===
        images = keras.Input(shape=image_shape, name="images")
        stages: list[list[Tensor]] = []
        outputs = self._encode(self.embed(images), kept=stages)
        super().__init__(inputs=images, outputs=outputs, dtype=dtype, **kwargs)

        # === Config ===
        self.image_shape = tuple(image_shape)
        self.patch_size = patch_size
        self.depths = depths
        self.num_heads = num_heads
        self.window_size = window_size if isinstance(window_size, int) else windows
        self.mlp_ratio = mlp_ratio
        self.qkv_bias = qkv_bias
        self.drop_path_rate = drop_path_rate
        self.final_norm = final_norm
        self.layer_norm_epsilon = layer_norm_epsilon
        self.remat = remat
        self.grid = grids[0]
        self.stride = patch_size * 2 ** (len(depths) - 1)
        self.output_dim = embed_dim * 2 ** (len(depths) - 1)
        self.intermediate_outputs = [x for stage in stages for x in stage]
        self.pyramid_outputs = self._pyramid([stage[-1] for stage in stages], outputs)

    @classmethod
    def from_size(cls, size: str, **kwargs: Any) -> "HierarchicalBackbone":
        """A new backbone of a named size; `kwargs` are the constructor's arguments.

        Raises:
            ValueError: an unknown size.
        """
        if size not in cls.sizes:
            raise ValueError(
                f"unknown {cls.__name__} size {size!r}: choose one of {', '.join(cls.sizes)}."
            )
        return cls(**{**cls.sizes[size], **kwargs})

    def embed(self, images: Tensor) -> Tensor:
        """Patch embedding and norm: (B, H, W, C) -> (B, N, embed_dim)."""
        return self.patch_norm(self.patch_embed(images))

    def encode(self, tokens: Tensor, sources: Tensor | None = None) -> Tensor:
        """Runs the stages on embedded patches.

        Args:
            tokens: (B, N, embed_dim).
            sources: which of two images, 0 or 1, each patch is from: (B, N), or (1, N) for all
                examples alike. Attention then stays among the tokens of one image. What merges
                into one token of the last stage, `stride` x `stride` pixels, has to be of one
                image. Default: all tokens are of one.

        Returns:
            (B, M, output_dim) of the last stage's M tokens.
        """
        return self._encode(tokens, sources)

    def _encode(
        self,
        tokens: Tensor,
        sources: Tensor | None = None,
        kept: list[list[Tensor]] | None = None,
    ) -> Tensor:
        # Into `kept` goes, stage by stage, what each block gives: else it takes memory until the
        # last.
        if self.positions is not None:
            tokens = self.positions(tokens)
        x = ops.reshape(tokens, (-1, *self.stage_grids[0], self.embed_dim))
        if sources is not None:
            sources = ops.reshape(sources, (-1, *self.stage_grids[0]))
        for stage, blocks in enumerate(self.stages):
            if stage:
                x = self.mergings[stage - 1](x)
                sources = None if sources is None else sources[:, ::2, ::2]
            if kept is not None:
                kept.append([])
            apart = {}  # the same for all blocks of a stage with the same windows
            for number, block in enumerate(blocks):
                windows = block.attention.windows
                if sources is not None and windows not in apart:
                    apart[windows] = block.attention.keep_apart(sources)
                # A further argument has a cost in Keras, even if it is None: see ViTBackbone.
                x = block(x, apart[windows]) if apart else block(x)
                extra = self.extra_norms.get(f"{stage}_{number}")
                x = x if extra is None else extra(x)
                if kept is not None:
                    kept[-1].append(x)
        if self.norm is not None:
            x = self.norm(x)
        count = self.stage_grids[-1][0] * self.stage_grids[-1][1]
        return ops.reshape(x, (-1, count, x.shape[-1]))

    def feature_map(self, tokens: Tensor) -> Tensor:
        """Tokens of the last stage as a map: (B, M, D) -> (B, rows, cols, D)."""
        return ops.reshape(tokens, (-1, *self.stage_grids[-1], tokens.shape[-1]))

    def _pyramid(self, stages: list[Tensor], outputs: Tensor) -> dict[str, Tensor]:
        first = self.patch_size.bit_length() - 1
        if self.patch_size != 2**first:
            return {}
        maps = [*stages[:-1], self.feature_map(outputs)]
        return {f"P{first + number}": x for number, x in enumerate(maps)}

    def layer_decay_scales(self, layer_decay: float) -> list[tuple[str, float]]:
        """SimMIM's groups (optimizer.py): see swin_layer_decay_scales."""
        return swin_layer_decay_scales(self.depths, layer_decay)

    def default_lora_layer_names(self) -> list[str]:
        """LoRA adapts the fused projection of queries, keys and values."""
        return ["qkv"]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        for name in ARGUMENTS:
            config[name] = getattr(self, name)
        return config
