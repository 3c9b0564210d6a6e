"""Masked autoencoder: the encoder sees the visible patches only.

He et al., arXiv 2111.06377; models_mae.py of the official code; papers.md 6.3.
"""

import keras
from keras import ops

from mimzoo.backend import Tensor, gather_tokens
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
        decoder: default: MAE's, width 512, 8 blocks, 16 heads.
        target: what hidden patches are reconstructed as. Default: pixels normalised per patch.
        preprocessor: "auto": resize to the backbone's image size and normalise as ImageNet.

    Example:
    ```python
    task = mimzoo.pretraining.MAE(mimzoo.models.ViTBackbone.from_size("base"))
    task.compile(keras.optimizers.AdamW(1.5e-4, weight_decay=0.05, beta_2=0.95))
    task.fit(images, validation_data=held_out, epochs=100)
    task.backbone.save_to_preset("my_vit")
    ```
    """

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
        super().__init__(
            backbone,
            masking or RandomMasking(),
            decoder or MAEDecoder(dtype=backbone.dtype_policy, name="decoder"),
            target or PixelTarget(),
            preprocessor,
            **kwargs,
        )

    def attach(self) -> None:
        """Counts the visible patches and gives the decoder its weights."""
        backbone = self.backbone
        count = backbone.grid[0] * backbone.grid[1]
        self.num_visible = count - self.masking.num_hidden(backbone.grid, backbone.patch_size)
        size = self.target.size(backbone.patch_size, backbone.image_shape[-1])
        self.decoder.attach(backbone, size)

    def call(self, inputs: dict) -> Tensor:
        """{"images": (B, H, W, C), "masks": (B, N)} -> predictions (B, N, P)."""
        return self.decoder(self.encode_visible(inputs), inputs["masks"])

    def encode_visible(self, inputs: dict) -> Tensor:
        """Features of the visible patches, in the order of the grid: (B, [1 +] K, D)."""
        # Visible cells first, then in the order of the grid: not every backend's sort is stable.
        index = ops.argsort(ops.cast(inputs["masks"], "int32"), axis=1)[:, : self.num_visible]
        index = ops.sort(index, axis=1)
        tokens = gather_tokens(self.backbone.embed(inputs["images"]), index)
        return self.backbone.encode(tokens, index=index)

    def compute_loss(
        self,
        x: dict | None = None,
        y: None = None,
        y_pred: Tensor | None = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Mean loss over the hidden patches, or all of them if the target says so."""
        self.check_no_labels(y, sample_weight)
        loss = self.target.loss(x["images"], y_pred, self.backbone.patch_size)
        return self.mean_loss(x, loss, self.loss_weights(x["masks"]))
