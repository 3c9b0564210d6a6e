"""What a hidden patch has to be reconstructed as: the base of all targets, and pixels."""

import dataclasses
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Constant, Tensor, exact_matmul
from mimzoo.layers.patches import patchify, unpatchify
from mimzoo.pretraining.ema import Teacher

LOSSES = ("mse", "l1")
WHERE = ("masked", "all")
EPSILON = 1e-6  # under the root of every variance


@dataclasses.dataclass(frozen=True)
class Step:
    """What a target sees of a step.

    Attributes:
        images: (B, H, W, C), as the backbone takes them.
        stride: side in pixels of what one row of the predictions stands for.
        inputs: all inputs of the step, "images" and what the task drew.
        task: whose step it is.
    """

    images: Tensor
    stride: int
    inputs: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    task: Any = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of predictions."""
        height, width = self.images.shape[1:3]
        return height // self.stride, width // self.stride


class Target:
    """Base of all targets: what a square of `stride` pixels has to be predicted as.

    Squares come row by row: N = (H / stride) (W / stride). A target of one's own needs `size`,
    `targets`, `error`, `pictures` and `get_config`, and the decorator
    `keras.saving.register_keras_serializable`. Its loss is float32, whatever the precision of the
    predictions. It serves one task, or several whose images are normalised alike.

    Attributes:
        per_pixel: True: predictions are the square's numbers pixel by pixel, (row, col, channel),
            so that those of a square of several patches can be cut into patches. False: they are
            numbers of the square as a whole, and loss and mask are taken square by square: each
            counts as much as the share of it that is hidden.
        loss_on: "masked", the loss is the mean over what is hidden, or "all": all count alike.
        teacher: a `Teacher` whose variables a step reads, or None. The task holds it.
    """

    per_pixel: bool = False
    loss_on: str = "masked"
    teacher: Teacher | None = None
    # Mean and standard deviation of the images' channels, of pixels in 0..1; (), () if unknown.
    normalization: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    def build(self, task: Any) -> None:
        """Checks that target and task fit; a task calls it once, before anything else.

        Args:
            task: has `backbone`, `preprocessor` and `prediction_stride`.

        Raises:
            ValueError: they do not fit, or the target has a task of another normalisation.
        """
        converter = getattr(task.preprocessor, "image_converter", None)
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
        """Numbers to predict for each square."""
        raise NotImplementedError

    def targets(self, step: Step) -> Tensor:
        """What predictions are compared with: (B, N, size) float32."""
        raise NotImplementedError

    def error(self, targets: Tensor, predictions: Tensor) -> Tensor:
        """Error of each square, float32: (..., N, size) both -> (..., N)."""
        raise NotImplementedError

    def loss(self, step: Step, predictions: Tensor) -> Tensor:
        """Error of each square, float32.

        Args:
            step: images and all else that the step sees.
            predictions: (B, N, size), or (B, M, N, size) for M masks of each image.

        Returns:
            (B, N) or (B, M, N).
        """
        targets = self.targets(step)
        if len(predictions.shape) == 4:
            targets = ops.expand_dims(targets, 1)
        return self.error(targets, ops.cast(predictions, "float32"))

    def pictures(self, step: Step, predictions: Tensor) -> Tensor:
        """Predictions (B, N, size) as pictures (B, H, W, 1 or 3), in the scale of the images."""
        raise NotImplementedError

    def in_scale_of_images(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures (..., 3) in 0..1 as the task's images are normalised."""
        mean, std = self.normalization
        return (pictures - np.float32(mean)) / np.float32(std) if mean else pictures * 255.0

    def is_same(self, other: Any) -> bool:
        """Whether a decoder trained for the other target keeps its weights for this one."""
        return type(other) is type(self) and other.get_config() == self.get_config()

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """The inverse of `get_config`."""
        return cls(**config)


def pixel_error(loss: str, targets: Tensor, predictions: Tensor) -> Tensor:
    """Mean over the last axis of the squared ("mse") or absolute ("l1") error."""
    error = predictions - targets
    return ops.mean(ops.square(error) if loss == "mse" else ops.abs(error), axis=-1)


@keras.saving.register_keras_serializable(package="mimzoo")
class PixelTarget(Target):
    """The patch's own pixels.

    Args:
        normalize: subtract each patch's mean and divide by its std, the root of the unbiased
            variance plus 1e-6, over all pixels and channels (models_mae.py, `forward_loss`,
            norm_pix_loss).
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

    def targets(self, step: Step) -> Tensor:
        """What predictions are compared with: (B, N, patch_size² C) float32."""
        patches = patchify(ops.cast(step.images, "float32"), step.stride)
        if self.normalize:
            mean, std = _patch_statistics(patches)
            patches = (patches - mean) / std
        return patches

    def error(self, targets: Tensor, predictions: Tensor) -> Tensor:
        """Mean error of each patch: (..., N, patch_size² C) both -> (..., N) float32."""
        return pixel_error(self.loss_name, targets, predictions)

    def pictures(self, step: Step, predictions: Tensor) -> Tensor:
        """Predictions as images (B, H, W, C), in the scale of the images.

        What was normalised gets its own mean and standard deviation back, from the original.
        """
        predictions = ops.cast(predictions, "float32")
        if self.normalize:
            patches = patchify(ops.cast(step.images, "float32"), step.stride)
            mean, std = _patch_statistics(patches)
            predictions = predictions * std + mean
        return unpatchify(predictions, step.grid, step.stride)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"normalize": self.normalize, "loss": self.loss_name}


@keras.saving.register_keras_serializable(package="mimzoo")
class SlidingWindowTarget(PixelTarget):
    """Pixels normalised by the window around each of them.

    Each pixel and channel, minus the mean and over the std of the `window_size` x
    `window_size` pixels around it; beyond the border nothing is counted. The variance is unbiased
    and at least 0, plus 1e-6 (Swin-Transformer models/simmim.py, `norm_targets`).

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

    def targets(self, step: Step) -> Tensor:
        """What predictions are compared with: (B, N, patch_size² C) float32."""
        difference, std = self._statistics(ops.cast(step.images, "float32"))
        return patchify(difference / std, step.stride)

    def pictures(self, step: Step, predictions: Tensor) -> Tensor:
        """Predictions as images (B, H, W, C), in the scale of the images.

        Every pixel gets the mean and standard deviation of its window back, from the original.
        """
        images = ops.cast(step.images, "float32")
        painted = unpatchify(ops.cast(predictions, "float32"), step.grid, step.stride)
        difference, std = self._statistics(images)
        return painted * std + (images - difference)

    def _statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Each pixel less the mean of the window around it, and the window's std."""
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
    """Mean and std of each patch: (B, N, 1) each."""
    mean = ops.mean(patches, axis=-1, keepdims=True)
    square = ops.sum(ops.square(patches - mean), axis=-1, keepdims=True)
    return mean, ops.sqrt(square / (patches.shape[-1] - 1) + EPSILON)
