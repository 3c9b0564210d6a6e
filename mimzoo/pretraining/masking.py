"""Which patches are hidden: data, not a layer's side effect.

A mask follows from (seed, epoch, example index) alone (`mimzoo.data.random`), so validation loss
is a number that two runs, two batch sizes and two backends can compare.
"""

import keras
import numpy as np

from mimzoo.data.random import uniform


@keras.saving.register_keras_serializable(package="mimzoo")
class RandomMasking:
    """Uniformly random patches of each image, the same number in every image.

    MAE (models_mae.py, `random_masking`): int(N (1 - ratio)) patches stay visible.

    Args:
        mask_ratio: hidden share of the patches, in (0, 1). MAE's paper uses 0.75.
        seed: of all masks.

    Raises:
        ValueError: a ratio outside (0, 1).
    """

    def __init__(self, mask_ratio: float = 0.75, seed: int = 0):
        if not 0.0 < mask_ratio < 1.0:
            raise ValueError(
                f"mask_ratio must lie strictly between 0 and 1, got {mask_ratio}: "
                "at 0 there is nothing to reconstruct, at 1 nothing to see. MAE uses 0.75."
            )
        self.mask_ratio = float(mask_ratio)
        self.seed = int(seed)

    def num_visible(self, num_patches: int) -> int:
        """How many of `num_patches` stay visible.

        Raises:
            ValueError: none, or all, would.
        """
        visible = int(num_patches * (1 - self.mask_ratio))
        if not 0 < visible < num_patches:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} of {num_patches} patches leaves {visible} visible: "
                "use a smaller patch, a larger image or a ratio nearer to 0.5."
            )
        return visible

    def draw(self, index: np.ndarray, epoch: int, grid: tuple[int, int]) -> np.ndarray:
        """Masks of the examples `index` in an epoch.

        Args:
            index: (B,) example indices.
            epoch: counted from 0; evaluation always takes 0.
            grid: rows and columns of patches.

        Returns:
            (B, N) uint8, 1 = hidden.
        """
        count = grid[0] * grid[1]
        noise = uniform(self.seed, epoch, index, count, stream="mask")
        order = np.argsort(noise, axis=1, kind="stable")
        masks = np.ones(noise.shape, "uint8")
        np.put_along_axis(masks, order[:, : self.num_visible(count)], 0, axis=1)
        return masks

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"mask_ratio": self.mask_ratio, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict) -> "RandomMasking":
        """The inverse of `get_config`."""
        return cls(**config)
