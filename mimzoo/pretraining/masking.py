"""Which patches are hidden: data, not a layer's side effect.

A mask follows from (seed, epoch, example index) alone (`mimzoo.data.random`), so validation loss
is a number that two runs, two batch sizes and two backends can compare.
"""

import math

import keras
import numpy as np

from mimzoo.data.random import uniform


@keras.saving.register_keras_serializable(package="mimzoo")
class RandomMasking:
    """Uniformly random units of each image, the same number in every image.

    ceil(ratio x units) units are hidden, which is what SimMIM hides (data/data_simmim.py,
    `MaskGenerator`) and what MAE leaves when it keeps int((1 - ratio) x patches) (models_mae.py,
    `random_masking`).

    Args:
        mask_ratio: hidden share, in (0, 1). MAE uses 0.75 of the patches, SimMIM 0.6 of the units.
        seed: of all masks.
        mask_patch_size: side of a unit in pixels, a multiple of the backbone's patch that divides
            the image. SimMIM uses 32. Default: the backbone's patch.

    Raises:
        ValueError: a ratio outside (0, 1).
    """

    def __init__(self, mask_ratio: float = 0.75, seed: int = 0, mask_patch_size: int | None = None):
        if not 0.0 < mask_ratio < 1.0:
            raise ValueError(
                f"mask_ratio must lie strictly between 0 and 1, got {mask_ratio}: "
                "at 0 there is nothing to reconstruct, at 1 nothing to see. MAE uses 0.75, "
                "SimMIM 0.6."
            )
        if mask_patch_size is not None and mask_patch_size < 1:
            raise ValueError(f"mask_patch_size must be at least 1 pixel, got {mask_patch_size}.")
        self.mask_ratio = float(mask_ratio)
        self.seed = int(seed)
        self.mask_patch_size = mask_patch_size

    def num_hidden(self, grid: tuple[int, int], patch_size: int) -> int:
        """How many patches of a grid are hidden in each row of masks.

        Args:
            grid: rows and columns of patches.
            patch_size: side of a patch in pixels.

        Raises:
            ValueError: units that do not fit patch or image; none, or all, hidden.
        """
        rows, cols, side = self._units(grid, patch_size)
        units = rows * cols
        hidden = self._count(units)
        if not 0 < hidden < units:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} of {units} units leaves "
                f"{units - hidden} visible: use smaller ones, a larger image or a ratio nearer "
                "to 0.5."
            )
        return hidden * side**2

    def _count(self, units: int) -> int:
        # Less than half a rounding error above a whole number is that number.
        return math.ceil(self.mask_ratio * units - 1e-9)

    def _units(self, grid: tuple[int, int], patch_size: int) -> tuple[int, int, int]:
        """Rows and columns of units, and patches along a side of a unit."""
        if self.mask_patch_size is None:
            return (*grid, 1)
        side, rest = divmod(self.mask_patch_size, patch_size)
        if rest or not side:
            raise ValueError(
                f"mask_patch_size {self.mask_patch_size} must be a multiple of the backbone's "
                f"patch_size {patch_size}, for example {max(side, 1) * patch_size}."
            )
        if grid[0] % side or grid[1] % side:
            raise ValueError(
                f"mask_patch_size {self.mask_patch_size} does not divide the image of "
                f"{grid[0] * patch_size}x{grid[1] * patch_size} pixels: choose an image_shape of "
                f"multiples of {self.mask_patch_size}, or another mask_patch_size."
            )
        return grid[0] // side, grid[1] // side, side

    def draw(
        self,
        index: np.ndarray,
        epoch: int,
        grid: tuple[int, int],
        patch_size: int,
        seed: int | None = None,
        training: bool = False,
    ) -> np.ndarray:
        """Masks of the examples `index` in an epoch.

        Args:
            index: (B,) example indices.
            epoch: counted from 0; evaluation always takes 0.
            grid: rows and columns of patches.
            patch_size: side of a patch in pixels.
            seed: in place of the masking's own.
            training: whether a training step draws them; random masks are the same anyway.

        Returns:
            (B, N) uint8 over patches, 1 = hidden.
        """
        rows, cols, side = self._units(grid, patch_size)
        visible = rows * cols - self.num_hidden(grid, patch_size) // side**2
        seed = self.seed if seed is None else seed
        noise = uniform(seed, epoch, index, rows * cols, stream="mask")
        order = np.argsort(noise, axis=1, kind="stable")
        masks = np.ones(noise.shape, "uint8")
        np.put_along_axis(masks, order[:, :visible], 0, axis=1)
        return self._to_patches(masks, rows, cols, side)

    def check(self, masks: np.ndarray, grid: tuple[int, int], patch_size: int) -> None:
        """Raises ValueError unless masks (B, N) hide what `draw` would hide in each row."""
        check_binary(masks)
        count, hidden = grid[0] * grid[1], self.num_hidden(grid, patch_size)
        if masks.shape[1:] != (count,) or not np.all((masks != 0).sum(1) == hidden):
            raise ValueError(
                f"masks must be (N, {count}) with {hidden} ones in each row (1 = hidden), "
                f"got shape {masks.shape}."
            )

    @staticmethod
    def _to_patches(masks: np.ndarray, rows: int, cols: int, side: int) -> np.ndarray:
        """Masks of units as masks of patches."""
        if side == 1:
            return masks
        masks = masks.reshape(-1, rows, cols).repeat(side, axis=1).repeat(side, axis=2)
        return masks.reshape(len(masks), -1)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "mask_ratio": self.mask_ratio,
            "seed": self.seed,
            "mask_patch_size": self.mask_patch_size,
        }

    @classmethod
    def from_config(cls, config: dict) -> "RandomMasking":
        """The inverse of `get_config`."""
        return cls(**config)


def check_binary(masks: np.ndarray) -> None:
    """Raises ValueError unless all values are 0 or 1."""
    other = masks[(masks != 0) & (masks != 1)]
    if other.size:
        raise ValueError(f"masks must be 0 or 1 (1 = hidden), got {other.flat[0]!s}.")
