"""What the hierarchical backbones share: stages of blocks, with merging between them."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.chain import run_layers
from mimzoo.layers.drop_path import drop_path_rates
from mimzoo.layers.patch_merging import PatchMerging
from mimzoo.layers.patches import PatchEmbed
from mimzoo.layers.positions import PositionEmbedding
from mimzoo.models.backbone import Backbone, check_image_shape
from mimzoo.models.layer_decay import swin_layer_decay_scales

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
    norm_interval: int = 0

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int | Sequence[int] = 7,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: str = "qkv",
        drop_path_rate: float = 0.0,
        final_norm: bool = True,
        layer_norm_epsilon: float = 1e-5,
        remat: bool | str = False,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs,
    ):
        depths, num_heads = tuple(depths), tuple(num_heads)
        if len(depths) != len(num_heads):
            raise ValueError(
                f"depths {depths} and num_heads {num_heads} must have one entry for each stage."
            )
        # === Config ===
        self.image_shape = check_image_shape(image_shape)
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.depths = depths
        self.num_heads = num_heads
        self.window_size = window_size if isinstance(window_size, int) else tuple(window_size)
        self.mlp_ratio = mlp_ratio
        self.qkv_bias = qkv_bias
        self.drop_path_rate = drop_path_rate
        self.final_norm = final_norm
        self.layer_norm_epsilon = layer_norm_epsilon
        self.remat = remat
        self.stage_grids = stage_grids(self.image_shape, patch_size, len(depths))
        self.grid = self.stage_grids[0]
        self.stride = patch_size * 2 ** (len(depths) - 1)
        self.output_dim = embed_dim * 2 ** (len(depths) - 1)
        windows = window_sizes(window_size, len(depths))
        if not all(1 <= size <= max(self.grid) for size in windows):
            raise ValueError(
                f"window_size {window_size} does not fit the image: the first stage has "
                f"{self.grid[0]}x{self.grid[1]} tokens, so give window_size 1 to "
                f"{max(self.grid)} or larger images."
            )

        # === Layers ===
        shared = {"dtype": dtype}
        norm = {"epsilon": layer_norm_epsilon, **shared}
        self.patch_embed = PatchEmbed(patch_size, embed_dim, pad=True, name="patch_embed", **shared)
        self.patch_norm = keras.layers.LayerNormalization(name="patch_norm", **norm)
        self.positions = (
            PositionEmbedding(self.grid, name="positions", **shared)
            if self.fixed_positions
            else None
        )
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.stages: list[list[keras.Layer]] = []
        self.mergings: list[keras.Layer] = []
        self.extra_norms: dict[str, keras.Layer] = {}
        for stage, depth in enumerate(depths):
            self.stages.append(self._blocks(stage, windows[stage], rates, shared))
            for block in range(depth):
                if self.norm_interval and (block + 1) % self.norm_interval == 0:
                    self.extra_norms[f"{stage}_{block}"] = keras.layers.LayerNormalization(
                        name=f"stage_{stage}_block_{block}_norm", **norm
                    )
            if stage < len(depths) - 1:
                self.mergings.append(
                    PatchMerging(
                        embed_dim * 2**stage,
                        self.norm_first,
                        layer_norm_epsilon,
                        self.block_cls.attention_cls.kernel_initializer,
                        name=f"stage_{stage}_merging",
                        **shared,
                    )
                )
        self.norm = keras.layers.LayerNormalization(name="norm", **norm) if final_norm else None

        # === Functional Model ===
        images = keras.Input(shape=self.image_shape, name="images")
        stages: list[list[Tensor]] = []
        outputs = self._encode(self.embed(images), kept=stages)
        super().__init__(inputs=images, outputs=outputs, dtype=dtype, **kwargs)
        self.intermediate_outputs = tuple(x for stage in stages for x in stage)
        self.pyramid_outputs = self._pyramid([stage[-1] for stage in stages], outputs)

    def _blocks(
        self, stage: int, window_size: int, rates: Iterator[float], shared: dict
    ) -> list[keras.Layer]:
        return [
            self.block_cls(
                self.embed_dim * 2**stage,
                self.num_heads[stage],
                self.stage_grids[stage],
                window_size,
                shifted=self.shifted and block % 2 == 1,
                qkv_bias=self.qkv_bias,
                mlp_ratio=self.mlp_ratio,
                drop_path_rate=next(rates),
                remat=self.remat,
                layer_norm_epsilon=self.layer_norm_epsilon,
                name=f"stage_{stage}_block_{block}",
                **self.block_arguments(stage),
                **shared,
            )
            for block in range(self.depths[stage])
        ]

    def block_arguments(self, stage: int) -> dict:
        """What the blocks of a stage take beyond what those of every family take."""
        return {}

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
        """Patch embedding and norm: (B, H, W, C) -> (B, N, embed_dim).

        Raises:
            ValueError: images of another shape than `image_shape`.
        """
        self.check_images(images)
        return self.patch_norm(self.patch_embed(images))

    def encode(
        self, tokens: Tensor, sources: Tensor | None = None, *, training: bool | None = None
    ) -> Tensor:
        """Runs the stages on embedded patches.

        Args:
            tokens: (B, N, embed_dim).
            sources: which of two images, 0 or 1, each patch is from: (B, N), or (1, N) for all
                examples alike. Attention then stays among the tokens of one image. What merges
                into one token of the last stage, `stride` x `stride` pixels, has to be of one
                image. Default: all tokens are of one.
            training: whether paths are dropped; default: as the layer that calls says.

        Returns:
            (B, M, output_dim) of the last stage's M tokens.
        """
        return self._encode(tokens, sources, training=training)

    def _encode(
        self,
        tokens: Tensor,
        sources: Tensor | None = None,
        kept: list[list[Tensor]] | None = None,
        training: bool | None = None,
    ) -> Tensor:
        # `kept` gets each block's output, stage by stage. Nothing else may hold one.
        self.check_tokens(tokens)
        if self.positions is not None:
            tokens = self.positions(tokens)
        x = ops.reshape(tokens, (-1, *self.stage_grids[0], self.embed_dim))
        if sources is not None:
            sources = ops.reshape(sources, (-1, *self.stage_grids[0]))
        layers: list[tuple[keras.Layer, dict]] = []
        ends: list[list[int]] = []  # where blocks end, stage by stage
        for stage, blocks in enumerate(self.stages):
            if stage:
                layers.append((self.mergings[stage - 1], {}))
                sources = None if sources is None else sources[:, ::2, ::2]
            ends.append([])
            masks = {}  # the same for all blocks of a stage with the same windows
            for number, block in enumerate(blocks):
                windows = block.attention.windows
                if sources is not None and windows not in masks:
                    masks[windows] = block.attention.group_mask(sources)
                layers.append((block, {"group_mask": masks.get(windows)}))
                extra = self.extra_norms.get(f"{stage}_{number}")
                layers += [] if extra is None else [(extra, {})]
                ends[-1].append(len(layers) - 1)
        layers += [] if self.norm is None else [(self.norm, {})]
        outputs: list[Tensor] | None = None if kept is None else []
        x = run_layers(layers, x, training, outputs)
        if kept is not None:
            kept += [[outputs[end] for end in stage] for stage in ends]
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

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        for name in ARGUMENTS:
            config[name] = getattr(self, name)
        return config
