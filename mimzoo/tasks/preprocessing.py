"""Images as users have them -> what a backbone takes."""

from typing import Any

import keras_hub
import numpy as np
from keras import ops

from mimzoo.backend import is_tensorflow_symbol, is_traced
from mimzoo.data.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, check_statistics
from mimzoo.data.pixels import rgb_images
from mimzoo.data.transforms import ResizeCrop
from mimzoo.tasks.class_task import make_task_class, subclasses


class ImageConverter(keras_hub.layers.ImageConverter):
    """Resizes, makes RGB and normalises: (B, H, W, 1 or 3) or (B, H, W) -> float32 (B, H', W', 3).

    This is what `fit`, `evaluate`, `predict` and the command line do to images, too: the shorter
    side is resized by Pillow (antialiased), the centre is cut out. In a graph that is traced, where
    Pillow cannot run, Keras' antialiased resizing takes its place, and values are 0..255.

    Values: uint8 and other integers are 0..255, uint16 is 0..65535, bool is black and white. Floats
    are 0..1 if none exceeds 1, else 0..255; `value_range` says so where that is not true.

    Args:
        image_size: (height, width) of the result in pixels.
        mean, std: per channel, of pixels in 0..1. Defaults are ImageNet's, which all three
            papers use.
        interpolation: "nearest", "bilinear" or "bicubic".
        antialias: of keras_hub.layers.ImageConverter; has to be True.
        crop_fraction: image_size over the resized shorter side.
        value_range: (low, high) of images of floats. Default: inferred, see above.
        **kwargs: of keras_hub.layers.ImageConverter.

    Raises:
        ValueError: options that are not supported; when called: images of another shape, values
            outside their range or not finite.
    """

    def __init__(
        self,
        image_size: tuple[int, int] | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        interpolation: str = "bicubic",
        antialias: bool = True,
        crop_fraction: float = 1.0,
        value_range: tuple[float, float] | None = None,
        **kwargs,
    ):
        aspect = kwargs.get("crop_to_aspect_ratio", True), kwargs.get("pad_to_aspect_ratio", False)
        if not antialias or aspect != (True, False):
            raise ValueError(
                "mimzoo resizes with antialiasing and cuts out the centre: leave out antialias, "
                "crop_to_aspect_ratio and pad_to_aspect_ratio, or resize the images yourself."
            )
        check_statistics(mean, std)
        # KerasHub's own config also names what is derived from mean and std.
        kwargs = {k: v for k, v in kwargs.items() if k not in ("scale", "offset")}
        super().__init__(
            image_size=tuple(image_size) if image_size else None,
            scale=[1 / (255.0 * s) for s in std],
            offset=[-m / s for m, s in zip(mean, std, strict=True)],
            interpolation=interpolation,
            antialias=antialias,
            **kwargs,
        )
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.crop_fraction = float(crop_fraction)
        self.value_range = None if value_range is None else tuple(value_range)

    @classmethod
    def for_backbone(cls, backbone_cls: type) -> type["ImageConverter"]:
        """The registered class `XImageConverter` of an `XBackbone`, as KerasHub names them."""
        known = (c for c in subclasses(ImageConverter) if c.backbone_cls is backbone_cls)
        return next(known, None) or make_task_class(ImageConverter, backbone_cls, __name__)

    @property
    def transform(self) -> ResizeCrop | None:
        """What is done to each uint8 image (H, W, 3); None where sizes stay as they are."""
        if self.image_size is None:
            return None
        return ResizeCrop(self.image_size, self.crop_fraction, self.interpolation)

    @property
    def normalize(self) -> Normalize:
        """What is done to a batch (B, H, W, 3) of 0..255 after it."""
        return Normalize(self.mean, self.std)

    def call(self, inputs: Any) -> Any:
        """One image or a batch, or a list of images of any size."""
        if is_tensorflow_symbol(inputs):
            return self._in_tensorflow(inputs)
        if is_traced(inputs):
            return self._traced(inputs)
        return ops.cast(ops.convert_to_tensor(self.to_numpy(inputs)), self.compute_dtype)

    def to_numpy(self, inputs: Any) -> np.ndarray:
        """What `call` does, as float32 of NumPy."""
        several = isinstance(inputs, list | tuple)
        if not several:
            inputs = np.asarray(ops.convert_to_numpy(inputs))
        single = not several and (
            inputs.ndim == 2 or (inputs.ndim == 3 and inputs.shape[-1] in (1, 3))
        )
        images = rgb_images([inputs] if single else inputs, self.value_range)
        if self.transform is not None:
            images = [self.transform(image) for image in images]
        result = self.normalize(np.stack(images))
        return result[0] if single else result

    def _in_tensorflow(self, inputs: Any) -> Any:
        import tensorflow as tf

        result = tf.numpy_function(self.to_numpy, [inputs], tf.float32)
        single = inputs.shape.rank == 3 and inputs.shape[-1] in (1, 3)
        size = self.image_size or (None, None)
        result.set_shape((*size, 3) if single else (None, *size, 3))
        return result

    def _traced(self, inputs: Any) -> Any:
        x = ops.cast(inputs, "float32")
        if self.image_size is not None:
            height, width = (int(side / self.crop_fraction) for side in self.image_size)
            x = ops.image.resize(
                x,
                (height, width),
                interpolation=self.interpolation,
                antialias=True,
                crop_to_aspect_ratio=True,
                data_format="channels_last",
            )
            top, left = (height - self.image_size[0]) // 2, (width - self.image_size[1]) // 2
            x = x[..., top : top + self.image_size[0], left : left + self.image_size[1], :]
        scale, offset = np.float32(self.scale), np.float32(self.offset)
        return ops.cast(x * scale + offset, self.compute_dtype)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        for derived in ("scale", "offset"):
            config.pop(derived)
        return {
            **config,
            "mean": self.mean,
            "std": self.std,
            "crop_fraction": self.crop_fraction,
            "value_range": self.value_range,
        }
