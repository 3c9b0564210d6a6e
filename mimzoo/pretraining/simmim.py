"""SimMIM: hidden patches are replaced by a token, one linear layer predicts what they were.

Xie et al., arXiv 2111.09886; models/simmim.py of the official code; papers.md 6.2.
"""

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.mask_token import MaskToken
from mimzoo.layers.patches import patchify, unpatchify
from mimzoo.pretraining.decoders import LinearDecoder
from mimzoo.pretraining.masking import RandomMasking
from mimzoo.pretraining.targets import PixelTarget, Target
from mimzoo.pretraining.task import MIMTask


@keras.saving.register_keras_serializable(package="mimzoo")
class SimMIM(MIMTask):
    """SimMIM pretraining of a SwinV2Backbone, SwinBackbone or ViTBackbone.

    Args:
        backbone: any of the three.
        masking: which patches are hidden. Default: 60 % of the cells of 32 x 32 pixels.
        decoder: default: one linear layer.
        target: what hidden patches are reconstructed as. Default: the normalised image, mean
            absolute error. The data-scaling paper's code uses `SlidingWindowTarget(47)`.
        preprocessor: "auto": resize to the backbone's image size and normalise as ImageNet.

    Raises:
        ValueError: an image that the backbone's stride does not divide, or cells that do not fit.

    Example:
    ```python
    task = mimzoo.pretraining.SimMIM(mimzoo.models.SwinV2Backbone.from_size("base"))
    task.compile(keras.optimizers.AdamW(1e-4, weight_decay=0.05))
    task.fit(images, validation_data=held_out, epochs=100)
    ```
    """

    def __init__(
        self,
        backbone: keras.Model,
        masking: RandomMasking | None = None,
        decoder: LinearDecoder | None = None,
        target: Target | None = None,
        preprocessor: keras.layers.Layer | str | None = "auto",
        **kwargs,
    ):
        super().__init__(
            backbone,
            masking or RandomMasking(0.6, mask_patch_size=32),
            decoder or LinearDecoder(dtype=backbone.dtype_policy, name="decoder"),
            target or PixelTarget(normalize=False, loss="l1"),
            preprocessor,
            **kwargs,
        )

    def attach(self) -> None:
        """Gives mask token and decoder their weights."""
        backbone = self.backbone
        self.masking.num_hidden(backbone.grid, backbone.patch_size)
        self.check_stride()
        self.mask_token = MaskToken(dtype=backbone.dtype_policy, name="mask_token")
        self.mask_token.build((None, None, backbone.embed_dim))
        self.decoder.attach(backbone, self.target.size(backbone.stride, backbone.image_shape[-1]))

    def call(self, inputs: dict) -> Tensor:
        """{"images": (B, H, W, C), "masks": (B, N)} -> predictions (B, N, P) for each patch.

        Or (B, cells, P) for each cell of the stride, where the target is not of pixels.
        """
        backbone = self.backbone
        tokens = self.mask_token(backbone.embed(inputs["images"]), inputs["masks"])
        predictions = self.decoder(backbone.feature_map(backbone.encode(tokens)))
        if backbone.stride == backbone.patch_size or not self.target.per_pixel:
            return predictions
        grid = tuple(side // backbone.stride for side in backbone.image_shape[:2])
        return patchify(unpatchify(predictions, grid, backbone.stride), backbone.patch_size)

    def compute_loss(
        self,
        x: dict | None = None,
        y: None = None,
        y_pred: Tensor | None = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Mean error of what is hidden, or of everything if the target says so.

        Of pixels: the sum / (their number + 1e-5), the published denominator. Of cells: each
        counts as much as the share of its patches that is hidden.
        """
        self.check_no_labels(y, sample_weight)
        counts = self.loss_weights(x["masks"])
        if not self.target.per_pixel:
            loss = self.target.loss(x["images"], y_pred, self.backbone.stride)
            return self.mean_loss(x, loss, self.cell_means(counts))
        loss = self.target.loss(x["images"], y_pred, self.backbone.patch_size)
        return self.mean_loss(x, loss, counts, 1e-5 / self.backbone.patch_size**2)

    def cell_means(self, weights: Tensor) -> Tensor:
        """Means over the patches of each cell of the stride: (B, N) -> (B, cells)."""
        side = self.backbone.stride // self.backbone.patch_size
        rows, cols = (count // side for count in self.backbone.grid)
        weights = ops.reshape(weights, (-1, rows, side, cols, side))
        return ops.reshape(ops.mean(weights, axis=(2, 4)), (-1, rows * cols))
