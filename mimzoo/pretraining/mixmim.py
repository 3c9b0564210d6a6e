"""MixMIM: two images mixed, and both reconstructed.

Liu et al., arXiv 2205.13137; models_mixmim.py of the official code.
"""

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.models.flops import backbone_flops
from mimzoo.pretraining.decoders import MixMIMDecoder, swap_neighbours
from mimzoo.pretraining.masking import check_binary
from mimzoo.pretraining.mix_masking import MixMasking, check_even
from mimzoo.pretraining.targets import PixelTarget, Target
from mimzoo.pretraining.task import MIMTask


@keras.saving.register_keras_serializable(package="mimzoo")
class MixingEmbedding(keras.layers.Layer):
    """Adds to each token a learned vector for the one of the two images that it is from.

    The paper describes it (section 3.2); no public code has it. Starts from a normal distribution
    of standard deviation 0.02, as the mask token does.
    """

    def build(self, input_shape: tuple) -> None:
        """Creates both vectors."""
        self.vectors = self.add_weight(
            name="vectors",
            shape=(2, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        self.built = True

    def call(self, tokens: Tensor, shows_partner: Tensor) -> Tensor:
        """(B, N, D), (B, N) boolean -> (B, N, D)."""
        own, partner = ops.unstack(ops.cast(self.vectors, tokens.dtype), 2)
        return tokens + ops.where(shows_partner[..., None], partner, own)


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMIM(MIMTask):
    """MixMIM pretraining of a MixMIMBackbone, SwinBackbone or SwinV2Backbone.

    Images 2k and 2k + 1 of a batch are partners. Each is mixed with the other, under one mask, so
    that the two mixtures show every patch of both once; attention stays among patches of one
    image; the decoder reconstructs from each mixture the hidden patches of both. So every patch
    of every image is predicted exactly once, from the mixture where it is hidden. The official
    code pairs image i with the i-th from the end; neighbours give the same statistics and stay
    together when a batch is spread over devices.

    A batch must be even. With "masks" given by the user, 1 means "shows the partner".

    Args:
        backbone: a hierarchical backbone; windows may be shifted.
        masking: which units show the partner. Default: half of the units of the backbone's
            stride (32 px with patch 4 and four stages), one mask a pair.
        decoder: default: MixMIM's, width 512, 8 blocks, 16 heads.
        target: what positions are reconstructed as. Default: pixels normalised per position. Its
            `loss_on` makes no difference here: each position is hidden once.
        mixing_embedding: whether tokens carry which image they are from; see MixingEmbedding.
        preprocessor: see MAE.

    Raises:
        ValueError: an image that the backbone's stride does not divide, units that mix two images
            in one token, or a backbone without stages.

    Example:
    ```python
    task = mimzoo.pretraining.MixMIM(mimzoo.models.MixMIMBackbone.from_size("base"))
    task.compile(keras.optimizers.AdamW(1.5e-4, weight_decay=0.05, beta_2=0.95))
    task.fit(images, batch_size=128, validation_data=held_out, epochs=100)
    ```
    """

    multiple = 2

    mask_axes = 2

    def __init__(
        self,
        backbone: keras.Model,
        masking: MixMasking | None = None,
        decoder: MixMIMDecoder | None = None,
        target: Target | None = None,
        mixing_embedding: bool = False,
        preprocessor: keras.layers.Layer | str | None = "auto",
        **kwargs,
    ):
        if not hasattr(backbone, "stage_grids"):
            raise ValueError(
                f"MixMIM mixes images for backbones with stages, which a "
                f"{type(backbone).__name__} is not: use a MixMIMBackbone, SwinBackbone or "
                "SwinV2Backbone."
            )
        self.has_mixing_embedding = mixing_embedding
        super().__init__(
            backbone,
            masking or MixMasking(mask_patch_size=backbone.stride),
            decoder or MixMIMDecoder(dtype=backbone.dtype_policy, name="decoder"),
            target or PixelTarget(),
            preprocessor,
            **kwargs,
        )

    def build_parts(self) -> None:
        """Checks that units fit, and gives the decoder its weights."""
        backbone = self.backbone
        *_, channels = backbone.image_shape
        self.check_stride()
        self.masking.num_hidden(backbone.grid, backbone.patch_size)
        unit = self.masking.mask_patch_size or backbone.patch_size
        if unit % backbone.stride:
            raise ValueError(
                f"mask_patch_size {unit} would mix two images in one token of the last stage: "
                f"choose a multiple of the backbone's stride {backbone.stride}."
            )
        self.mixing_embedding = None
        if self.has_mixing_embedding:
            self.mixing_embedding = MixingEmbedding(
                dtype=backbone.dtype_policy, name="mixing_embedding"
            )
            self.mixing_embedding.build((None, None, backbone.embed_dim))
        self.decoder.build_for(backbone, self.target.size(backbone.stride, channels))

    # --- forward ------------------------------------------------------------------------------

    def call(self, inputs: dict, training: bool | None = None) -> Tensor:
        """{"images": (B, H, W, C), "masks": (B, N)} -> predictions (B, M, P) of positions."""
        self.follow(training)
        mixed = self.encode_mixed(inputs, training)
        return self.decoder(mixed, self._of_positions(inputs["masks"]), training=training)

    def encode_mixed(self, inputs: dict, training: bool | None = None) -> Tensor:
        """Features of the mixtures: (B, M, D)."""
        images, masks = inputs["images"], inputs["masks"]
        if images.shape[0] is not None:
            check_even(images.shape[0])
        tokens = self.backbone.embed(images)
        shows_partner = ops.cast(masks, "bool")
        tokens = ops.where(shows_partner[..., None], swap_neighbours(tokens), tokens)
        if self.mixing_embedding is not None:
            tokens = self.mixing_embedding(tokens, shows_partner)
        return self.backbone.encode(tokens, masks, training=training)

    def _of_positions(self, masks: Tensor) -> Tensor:
        """Masks of patches (B, N) as boolean masks of the last stage's positions (B, M)."""
        backbone = self.backbone
        step = backbone.stride // backbone.patch_size
        masks = ops.reshape(ops.cast(masks, "bool"), (-1, *backbone.grid))[:, ::step, ::step]
        return ops.reshape(masks, (-1, masks.shape[1] * masks.shape[2]))

    def loss_weights(self, inputs: dict) -> Tensor:
        """Ones: every position of every image is hidden in one of the two mixtures."""
        return ops.ones_like(ops.cast(self._of_positions(inputs["masks"]), "float32"))

    def forward_flops(self) -> float:
        """Floating-point operations of a forward pass over one image, decoded in two halves."""
        backbone, decoder = self.backbone, self.decoder
        count = backbone.stage_grids[-1][0] * backbone.stage_grids[-1][1]
        size = self.target.size(backbone.stride, backbone.image_shape[-1])
        embed = 2 * count * backbone.output_dim * decoder.embed_dim
        predict = 2 * count * decoder.embed_dim * size
        return backbone_flops(backbone) + embed + 2 * decoder.flops(count) + predict

    def check_drawn(self, masks: np.ndarray) -> None:
        """As in MIMTask; partners have to share a mask."""
        super().check_drawn(masks)
        pairs = len(masks) // 2 * 2
        if not np.array_equal(masks[:pairs:2], masks[1:pairs:2]):
            raise ValueError(
                f"MixMIM mixes two images by one mask, and {type(self.masking).__name__} draws "
                "another for each: give a MixMasking."
            )

    def check_masks(self, masks: np.ndarray) -> None:
        """Raises ValueError unless masks are equal for partners and within a token's square."""
        check_binary(masks)
        check_even(len(masks))
        grid, stride = self.backbone.grid, self.backbone.stride
        count, step = grid[0] * grid[1], stride // self.backbone.patch_size
        if masks.shape[1:] == (count,):
            squares = masks.reshape(-1, *grid)
            tokens = squares[:, ::step, ::step].repeat(step, 1).repeat(step, 2)
            if np.array_equal(tokens, squares) and np.array_equal(masks[::2], masks[1::2]):
                return
        raise ValueError(
            f"masks must be (N, {count}) (1 = shows the partner), equal within squares of "
            f"{stride} px and for images 2k and 2k + 1, got shape {masks.shape}."
        )

    # --- pictures -----------------------------------------------------------------------------

    @property
    def prediction_stride(self) -> int:
        """Side in pixels of what one prediction stands for: the backbone's stride."""
        return self.backbone.stride

    def reconstruct(self, images: np.ndarray, epoch: int = 0, batch_size: int = 32) -> dict:
        """Pictures of mixtures and of both images that are made of each.

        Args:
            images: (N, H, W, 1 or 3) in [0, 255]; N is even.
            epoch: which masks.
            batch_size: mixtures per forward pass, even.

        Returns:
            For each image "original", "partner", "masked" (the mixture), "reconstruction" (of the
            image, where the mixture shows the partner) and "partner_reconstruction" (where it
            shows the image), each (N, H, W, C) uint8, and "masks" (N, patches). Where the target
            is not of pixels also "target" and "partner_target", into which is pasted.
        """
        check_even(len(images))
        check_even(batch_size)
        x = self.preprocess(images)
        inputs = {"images": x, **self.draw(np.arange(len(x)), epoch)}
        masks = inputs["masks"]
        shows_partner = self.to_image(masks)
        painted, perfect = self.paint(inputs, batch_size)
        other = _swapped(perfect)
        shown = {}
        if not self.target.per_pixel:
            shown = {"target": self.to_pixels(perfect), "partner_target": self.to_pixels(other)}
        return {
            "original": self.to_pixels(x),
            "partner": self.to_pixels(_swapped(x)),
            "masked": self.to_pixels(np.where(shows_partner, _swapped(x), x)),
            **shown,
            "reconstruction": self.to_pixels(np.where(shows_partner, painted, perfect)),
            "partner_reconstruction": self.to_pixels(
                np.where(shows_partner, other, _swapped(painted))
            ),
            "masks": masks,
        }

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "mixing_embedding": self.has_mixing_embedding}


def _swapped(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)
