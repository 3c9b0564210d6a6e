"""Images and boxes as users have them -> what a detector takes."""

from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.data.box_transforms import ResizePad
from mimzoo.data.pixels import rgb_images
from mimzoo.data.stream import to_numpy


class ObjectDetectorPreprocessor(keras_hub.models.ObjectDetectorPreprocessor):
    """Resizes images to fit, fills them up at the right and the bottom, and normalises them."""

    @classmethod
    def for_image_shape(cls, image_shape: tuple) -> "ObjectDetectorPreprocessor":
        """A preprocessor with ImageNet's mean and std for a backbone's `image_shape`."""
        return cls(image_converter=cls.image_converter_cls(image_size=image_shape[:2]))

    def call(self, x: Any, y: dict | None = None, sample_weight: Any = None) -> Any:
        """Images -> float32 (B, H, W, 3); with targets, both.

        Args:
            x: (B, H, W, 3), or a list of images of any size.
            y: {"boxes": (B, N, 4), "labels": (B, N)}, corners x1, y1, x2, y2 in pixels of `x`.
            sample_weight: passes through.
        """
        converter = self.image_converter
        images = x if isinstance(x, list | tuple) else to_numpy(x)
        images = rgb_images(images, converter.value_range)
        fit = ResizePad(converter.image_size)
        if y is not None:
            factors = [np.divide(fit.place(*s).scaled, s) for s in (i.shape[:2] for i in images)]
            factors = np.float32(factors)[:, None, [1, 0, 1, 0]]
            y = {**y, "boxes": ops.convert_to_tensor(to_numpy(y["boxes"]) * factors)}
        images = converter.normalize(np.stack([fit(image) for image in images]))
        images = ops.cast(ops.convert_to_tensor(images), converter.compute_dtype)
        return keras.utils.pack_x_y_sample_weight(images, y, sample_weight)
