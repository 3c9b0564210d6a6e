"""Images to patches and back; the linear embedding of patches."""

import keras
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.linear import Linear


def patch_grid(image_shape: tuple[int, ...], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches of an image (H, W, C).

    Raises:
        ValueError: the patch does not divide the image; the message names sizes that fit.
    """
    height, width = image_shape[:2]
    if height % patch_size or width % patch_size:
        fit = [max(round(side / patch_size), 1) * patch_size for side in (height, width)]
        raise ValueError(
            f"image size {height}x{width} is not divisible by patch_size {patch_size}: "
            f"resize the images, for example to image_shape=({fit[0]}, {fit[1]}, ...)."
        )
    return height // patch_size, width // patch_size


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, H, W, C) -> (B, N, patch_size² C), each patch in (row, col, channel) order.

    The order of MAE's `patchify` (models_mae.py).
    """
    _, height, width, channels = images.shape
    rows, cols = height // patch_size, width // patch_size
    x = ops.reshape(images, (-1, rows, patch_size, cols, patch_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * cols, patch_size * patch_size * channels))


def unpatchify(patches: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """(B, N, patch_size² C) -> (B, H, W, C), the inverse of `patchify`."""
    rows, cols = grid
    channels = patches.shape[-1] // patch_size**2
    x = ops.reshape(patches, (-1, rows, cols, patch_size, patch_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * patch_size, cols * patch_size, channels))


@keras.saving.register_keras_serializable(package="mimzoo")
class PatchEmbed(keras.layers.Layer):
    """Linear embedding of non-overlapping patches: (B, H, W, C) -> (B, N, embed_dim).

    The same map as a convolution whose stride is its kernel, as one matrix product: convolution
    kernels are slower than it on CPUs. Initialised as MAE does: Xavier uniform on the flattened
    patch (models_mae.py, initialize_weights).

    Args:
        patch_size: side of a patch in pixels.
        embed_dim: width of a token.
        pad: whether an image that the patch does not divide is padded with zeros below and to the
            right (Swin's detection code) instead of refused.
    """

    def __init__(self, patch_size: int, embed_dim: int, pad: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.pad = pad
        self.projection = Linear(embed_dim, dtype=self.dtype_policy, name="projection")

    def build(self, input_shape: tuple) -> None:
        """Creates the projection; raises ValueError where the patch does not divide the image."""
        if not self.pad:
            patch_grid(input_shape[1:], self.patch_size)
        self.projection.build((None, None, self.patch_size**2 * input_shape[-1]))
        self.built = True

    def call(self, images: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, N, embed_dim)."""
        rows, cols = (-side % self.patch_size for side in images.shape[1:3])
        if rows or cols:
            images = ops.pad(images, ((0, 0), (0, rows), (0, cols), (0, 0)))
        return self.projection(patchify(images, self.patch_size))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "embed_dim": self.embed_dim,
            "pad": self.pad,
        }
