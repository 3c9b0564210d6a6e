"""What a hidden patch has to be reconstructed as: the base of all targets, and pixels."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Constant, Tensor, exact_matmul
from mimzoo.layers.patches import patchify, unpatchify

LOSSES = ("mse", "l1")
EPSILON = 1e-6  # under the root of every variance


class Target:
    """Base of all targets: what a cell of the image has to be predicted as.

    The cells are squares of `stride` pixels, row by row: N = (H / stride) (W / stride). A target of
    one's own needs `size`, `targets`, `loss`, `pictures` and `get_config`, and the decorator
    `keras.saving.register_keras_serializable`. Its loss is float32, whatever the precision of the
    predictions. It serves one task, or several whose images are normalised alike.

    Attributes:
        per_pixel: True: predictions are the cell's numbers pixel by pixel, (row, col, channel), so
            that those of a cell of several patches can be cut into patches. False: they are
            numbers of the cell as a whole, and loss and mask are taken cell by cell: a cell
            counts as much as the share of it that is hidden.
        on: "masked", the loss is the mean over what is hidden, or "all": every cell counts alike.
        variables: Keras variables that a step reads but does not train. A task keeps them out of
            its presets and checkpoints, so the target has to find them again by itself.
    """

    per_pixel: bool = False
    on: str = "masked"
    variables: Sequence[Any] = ()
    # Mean and deviation of the images' channels, of pixels in 0..1; (), () where nobody told.
    normalization: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    def attach(self, image_shape: tuple[int, int, int], stride: int, converter: Any = None) -> None:
        """Checks that target and task fit; a task calls it once, before anything else.

        Args:
            image_shape: (H, W, C) of the task's images.
            stride: side of a cell in pixels.
            converter: the task's ImageConverter, whose `mean` and `std` the images have; None:
                images are given as they are.

        Raises:
            ValueError: they do not fit, or the target has a task of another normalisation.
        """
        if converter is None:
            return
        found = tuple(converter.mean), tuple(converter.std)
        if self.normalization not in (((), ()), found):
            raise ValueError(
                f"this {type(self).__name__} belongs to a task whose images are normalised "
                "otherwise: make another one for this task."
            )
        self.normalization = found

    def size(self, stride: int, channels: int) -> int:
        """Numbers to predict per cell."""
        raise NotImplementedError

    def targets(self, images: Tensor, stride: int) -> Tensor:
        """What predictions are compared with: (B, H, W, C) -> (B, N, size) float32."""
        raise NotImplementedError

    def loss(self, images: Tensor, predictions: Tensor, stride: int) -> Tensor:
        """Error of each cell, float32: (B, H, W, C), (B, N, size) -> (B, N)."""
        raise NotImplementedError

    def pictures(self, images: Tensor, predictions: Tensor, stride: int) -> Tensor:
        """Predictions as pictures (B, H, W, 1 or 3), in the scale of `images`."""
        raise NotImplementedError

    def in_scale_of_images(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (..., 3) in 0..1 as the task's images are normalised."""
        mean, std = self.normalization
        return (pictures - np.float32(mean)) / np.float32(std) if mean else pictures * 255.0

    def is_same(self, other: Any) -> bool:
        """Whether a decoder trained for the other target keeps its weights for this one."""
        return False

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """The inverse of `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="mimzoo")
class PixelTarget(Target):
    """The patch's own pixels.

    Args:
        normalize: subtract each patch's mean and divide by its deviation: unbiased variance plus
            1e-6, over all pixels and channels (models_mae.py, `forward_loss`, norm_pix_loss).
        loss: "mse", mean squared error (MAE), or "l1", mean absolute error (SimMIM).

    Raises:
        ValueError: an unknown loss.
    """

    per_pixel = True

    def __init__(self, normalize: bool = True, loss: str = "mse"):
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}.")
        self.normalize = normalize
        self.loss_name = loss

    def size(self, patch_size: int, channels: int) -> int:
        """Numbers to predict per patch."""
        return patch_size**2 * channels

    def targets(self, images: Tensor, patch_size: int) -> Tensor:
        """What predictions are compared with: (B, H, W, C) -> (B, N, patch_size² C) float32."""
        patches = patchify(ops.cast(images, "float32"), patch_size)
        if self.normalize:
            mean, deviation = _patch_statistics(patches)
            patches = (patches - mean) / deviation
        return patches

    def loss(self, images: Tensor, predictions: Tensor, patch_size: int) -> Tensor:
        """Mean error of each patch, float32.

        Args:
            images: (B, H, W, C).
            predictions: (B, N, patch_size² C).
            patch_size: side of a patch in pixels.

        Returns:
            (B, N).
        """
        error = ops.cast(predictions, "float32") - self.targets(images, patch_size)
        return ops.mean(ops.square(error) if self.loss_name == "mse" else ops.abs(error), axis=-1)

    def pictures(self, images: Tensor, predictions: Tensor, patch_size: int) -> Tensor:
        """Predictions as images (B, H, W, C), in the scale of `images`.

        What was normalised gets its own mean and deviation back, from the original.
        """
        predictions = ops.cast(predictions, "float32")
        if self.normalize:
            mean, deviation = _patch_statistics(patchify(ops.cast(images, "float32"), patch_size))
            predictions = predictions * deviation + mean
        grid = (images.shape[1] // patch_size, images.shape[2] // patch_size)
        return unpatchify(predictions, grid, patch_size)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"normalize": self.normalize, "loss": self.loss_name}


@keras.saving.register_keras_serializable(package="mimzoo")
class SlidingWindowTarget(PixelTarget):
    """Pixels normalised by the window around each of them.

    Each pixel and channel, minus the mean and over the deviation of the `window_size` x
    `window_size` pixels around it; beyond the border nothing is counted. The variance is unbiased
    and at least 0, plus 1e-6 (Swin-Transformer models/simmim.py, `norm_targets`; papers.md
    section 2).

    Args:
        window_size: side of the window in pixels, odd; the data-scaling paper's code uses 47.
        loss: "l1" (SimMIM) or "mse".

    Raises:
        ValueError: a side that is even or not positive, or an unknown loss.
    """

    def __init__(self, window_size: int = 47, loss: str = "l1"):
        if window_size < 3 or window_size % 2 == 0:
            raise ValueError(
                f"window_size must be odd and at least 3, got {window_size}: it has a pixel in "
                "its middle. SimMIM uses 47."
            )
        super().__init__(normalize=True, loss=loss)
        self.window_size = window_size
        self._constants: dict[tuple[int, int], tuple[Constant, ...]] = {}

    def targets(self, images: Tensor, patch_size: int) -> Tensor:
        """What predictions are compared with: (B, H, W, C) -> (B, N, patch_size² C) float32."""
        difference, deviation = self._statistics(ops.cast(images, "float32"))
        return patchify(difference / deviation, patch_size)

    def pictures(self, images: Tensor, predictions: Tensor, patch_size: int) -> Tensor:
        """Predictions as images (B, H, W, C), in the scale of `images`.

        Every pixel gets the mean and deviation of its window back, from the original.
        """
        images = ops.cast(images, "float32")
        grid = (images.shape[1] // patch_size, images.shape[2] // patch_size)
        painted = unpatchify(ops.cast(predictions, "float32"), grid, patch_size)
        difference, deviation = self._statistics(images)
        return painted * deviation + (images - difference)

    def _statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Each pixel less the mean of the window around it, and the window's deviation."""
        height, width, channels = images.shape[1:]
        if (height, width) not in self._constants:
            self._constants[height, width] = self._make_constants(height, width)
        down, across, unbiased = (make(images) for make in self._constants[height, width])

        def window_mean(x: Tensor) -> Tensor:
            # Sums along each axis are products with a band matrix, a hundredth of the work of a
            # 47 x 47 pooling.
            rows = exact_matmul(ops.reshape(x, (-1, width)), ops.transpose(across))
            return exact_matmul(down, ops.reshape(rows, (-1, channels, height, width)))

        # Channels first, or the products would be three columns wide.
        images = ops.transpose(images, (0, 3, 1, 2))
        # Neither changes with the middle, and near it rounding is finer. It is rounded because
        # XLA may compute it twice, in two orders.
        middle = ops.round(ops.mean(images, axis=(2, 3), keepdims=True) * 256) / 256
        shifted = images - middle
        mean = window_mean(shifted)
        variance = (window_mean(ops.square(shifted)) - ops.square(mean)) * unbiased
        deviation = ops.sqrt(ops.maximum(variance, 0.0) + EPSILON)
        return tuple(ops.transpose(x, (0, 2, 3, 1)) for x in (shifted - mean, deviation))

    def _make_constants(self, height: int, width: int) -> tuple[Constant, ...]:
        """Averaging matrices (H, H) and (W, W), and count / (count - 1) of each window."""
        matrices, counts = [], []
        for side in (height, width):
            position = np.arange(side)
            near = np.abs(position[:, None] - position) <= self.window_size // 2
            counts.append(near.sum(1))
            matrices.append(Constant((near / near.sum(1, keepdims=True)).astype("float32")))
        count = (counts[0][:, None] * counts[1]).astype("float64")
        return *matrices, Constant((count / (count - 1)).astype("float32"))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"window_size": self.window_size, "loss": self.loss_name}


def _patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch: (B, N, 1) each."""
    mean = ops.mean(patches, axis=-1, keepdims=True)
    square = ops.sum(ops.square(patches - mean), axis=-1, keepdims=True)
    return mean, ops.sqrt(square / (patches.shape[-1] - 1) + EPSILON)
