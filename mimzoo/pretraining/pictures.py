"""What a MIM task sees, has to predict and predicts, as pictures."""

import numpy as np
from keras import ops


class Pictures:
    """Mixin of MIMTask: `reconstruct`."""

    @property
    def prediction_stride(self) -> int:
        """Side in pixels of what one row of the predictions stands for."""
        backbone = self.backbone
        return backbone.patch_size if self.target.per_pixel else backbone.stride

    def reconstruct(self, images: np.ndarray, epoch: int = 0, batch_size: int = 32) -> dict:
        """Pictures of what the model sees and predicts.

        Args:
            images: (N, H, W, 1 or 3) in [0, 255].
            epoch: which masks.
            batch_size: images per forward pass.

        Returns:
            "original", "masked" (hidden patches grey) and "reconstruction" (what is visible
            pasted back), each (N, H, W, C) uint8, and "masks" (N, patches), the first where an
            image has several. Where the target is not of pixels also "target", its picture; what
            "reconstruction" shows is then pasted into that one.

        Raises:
            ValueError: without a preprocessor nobody knows which values are black and white.
        """
        x = self.preprocess(images)
        inputs = {"images": x, **self.draw(np.arange(len(x)), epoch)}
        painted, perfect = self.paint(inputs, batch_size)
        masks = inputs["masks"]
        masks = masks[:, 0] if masks.ndim == 3 else masks
        hidden = self.to_image(masks)
        shown = {"target": self.to_pixels(perfect)} if not self.target.per_pixel else {}
        return {
            "original": self.to_pixels(x),
            "masked": np.where(hidden, np.uint8(128), self.to_pixels(x)),
            **shown,
            "reconstruction": self.to_pixels(np.where(hidden, painted, perfect)),
            "masks": masks,
        }

    def paint(self, inputs: dict[str, np.ndarray], batch_size: int) -> tuple:
        """Pictures of the predictions, and of what would be perfect: (N, H, W, C) each.

        Of pixels, the image itself is perfect.

        Args:
            inputs: of a step: preprocessed "images" (N, H, W, C) and what was drawn.
            batch_size: images per forward pass.
        """
        x = inputs["images"]
        predictions = self.one_mask(self.predict(inputs, batch_size=batch_size, verbose=0))
        step = self.step(inputs)
        painted = ops.convert_to_numpy(self.target.pictures(step, predictions))
        if self.target.per_pixel:
            return painted, x
        parts = [
            self.step({name: values[i : i + batch_size] for name, values in inputs.items()})
            for i in range(0, len(x), batch_size)
        ]
        perfect = [ops.convert_to_numpy(self.target.targets(part)) for part in parts]
        return painted, ops.convert_to_numpy(self.target.pictures(step, np.concatenate(perfect)))

    def one_mask(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions (N, positions, P) to show; a method with several masks gives the first's."""
        return predictions

    def to_image(self, masks: np.ndarray) -> np.ndarray:
        """Masks of patches (N, patches) as boolean masks of pixels (N, H, W, 1)."""
        pixels = masks.reshape(-1, *self.backbone.grid, 1) > 0
        side = self.backbone.patch_size
        return pixels.repeat(side, axis=1).repeat(side, axis=2)

    def to_pixels(self, images: np.ndarray) -> np.ndarray:
        """Normalised images back to uint8 in [0, 255]."""
        converter = getattr(self.preprocessor, "image_converter", None)
        if not hasattr(converter, "std"):
            raise ValueError(
                "without mimzoo's ImageConverter nobody knows which values are black and white: "
                "give the task a preprocessor with the mean and std of your images."
            )
        images = (images * np.float32(converter.std) + np.float32(converter.mean)) * 255.0
        return np.clip(np.round(images), 0, 255).astype("uint8")
