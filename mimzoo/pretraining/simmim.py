"""SimMIM: hidden patches are replaced by a token, one linear layer predicts what they were.

Xie et al., arXiv 2111.09886; models/simmim.py of the official code.
"""

import keras

from mimzoo.backend import Tensor
from mimzoo.layers.mask_token import MaskToken
from mimzoo.layers.patches import patchify, unpatchify
from mimzoo.models.flops import backbone_flops
from mimzoo.pretraining.decoders import LinearDecoder
from mimzoo.pretraining.masking import RandomMasking
from mimzoo.pretraining.targets import PixelTarget, Target
from mimzoo.pretraining.task import MIMTask

# SimMIM's side of a mask unit in pixels, and how many of them an image needs for it.
UNIT, UNITS = 32, 4


@keras.saving.register_keras_serializable(package="mimzoo")
class SimMIM(MIMTask):
    """SimMIM pretraining of a SwinV2Backbone, SwinBackbone or ViTBackbone.

    Args:
        backbone: any of the three.
        masking: which patches are hidden. Default: 60 % of the units of 32 x 32 pixels, as
            published; of the backbone's stride, where the image has fewer than 4 x 4 of those or
            32 px do not fit (ours).
        decoder: default: one linear layer.
        target: what hidden patches are reconstructed as. Default: the normalised image, mean
            absolute error. The data-scaling paper's code uses `SlidingWindowTarget(47)`.
        preprocessor: see MAE.

    Raises:
        ValueError: an image that the backbone's stride does not divide, or units that do not fit.

    Example:
    ```python
    task = mimzoo.pretraining.SimMIM(mimzoo.models.SwinV2Backbone.from_size("base"))
    task.compile(keras.optimizers.AdamW(1e-4, weight_decay=0.05))
    task.fit(images, validation_data=held_out, epochs=100)
    ```
    """

    mask_axes = 2

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
            masking or RandomMasking(0.6, mask_patch_size=default_unit(backbone)),
            decoder or LinearDecoder(dtype=backbone.dtype_policy, name="decoder"),
            target or PixelTarget(normalize=False, loss="l1"),
            preprocessor,
            **kwargs,
        )

    def build_parts(self) -> None:
        """Gives mask token and decoder their weights."""
        backbone = self.backbone
        self.masking.num_hidden(backbone.grid, backbone.patch_size)
        self.check_stride()
        # The published denominator is the number of hidden pixels + 1e-5.
        self.loss_epsilon = 1e-5 / backbone.patch_size**2 if self.target.per_pixel else 0.0
        self.mask_token = MaskToken(dtype=backbone.dtype_policy, name="mask_token")
        self.mask_token.build((None, None, backbone.embed_dim))
        size = self.target.size(backbone.stride, backbone.image_shape[-1])
        self.decoder.build_for(backbone, size)

    def call(self, inputs: dict, training: bool | None = None) -> Tensor:
        """{"images": (B, H, W, C), "masks": (B, N)} -> predictions (B, N, P) for each patch.

        Or (B, M, P) for each square of the stride, where the target is not of pixels.
        """
        self.follow(training)
        backbone = self.backbone
        tokens = self.mask_token(backbone.embed(inputs["images"]), inputs["masks"])
        features = backbone.encode(tokens, training=training)
        predictions = self.decoder(backbone.feature_map(features))
        if backbone.stride == self.prediction_stride:
            return predictions
        grid = tuple(side // backbone.stride for side in backbone.image_shape[:2])
        return patchify(unpatchify(predictions, grid, backbone.stride), backbone.patch_size)

    def forward_flops(self) -> float:
        """Floating-point operations of a forward pass over one image."""
        backbone = self.backbone
        count = backbone.image_shape[0] * backbone.image_shape[1] // backbone.stride**2
        size = self.target.size(backbone.stride, backbone.image_shape[-1])
        return backbone_flops(backbone) + 2 * count * backbone.output_dim * size


def default_unit(backbone: keras.Model) -> int:
    """Side of a mask unit in pixels; see SimMIM."""
    sides = backbone.image_shape[:2]
    fits = all(side % UNIT == 0 and side >= UNITS * UNIT for side in sides)
    return UNIT if fits and UNIT % backbone.patch_size == 0 else backbone.stride
