"""data2vec 2.0: predict what a teacher that follows the student makes of the whole image.

Baevski et al., arXiv 2212.07525; facebookresearch/fairseq, examples/data2vec (commit 3d262bb) with
config/v2/base_images_only_task.yaml: models/data2vec2.py and models/modalities.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor, gather_tokens, uniform_rows
from mimzoo.data.random import uniform
from mimzoo.layers.chain import run_method
from mimzoo.layers.linear import Linear
from mimzoo.layers.transformer_block import TransformerBlock
from mimzoo.models.flops import block_flops
from mimzoo.models.vit import ViTBackbone
from mimzoo.pretraining.ema import EMA
from mimzoo.pretraining.features import FeatureTarget, normalize
from mimzoo.pretraining.masking import RandomMasking
from mimzoo.pretraining.task import MIMTask
from mimzoo.tasks.detection import make_detector
from mimzoo.tasks.image_classifier import make_classifier
from mimzoo.tasks.segmentation import make_segmenter


class PostNormBlock(TransformerBlock):
    """x = norm1(x + attention(x)), then norm2(x + mlp(x)) (modules.py, `AltBlock`)."""

    def body(self, x: Tensor, bias: Any, index: Any, factors: Any) -> Tensor:
        """See Block."""
        first, second = self.drop_path.of_branches(factors)
        branch = self.attend(x, bias, index)
        x = self.norm1(x + self.drop_path(branch, factor=first))
        return self.norm2(x + self.drop_path(self.mlp(x), factor=second))

    def with_branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and what its MLP adds before the norm, for inference."""
        return run_method(self._with_branch, x)

    def _with_branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm1(x + self.attend(x))
        branch = self.mlp(x)
        return self.norm2(x + branch), branch


@keras.saving.register_keras_serializable(package="mimzoo")
class Data2VecBackbone(ViTBackbone):
    """ViT with a norm before its blocks, and blocks that normalise after each branch.

    Args:
        *args, **kwargs: see ViTBackbone. There is no norm after the last block.
    """

    block_cls = PostNormBlock

    def __init__(self, *args: Any, final_norm: bool = False, **kwargs: Any):
        epsilon = kwargs.get("layer_norm_epsilon", 1e-6)
        self.pre_norm = keras.layers.LayerNormalization(
            epsilon=epsilon, dtype=kwargs.get("dtype"), name="pre_norm"
        )
        super().__init__(*args, final_norm=False, **kwargs)

    def prepare(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """What the first block gets: tokens with positions, the class token first, normalised."""
        return self.pre_norm(super().prepare(x, index))


Data2VecImageClassifier = make_classifier(Data2VecBackbone, __name__)
Data2VecImageSegmenter = make_segmenter(Data2VecBackbone, __name__)
Data2VecObjectDetector = make_detector(Data2VecBackbone, __name__)


@keras.saving.register_keras_serializable(package="mimzoo")
class InverseBlockMasking(RandomMasking):
    """Several masks of each image, in each of which a few square blocks stay visible.

    int(patches x (1 - ratio)) patches are visible in every mask: int(patches x (1 - ratio +
    adjust) / block_size²) blocks around random centres, cut off at the border; then random ones of
    them are hidden, or random others shown, until the number is right (fairseq/data/data_utils.py,
    `compute_block_mask_2d`).

    Args:
        mask_ratio: hidden share, in (0, 1).
        seed: of all masks.
        block_size: side of a block in patches, odd.
        adjust: share of the patches that blocks cover beyond the visible ones.
        masks_per_image: M.

    Raises:
        ValueError: a ratio outside (0, 1), an even block, or no masks.
    """

    def __init__(
        self,
        mask_ratio: float = 0.8,
        seed: int = 0,
        block_size: int = 3,
        adjust: float = 0.07,
        masks_per_image: int = 16,
    ):
        super().__init__(mask_ratio, seed)
        if block_size < 1 or block_size % 2 == 0 or masks_per_image < 1:
            raise ValueError(
                f"block_size must be odd and masks_per_image at least 1, got {block_size} and "
                f"{masks_per_image}."
            )
        self.block_size, self.adjust, self.masks_per_image = block_size, adjust, masks_per_image

    def _count(self, units: int) -> int:
        return units - int(units * (1 - self.mask_ratio) + 1e-9)

    def draw(
        self,
        index: np.ndarray,
        epoch: int,
        grid: tuple[int, int],
        patch_size: int,
        seed: int | None = None,
        training: bool = False,
    ) -> np.ndarray:
        """(B, M, N) uint8 over patches, 1 = hidden; see RandomMasking."""
        patches = grid[0] * grid[1]
        visible = patches - self.num_hidden(grid, patch_size)
        share = 1 - self.mask_ratio + self.adjust
        blocks = max(1, int(patches * share / self.block_size**2 + 1e-9))
        seed, numbers = self.seed if seed is None else seed, blocks + patches
        drawn = uniform(seed, epoch, index, self.masks_per_image * numbers, stream="block mask")
        drawn = drawn.reshape(-1, numbers)
        rows, cols = np.divmod((drawn[:, :blocks] * patches).astype(int), grid[1])
        reach = self.block_size // 2
        down = np.abs(np.arange(grid[0]) - rows[..., None]) <= reach
        across = np.abs(np.arange(grid[1]) - cols[..., None]) <= reach
        covered = (down[..., :, None] & across[..., None, :]).any(1).reshape(-1, patches)
        order = np.argsort(-(covered + drawn[:, blocks:]), axis=1, kind="stable")
        masks = np.ones(covered.shape, "uint8")
        np.put_along_axis(masks, order[:, :visible], 0, axis=1)
        return masks.reshape(-1, self.masks_per_image, patches)

    def check(self, masks: np.ndarray, grid: tuple[int, int], patch_size: int) -> None:
        """Raises ValueError unless masks (B, M, N) hide what `draw` would hide."""
        if masks.ndim != 3:
            raise ValueError(f"masks must be (images, masks, patches), got {masks.shape}.")
        super().check(masks.reshape(-1, masks.shape[-1]), grid, patch_size)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("mask_ratio", "seed", "block_size", "adjust", "masks_per_image")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="mimzoo")
