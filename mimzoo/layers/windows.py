"""How a grid of tokens is cut into windows, and which tokens of a window may see each other."""

from dataclasses import dataclass

import numpy as np

# Between tokens of one window that are no neighbours in the image: Swin's, not minus infinity.
MASKED = -100.0
# Between tokens of two images: nothing is left of it after a softmax (MixMIM).
FORBIDDEN = -1e30


@dataclass(frozen=True)
class Windows:
    """Square windows over a grid, perhaps shifted.

    A window is never larger than the shorter side of the grid, and where it is not smaller there
    is nothing to shift (models/swin_transformer_v2.py, `SwinTransformerBlock`). A grid that the
    window does not divide is padded below and to the right.

    Args:
        grid: rows and columns of tokens.
        window_size: wanted side of a window.
        shifted: whether windows are moved by half their side.
    """

    grid: tuple[int, int]
    window_size: int
    shifted: bool = False

    @property
    def size(self) -> int:
        """Side of a window."""
        return min(self.window_size, *self.grid)

    @property
    def shift(self) -> int:
        """Tokens by which the grid is rolled up and to the left."""
        return self.size // 2 if self.shifted and min(self.grid) > self.window_size else 0

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns after padding to multiples of the window."""
        return tuple(-(-side // self.size) * self.size for side in self.grid)

    @property
    def counts(self) -> tuple[int, int]:
        """Windows below and beside each other."""
        return tuple(side // self.size for side in self.padded)

    def mask(self) -> np.ndarray | None:
        """(windows, 1, T, T) float32 with T tokens a window: 0, or `MASKED` where rolling put
        two tokens side by side that are far apart. None without a shift.
        """
        if not self.shift:
            return None
        size, shift = self.size, self.shift
        regions = [
            np.digitize(np.arange(side), (side - size, side - shift)) for side in self.padded
        ]
        region = regions[0][:, None] * 3 + regions[1]
        down, across = self.counts
        region = region.reshape(down, size, across, size).swapaxes(1, 2).reshape(-1, size * size)
        far = region[:, :, None] != region[:, None, :]
        return np.where(far, np.float32(MASKED), np.float32(0))[:, None]
