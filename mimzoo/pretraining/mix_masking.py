"""Which units of a mixture show the partner."""

import keras
import numpy as np

from mimzoo.data.random import uniform
from mimzoo.pretraining.masking import RandomMasking

SHARED = ("pair", "batch")


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMasking(RandomMasking):
    """Random units, the same for the two images that MixMIM mixes.

    int(ratio x units) units show the partner (models_mixmim.py, `random_masking`). Images 2k and
    2k + 1 of a batch are partners; their mask follows from (seed, epoch, index of the first).

    Args:
        mask_ratio: share of the units that show the partner, in (0, 1).
        seed: of all masks.
        mask_patch_size: side of a unit in pixels, a multiple of the backbone's stride that
            divides the image.
        shared: "pair": each pair has a mask of its own; "batch": in training, one mask for all
            images of a batch, as published. Evaluation has one a pair, so that a loss does not
            depend on the size of the batches.
        mask_ratio_range: a number from [0, mask_ratio_range) is added to the ratio of each mask
            (models_mixmim.py, `range_mask_ratio`, default 0).

    Raises:
        ValueError: a ratio outside (0, 1), or unknown `shared`.
    """

    def __init__(
        self,
        mask_ratio: float = 0.5,
        seed: int = 0,
        mask_patch_size: int | None = None,
        shared: str = "pair",
        mask_ratio_range: float = 0.0,
    ):
        super().__init__(mask_ratio, seed, mask_patch_size)
        if shared not in SHARED:
            raise ValueError(f"shared must be 'pair' or 'batch', got {shared!r}.")
        if mask_ratio_range < 0 or mask_ratio + mask_ratio_range > 1:
            raise ValueError(
                f"mask_ratio_range must lie between 0 and 1 - mask_ratio, got {mask_ratio_range}."
            )
        self.shared = shared
        self.mask_ratio_range = float(mask_ratio_range)

    def _count(self, units: int) -> int:
        return int(self.mask_ratio * units + 1e-9)

    def draw(
        self,
        index: np.ndarray,
        epoch: int,
        grid: tuple[int, int],
        patch_size: int,
        seed: int | None = None,
        training: bool = False,
    ) -> np.ndarray:
        """Masks of the examples of a batch.

        Args:
            index: (B,) example indices in the order of the batch; B is even.
            epoch, grid, patch_size, seed: see RandomMasking.
            training: whether `shared` applies.

        Returns:
            (B, N) uint8 over patches, 1 = shows the partner; rows 2k and 2k + 1 are equal.

        Raises:
            ValueError: an odd number of examples.
        """
        check_even(len(index))
        rows, cols, side = self._units(grid, patch_size)
        units = rows * cols
        shared = training and self.shared == "batch"
        first = index[:1] if shared else index[::2]
        noise = uniform(self.seed if seed is None else seed, epoch, first, units + 1, stream="mix")
        ratio = self.mask_ratio + self.mask_ratio_range * noise[:, -1:]
        counts = np.clip((ratio * units + 1e-9).astype(int), 1, units - 1)
        order = np.argsort(noise[:, :-1], axis=1, kind="stable")
        masks = np.zeros((len(first), units), "uint8")
        np.put_along_axis(masks, order, (np.arange(units) < counts).astype("uint8"), axis=1)
        masks = masks.repeat(len(index) if shared else 2, axis=0)
        return self._to_patches(masks, rows, cols, side)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "shared": self.shared,
            "mask_ratio_range": self.mask_ratio_range,
        }


def check_even(count: int) -> None:
    """Raises ValueError for a number of images that do not make pairs."""
    if count % 2:
        raise ValueError(
            f"MixMIM mixes neighbours, so every batch needs an even number of images, got {count}: "
            "choose an even batch_size, and leave an image out where the last batch is odd."
        )
