"""Images as users have them -> what a backbone takes."""

import keras
import keras_hub
import numpy as np
from keras import ops

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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

    def call(self, inputs: np.ndarray) -> np.ndarray:
        """Converts one image or a batch; images already of `image_size` are not resampled."""
        if isinstance(inputs, list | tuple) and len({np.shape(x) for x in inputs}) > 1:
            # Images of several sizes: each is resized on its own.
            return ops.stack([self.call(_as_batch(x))[0] for x in inputs])
        if isinstance(inputs, np.ndarray | list | tuple):
            inputs = _as_rgb(np.asarray(inputs))
        elif inputs.shape[-1] == 1:
            inputs = keras.ops.repeat(inputs, 3, axis=-1)
        if self.image_size and tuple(inputs.shape[-3:-1]) == tuple(self.image_size):
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


def _as_batch(image: np.ndarray) -> np.ndarray:
    return _as_rgb(np.asarray(image))[None]


def _as_rgb(images: np.ndarray) -> np.ndarray:
    """(…, H, W), (…, H, W, 1) -> (…, H, W, 3); three channels stay as they are."""
    if images.shape[-1] == 3 and images.ndim in (3, 4):
        return images
    if images.shape[-1] == 1 and images.ndim in (3, 4):
        return np.repeat(images, 3, axis=-1)
    if images.ndim in (2, 3):
        return np.repeat(images[..., None], 3, axis=-1)
    raise ValueError(
        f"expected images of shape (N, H, W, 3), (N, H, W, 1) or (N, H, W), got {images.shape}."
    )
