"""Images as users have them -> what a backbone takes."""

from typing import Any

import keras_hub
import numpy as np
from keras import ops

from mimzoo.data.transforms import IMAGENET_MEAN, IMAGENET_STD


class ImageConverter(keras_hub.layers.ImageConverter):
    """Resizes, makes RGB and normalises: (B, H, W, 1 or 3) or (B, H, W) in [0, 255] -> float32.

    Args:
        image_size: (height, width) of the result.
        mean, std: per channel, of images in [0, 1]. Defaults are ImageNet's, which all three
            papers use.
        **kwargs: of keras_hub.layers.ImageConverter.
    """

    def __init__(
        self,
        image_size: tuple[int, int] | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        interpolation: str = "bicubic",
        antialias: bool = True,
        **kwargs,
    ):
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

    def call(self, inputs: Any) -> Any:
        """Converts one image or a batch; images already of `image_size` are not resampled."""
        if isinstance(inputs, list | tuple):
            if len({np.shape(x) for x in inputs}) > 1:  # images of several sizes, one by one
                return ops.stack([self.call(np.asarray(x)[None])[0] for x in inputs])
            inputs = np.asarray(inputs)
        inputs = _with_channels(inputs)
        if self.image_size and tuple(inputs.shape[-3:-1]) == self.image_size:
            size, self.image_size = self.image_size, None
            try:
                return super().call(inputs)
            finally:
                self.image_size = size
        return super().call(inputs)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        for derived in ("scale", "offset"):
            config.pop(derived)
        return {**config, "mean": self.mean, "std": self.std}


def _with_channels(images: Any) -> Any:
    """(…, H, W) -> (…, H, W, 1). Grey becomes RGB when the three means are subtracted."""
    shape = tuple(images.shape)
    if len(shape) in (3, 4) and shape[-1] in (1, 3):
        return images
    if len(shape) in (2, 3):
        return images[..., None]
    raise ValueError(
        f"expected images of shape (N, H, W, 3), (N, H, W, 1) or (N, H, W), got {shape}."
    )