class ConvDecoder(keras.layers.Layer):
    """Convolutions over the grid, hidden places filled with noise (modules.py, `Decoder2d`).

    Each layer: a grouped convolution, a norm without weights, GELU, plus its input where the
    widths agree; then one linear layer.

    Args:
        depth, kernel_size, groups: of the convolutions. Base: 6, 3, 16; large: 3, 5, 16.
        embed_dim: their width. Default: the backbone's.
        noise: standard deviation of the noise; evaluation has none.
    """

    def __init__(
        self,
        depth: int = 6,
        kernel_size: int = 3,
        groups: int = 16,
        embed_dim: int | None = None,
        noise: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.depth, self.kernel_size, self.groups = depth, kernel_size, groups
        self.embed_dim, self.noise = embed_dim, noise
        self.seed_generator = keras.random.SeedGenerator()

    def build_for(self, backbone: keras.Model, output_dim: int) -> None:
        """Creates the weights for a backbone; the task calls it once."""
        self.embed_dim, self.grid = self.embed_dim or backbone.embed_dim, backbone.grid
        width, shared, self.convolutions, self.norms = backbone.embed_dim, {}, [], []
        shared["dtype"] = self.dtype_policy
        for number in range(self.depth):
            fan_in = self.kernel_size**2 * width // self.groups
            start = keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)
            convolution = keras.layers.Conv2D(
                self.embed_dim,
                self.kernel_size,
                padding="same",
                groups=self.groups,
                kernel_initializer=start,
                bias_initializer=start,
                name=f"convolution_{number}",
                **shared,
            )
            norm = keras.layers.LayerNormalization(
                center=False, scale=False, epsilon=1e-5, name=f"norm_{number}", **shared
            )
            for layer, channels in ((convolution, width), (norm, self.embed_dim)):
                layer.build((None, *self.grid, channels))
            self.convolutions.append(convolution)
            self.norms.append(norm)
            width = self.embed_dim
        limit = width**-0.5
        start = keras.initializers.RandomUniform(-limit, limit)
        self.prediction = Linear(
            output_dim,
            kernel_initializer=start,
            bias_initializer=start,
            name="prediction",
            **shared,
        )
        self.prediction.build((None, None, width))
        self.built = True

    def call(
        self, features: Tensor, masks: Tensor, noise: Tensor | None = None, training: Any = None
    ) -> Tensor:
        """Visible tokens (B, K, D) in the order of the grid, masks (B, N) -> (B, N, output_dim).

        Args:
            features, masks: see above; 1 = hidden.
            noise: (B, N, D) in place of what training draws.
        """
        rank = ops.cumsum(1 - ops.cast(masks, "int32"), axis=1) - 1
        x = gather_tokens(features, ops.maximum(rank, 0))
        if noise is None and training:
            drawn = ops.maximum(uniform_rows(ops.shape(x), self.seed_generator), 2.0**-24)
            noise = self.noise * math.sqrt(2) * ops.erfinv(2 * drawn - 1)
        fill = ops.zeros_like(x) if noise is None else ops.cast(noise, x.dtype)
        x = ops.where(ops.cast(masks, "bool")[..., None], fill, x)
        x = ops.reshape(x, (-1, *self.grid, x.shape[-1]))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = keras.activations.gelu(norm(convolution(x)), approximate=False)
            x = x + y if x.shape[-1] == y.shape[-1] else y
        return self.prediction(ops.reshape(x, (-1, self.grid[0] * self.grid[1], x.shape[-1])))

    def flops(self, tokens: int) -> float:
        """Forward pass of the convolutions over one image of so many patches."""
        weights = self.kernel_size**2 * self.embed_dim**2 / self.groups
        return 2 * tokens * self.depth * weights

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("depth", "kernel_size", "groups", "embed_dim", "noise")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="mimzoo")
class Data2VecTarget(FeatureTarget):
    """What the MLPs of the teacher's last blocks add (data2vec2.py, `make_targets`).

    Each is normalised over the patches of an image, channel by channel; their mean is normalised
    over its channels; both without weights, epsilon 1e-5. The loss of a patch is the sum of squared
    errors over sqrt(D), so sqrt(D) times their mean.

    Args:
        teacher: how it follows the student. Default: as published for base.
        top: blocks that are averaged. Default: five sixths of them, as published for base.
    """

    def __init__(self, teacher: EMA | None = None, top: int | None = None):
        super().__init__(teacher or EMA(), loss="mse")
        self.top = top

    def build(self, task: Any) -> None:
        """As in FeatureTarget; the default of `top` follows the backbone."""
        depth = task.backbone.depth
        self.top = max(1, round(depth * 5 / 6)) if self.top is None else self.top
        if not 1 <= self.top <= depth:
            raise ValueError(f"top must lie in 1..{depth}, the backbone's blocks, got {self.top}.")
        super().build(task)

    def features(self, images: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, rows, cols, D) float32."""
        teacher, maps = self.backbone, []
        x = teacher.prepare(teacher.embed(images))
        for block in teacher.blocks:
            x, branch = block.with_branch(x)
            maps.append(branch)
        maps = [ops.cast(teacher.feature_map(x), "float32") for x in maps[-self.top :]]
        maps = [normalize(x, axis=(1, 2)) for x in maps]
        return normalize(sum(maps[1:], maps[0]) / len(maps), axis=-1)

    def error(self, targets: Tensor, predictions: Tensor) -> Tensor:
        """Error of each patch: (..., N, D) both -> (..., N) float32."""
        return super().error(targets, predictions) * math.sqrt(targets.shape[-1])

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"teacher": super().get_config()["teacher"], "top": self.top}


@keras.saving.register_keras_serializable(package="mimzoo")
class Data2Vec(MIMTask):
    """data2vec 2.0 pretraining of a Data2VecBackbone.

    A teacher sees the whole image once; the student sees the visible patches of M masks, a small
    convolutional decoder predicts the teacher's targets at the hidden ones. The student's class
    token predicts their mean over the image.

    Args:
        backbone: a Data2VecBackbone.
        masking: which patches are hidden. Default: 16 masks an image, 80 % in each.
        decoder: default: six grouped convolutions.
        target: what is predicted. Default: the five sixths of the teacher's blocks at its end.
        class_loss: weight of the class token's mean loss. Published: 0.01 of the sum over the 256
            rows that a GPU has, which is this default.
        preprocessor: see MAE.

    Example:
    ```python
    task = mimzoo.pretraining.Data2Vec(mimzoo.pretraining.Data2VecBackbone.from_size("base"))
    task.fit(images, epochs=75)
    ```
    """

    mask_axes = 3

    def __init__(
        self,
        backbone: keras.Model,
        masking: InverseBlockMasking | None = None,
        decoder: ConvDecoder | None = None,
        target: Data2VecTarget | None = None,
        class_loss: float = 2.56,
        preprocessor: keras.layers.Layer | str | None = "auto",
        **kwargs: Any,
    ):
        if not isinstance(backbone, Data2VecBackbone) or not backbone.class_token:
            raise ValueError(
                f"data2vec pretrains a Data2VecBackbone with a class token, not this "
                f"{type(backbone).__name__}."
            )
        self.class_loss = class_loss
        super().__init__(
            backbone,
            masking or InverseBlockMasking(),
            decoder or ConvDecoder(dtype=backbone.dtype_policy, name="decoder"),
            target or Data2VecTarget(),
            preprocessor,
            **kwargs,
        )

    def build_parts(self) -> None:
        """Counts the visible patches and gives the decoder its weights."""
        grid, patch_size = self.backbone.grid, self.backbone.patch_size
        self.num_visible = grid[0] * grid[1] - self.masking.num_hidden(grid, patch_size)
        size = self.target.size(patch_size, 3)
        if size != self.backbone.embed_dim:
            raise ValueError(
                f"data2vec predicts {self.backbone.embed_dim} features of each patch, and "
                f"{type(self.target).__name__} has {size} numbers: give a target of features."
            )
        self.decoder.build_for(self.backbone, size)

    def call(self, inputs: dict, training: bool | None = None) -> dict:
        """{"images": (B, H, W, C), "masks": (B, M, N)} -> predictions.

        Returns:
            {"patches": (B, M, N, D), "class_token": (B, M, D)}.
        """
        self.follow(training)
        count, patches = inputs["masks"].shape[1:]
        masks = ops.reshape(inputs["masks"], (-1, patches))
        features = self.encode_visible(inputs["images"], masks, count, training)
        predicted = self.decoder(features[:, 1:], masks, training=training)
        return {
            "patches": ops.reshape(predicted, (-1, count, patches, predicted.shape[-1])),
            "class_token": ops.reshape(features[:, 0], (-1, count, features.shape[-1])),
        }

    def encode_visible(
        self, images: Tensor, masks: Tensor, count: int, training: bool | None = None
    ) -> Tensor:
        """Features under each mask, in the order of the grid: (B M, 1 + K, D)."""
        index = ops.argsort(ops.cast(masks, "int32"), axis=1)[:, : self.num_visible]
        index = ops.sort(index, axis=1)
        # The M masks of an image gather from the same embedded patches.
        together = ops.reshape(index, (-1, count * self.num_visible))
        tokens = gather_tokens(self.backbone.embed(images), together)
        tokens = ops.reshape(tokens, (-1, self.num_visible, tokens.shape[-1]))
        return self.backbone.encode(tokens, index=index, training=training)

    def compute_loss(
        self,
        x: dict | None = None,
        y: None = None,
        y_pred: dict | None = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Mean over the hidden patches, and `class_loss` of the class tokens' mean."""
        targets = self.target.targets(self.step(x))
        patches = self.target.error(targets[:, None], ops.cast(y_pred["patches"], "float32"))
        loss = self.mean_loss(x, patches, self.loss_weights(x))
        whole = ops.mean(targets, axis=1, keepdims=True)
        tokens = self.target.error(whole, ops.cast(y_pred["class_token"], "float32"))
        loss = loss + self.class_loss * self.mean_loss(x, tokens, ops.ones_like(tokens))
        return loss + self.added_losses()

    def one_mask(self, predictions: dict) -> np.ndarray:
        """Predictions (B, N, D) under the first mask."""
        return predictions["patches"][:, 0]

    def forward_flops(self) -> float:
        """Floating-point operations of the student's forward pass over one image."""
        backbone, patches = self.backbone, self.backbone.grid[0] * self.backbone.grid[1]
        embed = 2 * patches * backbone.patch_size**2 * 3 * backbone.embed_dim
        block = block_flops(self.num_visible + 1, backbone.embed_dim, backbone.mlp_ratio)
        predict = 2 * patches * self.decoder.embed_dim * backbone.embed_dim
        decode = self.decoder.flops(patches) + predict
        return embed + self.masking.masks_per_image * (backbone.depth * block + decode)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "class_loss": self.class_loss}
