"""MixMIM: two images mixed, and both reconstructed.

Liu et al., arXiv 2205.13137; models_mixmim.py of the official code; papers.md 6.1.
"""

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.pretraining.decoders import MixMIMDecoder, swap_neighbours
from mimzoo.pretraining.mix_masking import MixMasking, check_even
from mimzoo.pretraining.targets import PixelTarget, Target
from mimzoo.pretraining.task import MIMTask


@keras.saving.register_keras_serializable(package="mimzoo")
class MixingEmbedding(keras.layers.Layer):
    """Adds to each token a learned vector that tells which of the two images it is from.

    The paper describes it (papers.md 6.1 step 5); no public code has it. Starts from a normal of
    deviation 0.02, as the mask token does.
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
        masking: which cells show the partner. Default: half of the cells of the backbone's
            stride (32 px with patch 4 and four stages), one mask a pair.
        decoder: default: MixMIM's, width 512, 8 blocks, 16 heads.
        target: what patches are reconstructed as. Default: pixels normalised per cell. Whether it
            is `on` masked or all cells is the same here: each is hidden once.
        mixing_embedding: whether tokens are told which image they are from; see MixingEmbedding.
        preprocessor: "auto": resize to the backbone's image size and normalise as ImageNet.

    Raises:
        ValueError: an image that the backbone's stride does not divide, cells that mix two images
            in one token, or a backbone without stages.

    Example:
    ```python
    task = mimzoo.pretraining.MixMIM(mimzoo.models.MixMIMBackbone.from_size("base"))
    task.compile(keras.optimizers.AdamW(1.5e-4, weight_decay=0.05, beta_2=0.95))
    task.fit(images, batch_size=128, validation_data=held_out, epochs=100)
    ```
    """

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

    def attach(self) -> None:
        """Checks that cells fit, and gives the decoder its weights."""
        backbone = self.backbone
        *_, channels = backbone.image_shape
        self.check_stride()
        self.masking.num_hidden(backbone.grid, backbone.patch_size)
        cell = self.masking.mask_patch_size or backbone.patch_size
        if cell % backbone.stride:
            raise ValueError(
                f"mask_patch_size {cell} would mix two images in one token of the last stage: "
                f"choose a multiple of the backbone's stride {backbone.stride}."
            )
        self.mixing_embedding = None
        if self.has_mixing_embedding:
            self.mixing_embedding = MixingEmbedding(
                dtype=backbone.dtype_policy, name="mixing_embedding"
            )
            self.mixing_embedding.build((None, None, backbone.embed_dim))
        self.decoder.attach(backbone, self.target.size(backbone.stride, channels))

    # --- forward ------------------------------------------------------------------------------

    def call(self, inputs: dict) -> Tensor:
        """{"images": (B, H, W, C), "masks": (B, N)} -> predictions (B, M, P) for each cell."""
        return self.decoder(self.encode_mixed(inputs), self._cells(inputs["masks"]))

    def encode_mixed(self, inputs: dict) -> Tensor:
        """Features of the mixtures: (B, M, D)."""
        images, masks = inputs["images"], inputs["masks"]
        if images.shape[0] is not None:
            check_even(images.shape[0])
        tokens = self.backbone.embed(images)
        shows_partner = ops.cast(masks, "bool")
        tokens = ops.where(shows_partner[..., None], swap_neighbours(tokens), tokens)
        if self.mixing_embedding is not None:
            tokens = self.mixing_embedding(tokens, shows_partner)
        return self.backbone.encode(tokens, masks)

    def _cells(self, masks: Tensor) -> Tensor:
        """Masks of patches (B, N) as boolean masks of cells (B, M)."""
        backbone = self.backbone
        step = backbone.stride // backbone.patch_size
        masks = ops.reshape(ops.cast(masks, "bool"), (-1, *backbone.grid))[:, ::step, ::step]
        return ops.reshape(masks, (-1, masks.shape[1] * masks.shape[2]))

    def compute_loss(
        self,
        x: dict | None = None,
        y: None = None,
        y_pred: Tensor | None = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Mean loss over all cells of all images."""
        self.check_no_labels(y, sample_weight)
        loss = self.target.loss(x["images"], y_pred, self.backbone.stride)
        return self.mean_loss(x, loss, ops.ones_like(loss))

    # --- data ---------------------------------------------------------------------------------

    def check_count(self, count: int) -> None:
        """Raises ValueError for an odd number of images in a batch."""
        check_even(count)

    def check_inputs(self, inputs: dict) -> None:
        """Raises ValueError unless `inputs` are {"images", "masks"} that fit the backbone."""
        self.check_keys(inputs)
        masks = np.asarray(ops.convert_to_numpy(inputs["masks"]))
        backbone = self.backbone
        count, step = backbone.grid[0] * backbone.grid[1], backbone.stride // backbone.patch_size
        check_even(len(masks))
        if masks.shape[1:] == (count,):
            grid = masks.reshape(-1, *backbone.grid)
            cells = grid[:, ::step, ::step].repeat(step, 1).repeat(step, 2)
            if np.array_equal(cells, grid) and np.array_equal(masks[::2], masks[1::2]):
                return
        raise ValueError(
            f"masks must be (N, {count}) (1 = shows the partner), equal within cells of "
            f"{backbone.stride} px and for images 2k and 2k + 1, got shape {masks.shape}."
        )

    # --- pictures -----------------------------------------------------------------------------

    @property
    def prediction_stride(self) -> int:
        """Side in pixels of a cell: the backbone's stride."""
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
        masks = self.draw_masks(np.arange(len(x)), epoch)
        shows_partner = self.to_image(masks)
        painted, perfect = self.paint(x, masks, batch_size)
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
