"""What a hidden patch has to be reconstructed as.

A target has `size(backbone)`, the numbers per patch that the decoder predicts; `loss`, from
images and predictions to one number a patch; and `pictures`, from predictions back to pixels.
"""

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.patches import patchify, unpatchify


@keras.saving.register_keras_serializable(package="mimzoo")
class PixelTarget:
    """The patch's own pixels, squared error.

    Args:
        normalize: subtract each patch's mean and divide by its deviation: unbiased variance plus
            1e-6, over all pixels and channels (models_mae.py, `forward_loss`, norm_pix_loss).
    """

    def __init__(self, normalize: bool = True):
        self.normalize = normalize

    def size(self, patch_size: int, channels: int) -> int:
        """Numbers to predict per patch."""
        return patch_size**2 * channels

    def loss(self, images: Tensor, predictions: Tensor, patch_size: int) -> Tensor:
        """Mean squared error of each patch, float32.

        Args:
            images: (B, H, W, C).
            predictions: (B, N, patch_size² C).
            patch_size: side of a patch in pixels.

        Returns:
            (B, N).
        """
        patches = patchify(ops.cast(images, "float32"), patch_size)
        if self.normalize:
            mean, deviation = _statistics(patches)
            patches = (patches - mean) / deviation
        return ops.mean(ops.square(ops.cast(predictions, "float32") - patches), axis=-1)

    def pictures(self, images: Tensor, predictions: Tensor, patch_size: int) -> Tensor:
        """Predictions as images (B, H, W, C), in the scale of `images`.

        Normalised patches get their own patch's mean and deviation back, from the original.
        """
        predictions = ops.cast(predictions, "float32")
        if self.normalize:
            mean, deviation = _statistics(patchify(ops.cast(images, "float32"), patch_size))
            predictions = predictions * deviation + mean
        grid = (images.shape[1] // patch_size, images.shape[2] // patch_size)
        return unpatchify(predictions, grid, patch_size)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"normalize": self.normalize}

    @classmethod
    def from_config(cls, config: dict) -> "PixelTarget":
        """The inverse of `get_config`."""
        return cls(**config)


def _statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch: (B, N, 1) each; unbiased variance + 1e-6 in the root."""
    mean = ops.mean(patches, axis=-1, keepdims=True)
    square = ops.sum(ops.square(patches - mean), axis=-1, keepdims=True)
    return mean, ops.sqrt(square / (patches.shape[-1] - 1) + 1e-6)
