"""Masked autoencoder: the encoder sees the visible patches only.

He et al., arXiv 2111.06377; models_mae.py of the official code.
"""

import keras
from keras import ops

from mimzoo.backend import Tensor, gather_tokens
from mimzoo.models.flops import backbone_flops
from mimzoo.pretraining.decoders import MAEDecoder
from mimzoo.pretraining.masking import RandomMasking
from mimzoo.pretraining.targets import PixelTarget, Target
from mimzoo.pretraining.task import MIMTask


@keras.saving.register_keras_serializable(package="mimzoo")
class MAE(MIMTask):
    """MAE pretraining of a ViTBackbone.

    Args:
        backbone: a ViTBackbone.
        masking: which patches are hidden. Default: 75 % at random.
        decoder: default: MAE's, of a size that follows the backbone; see MAEDecoder.
        target: what hidden patches are reconstructed as. Default: pixels normalised per patch.
        preprocessor: "auto": resize to the backbone's image size and normalise as ImageNet; None:
            images come as the backbone takes them.

    Example:
    ```python
    task = mimzoo.pretraining.MAE(mimzoo.models.ViTBackbone.from_size("base"))
    task.compile(keras.optimizers.AdamW(1.5e-4, weight_decay=0.05, beta_2=0.95))
    task.fit(images, validation_data=held_out, epochs=100)
    task.backbone.save_to_preset("my_vit")
    ```
    """

    mask_axes = 2

    def __init__(
        self,
        backbone: keras.Model,
        masking: RandomMasking | None = None,
        decoder: MAEDecoder | None = None,
        target: Target | None = None,
        preprocessor: keras.layers.Layer | str | None = "auto",
        **kwargs,
    ):
        if not hasattr(backbone, "class_token"):
            raise ValueError(
                f"MAE drops tokens, which a {type(backbone).__name__} cannot encode: "
                "use a ViTBackbone."
            )
        backbone.check_dropping()
        super().__init__(
            backbone,
            masking or RandomMasking(),
            decoder or MAEDecoder(dtype=backbone.dtype_policy, name="decoder"),
            target or PixelTarget(),
            preprocessor,
            **kwargs,
        )

    def build_parts(self) -> None:
        """Counts the visible patches and gives the decoder its weights."""
        backbone = self.backbone
        count = backbone.grid[0] * backbone.grid[1]
        self.num_visible = count - self.masking.num_hidden(backbone.grid, backbone.patch_size)
        size = self.target.size(backbone.patch_size, backbone.image_shape[-1])
        self.decoder.build_for(backbone, size)

    def call(self, inputs: dict, training: bool | None = None) -> Tensor:
        """{"images": (B, H, W, C), "masks": (B, N)} -> predictions (B, N, P)."""
        self.follow(training)
        features = self.encode_visible(inputs, training)
        return self.decoder(features, inputs["masks"], training=training)

    def encode_visible(self, inputs: dict, training: bool | None = None) -> Tensor:
        """Features of the visible patches, in the order of the grid: (B, [1 +] K, D)."""
        # Visible patches first, then in the order of the grid: not every backend's sort is stable.
        index = ops.argsort(ops.cast(inputs["masks"], "int32"), axis=1)[:, : self.num_visible]
        index = ops.sort(index, axis=1)
        tokens = gather_tokens(self.backbone.embed(inputs["images"]), index)
        return self.backbone.encode(tokens, index=index, training=training)

    def forward_flops(self) -> float:
        """Floating-point operations of a forward pass over one image."""
        backbone, decoder = self.backbone, self.decoder
        count, first = backbone.grid[0] * backbone.grid[1], int(backbone.class_token)
        size = self.target.size(backbone.patch_size, backbone.image_shape[-1])
        embed = 2 * (self.num_visible + first) * backbone.embed_dim * decoder.embed_dim
        predict = 2 * count * decoder.embed_dim * size
        encode = backbone_flops(backbone, self.num_visible)
        return encode + embed + decoder.flops(count + first) + predict
