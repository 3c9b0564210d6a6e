"""Histograms of oriented gradients as a target: MaskFeat."""

from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.patches import patchify, unpatchify
from mimzoo.pretraining.targets import LOSSES, Step, Target, pixel_error

GRADIENTS = ("sobel", "central")


@keras.saving.register_keras_serializable(package="mimzoo")
class HOGTarget(Target):
    """Histograms of oriented gradients of the cell (MaskFeat: Wei et al., arXiv 2112.09133).

    The rules are those of the official code (SlowFast, slowfast/models/operators.py, `HOGLayerC`,
    and masked.py), where none other is named:

    1. Border: mirrored, the border pixel not repeated.
    2. Gradient of each channel: [1, 0, -1] along one axis, smoothed by [1, 2, 1] along the other
       ("sobel"); "central" leaves out the smoothing (Dalal and Triggs, CVPR 2005, section 6.2).
    3. Orientation: the angle atan2(gx, gy), x along the columns, modulo pi: unsigned. A pixel adds
       its magnitude to the one bin [k pi / bins, (k + 1) pi / bins) that its angle lies in.
    4. Histogram: the sum over a square of `cell_size` pixels; neither window nor interpolation.
    5. Normalisation: each histogram over its L2 norm, at least 1e-12. No blocks.
    6. The histograms inside the predicted cell are concatenated: (row, col, channel, bin). The
       order is ours.

    Images may be normalised: a mean and a positive std per channel only scale that channel's
    gradient, and step 5 takes the scale out again. With `per_channel=False` the standard
    deviations of the channels do weigh in the choice of the channel.

    Args:
        bins: orientations; MaskFeat has 9.
        cell_size: side in pixels of the square of one histogram; MaskFeat has 8.
        gradient: "sobel" or "central".
        per_channel: True: one histogram for each channel (MaskFeat). False: one in all, each pixel
            giving the gradient of the channel where it is greatest (Dalal and Triggs, section 6.2).
        loss: "mse" (MaskFeat) or "l1", the mean over the numbers of the predicted cell.

    Raises:
        ValueError: an unknown option, or no positive number.
    """

    def __init__(
        self,
        bins: int = 9,
        cell_size: int = 8,
        gradient: str = "sobel",
        per_channel: bool = True,
        loss: str = "mse",
    ):
        for name, value, known in (("gradient", gradient, GRADIENTS), ("loss", loss, LOSSES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
        if bins < 1 or cell_size < 1:
            raise ValueError(f"bins and cell_size must be at least 1, got {bins} and {cell_size}.")
        self.bins = bins
        self.cell_size = cell_size
        self.gradient = gradient
        self.per_channel = per_channel
        self.loss_name = loss

    def size(self, stride: int, channels: int) -> int:
        """Numbers to predict per cell of `stride` pixels.

        Raises:
            ValueError: `stride` is no multiple of `cell_size`.
        """
        if stride % self.cell_size:
            fit = max(n for n in range(1, stride + 1) if stride % n == 0 and n <= self.cell_size)
            raise ValueError(
                f"HOG cells of {self.cell_size} pixels do not divide what the task predicts at "
                f"once, {stride} pixels: use HOGTarget(cell_size={fit}), or a backbone whose patch "
                f"or stride is a multiple of {self.cell_size}."
            )
        return (stride // self.cell_size) ** 2 * (channels if self.per_channel else 1) * self.bins

    def build(self, task: Any) -> None:
        """As in Target; raises ValueError where cells, patches and image do not divide."""
        super().build(task)
        image_shape = task.backbone.image_shape
        self.size(task.prediction_stride, image_shape[-1])
        self._check_image(image_shape)

    def _check_image(self, image_shape: tuple[int, ...]) -> None:
        sides = image_shape[:2]
        if any(side % self.cell_size for side in sides) or min(sides) < 2:
            fit = [max(round(side / self.cell_size), 1) * self.cell_size for side in sides]
            raise ValueError(
                f"HOG cells of {self.cell_size} pixels do not divide an image of "
                f"{sides[0]}x{sides[1]}: resize the images, for example to {fit[0]}x{fit[1]}."
            )

    def histograms(self, images: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / cell_size, W / cell_size, C or 1, bins) float32."""
        self._check_image(images.shape[1:])
        gx, gy = self._gradients(ops.cast(images, "float32"))
        magnitude = ops.sqrt(ops.square(gx) + ops.square(gy))
        bins = self._orientations(gx, gy)
        if not self.per_channel:
            greatest = ops.argmax(magnitude, axis=-1)
            chosen = ops.one_hot(greatest, magnitude.shape[-1], dtype="float32")
            bins, magnitude = (
                ops.sum(x * chosen, axis=-1, keepdims=True) for x in (bins, magnitude)
            )
        _, height, width, channels = magnitude.shape
        side = self.cell_size
        shape = (-1, height // side, side, width // side, side, channels)
        # Bin by bin: all at once would need `bins` images of memory.
        sums = [
            ops.sum(ops.reshape(ops.where(bins == k, magnitude, 0.0), shape), axis=(2, 4))
            for k in range(self.bins)
        ]
        histograms = ops.stack(sums, axis=-1)
        norm = ops.sqrt(ops.sum(ops.square(histograms), axis=-1, keepdims=True))
        return histograms / ops.maximum(norm, 1e-12)

    def _gradients(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Along columns and rows, (B, H, W, C) each."""
        x = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        if self.gradient == "central":
            across, down = x[:, 1:-1], x[:, :, 1:-1]
        else:
            # Smoothed before the difference: what is even on both sides cancels exactly.
            across = x[:, :-2] + 2.0 * x[:, 1:-1] + x[:, 2:]
            down = x[:, :, :-2] + 2.0 * x[:, :, 1:-1] + x[:, :, 2:]
        return across[:, :, :-2] - across[:, :, 2:], down[:, :-2] - down[:, 2:]

    def _orientations(self, gx: Tensor, gy: Tensor) -> Tensor:
        """The bin of each gradient, as float32.

        How many edges of bins lie below the angle: sin(angle - edge) >= 0. The mirrored border has
        many gradients that lie exactly on an axis, which rounding would put on either side of it
        if the angle itself were divided by the width of a bin.
        """
        gy = ops.where(gx < 0, -gy, gy)  # unsigned: the half-plane gx >= 0
        gx, gy = ops.abs(gx), ops.where(gx == 0, ops.abs(gy), gy)
        edges = np.arange(1, self.bins) * np.pi / self.bins
        cosines, sines = np.float32(np.round(np.cos(edges), 12)), np.float32(np.sin(edges))
        above = [ops.cast(gx * c >= gy * s, "float32") for c, s in zip(cosines, sines, strict=True)]
        return sum(above, ops.zeros_like(gx))

    def targets(self, step: Step) -> Tensor:
        """What predictions are compared with: (B, N, size) float32."""
        histograms = ops.stop_gradient(self.histograms(step.images))
        _, rows, cols, channels, bins = histograms.shape
        flat = ops.reshape(histograms, (-1, rows, cols, channels * bins))
        return patchify(flat, step.stride // self.cell_size)

    def error(self, targets: Tensor, predictions: Tensor) -> Tensor:
        """Mean error of each square: (..., N, size) both -> (..., N) float32."""
        return pixel_error(self.loss_name, targets, predictions)

    def pictures(self, step: Step, predictions: Tensor) -> np.ndarray:
        """Histograms as glyphs (B, H, W, C), in the scale of the images.

        In each square every bin draws its edge direction, across the gradient, as bright as it is
        strong; the channels have their own colours.
        """
        images = step.images
        flat = unpatchify(
            ops.convert_to_tensor(predictions, "float32"), step.grid, step.stride // self.cell_size
        )
        flat = ops.convert_to_numpy(flat)
        histograms = flat.reshape(*flat.shape[:3], -1, self.bins)
        side = self.cell_size
        angle = (np.arange(self.bins)[:, None, None] + 0.5) * np.pi / self.bins
        offset = np.arange(side) - (side - 1) / 2
        distance = np.abs(offset * np.sin(angle) + offset[:, None] * np.cos(angle))
        glyphs = np.clip(1 - distance, 0, 1).astype("float32")
        drawn = np.einsum("brchk,kij->bricjh", np.clip(histograms, 0, None), glyphs, optimize=True)
        drawn = np.clip(drawn.reshape(-1, *images.shape[1:3], drawn.shape[-1]), 0, 1)
        return self.in_scale_of_images(np.broadcast_to(drawn, images.shape))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "bins": self.bins,
            "cell_size": self.cell_size,
            "gradient": self.gradient,
            "per_channel": self.per_channel,
            "loss": self.loss_name,
        }
