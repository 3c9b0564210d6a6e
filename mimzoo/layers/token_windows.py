"""Windows over the tokens of a plain ViT: ViTDet's, without a shift."""

from dataclasses import dataclass

from keras import ops

from mimzoo.backend import Tensor


@dataclass(frozen=True)
class TokenWindows:
    """Square windows over a grid of tokens, which is padded below and to the right.

    Li et al., arXiv 2203.16527; detectron2, modeling/backbone/utils.py, `window_partition`. Other
    than Swin's (`Windows`), a window may be larger than the grid, and padding is part of it.

    Args:
        grid: rows and columns of tokens.
        size: side of a window.
    """

    grid: tuple[int, int]
    size: int

    @property
    def counts(self) -> tuple[int, int]:
        """Windows below and beside each other."""
        return tuple(-(-side // self.size) for side in self.grid)

    def cut(self, tokens: Tensor) -> Tensor:
        """(B, rows x cols, D) -> (B x windows, size x size, D); padding is zeros."""
        (down, across), size, width = self.counts, self.size, tokens.shape[-1]
        x = ops.reshape(tokens, (-1, *self.grid, width))
        pads = [(0, n * size - side) for n, side in zip(self.counts, self.grid, strict=True)]
        if any(after for _, after in pads):
            x = ops.pad(x, ((0, 0), *pads, (0, 0)))
        x = ops.reshape(x, (-1, down, size, across, size, width))
        return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, size * size, width))

    def join(self, windows: Tensor) -> Tensor:
        """The inverse of `cut`, without the padding."""
        (down, across), size, width = self.counts, self.size, windows.shape[-1]
        (rows, cols) = self.grid
        x = ops.reshape(windows, (-1, down, across, size, size, width))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, down * size, across * size, width))[:, :rows, :cols]
        return ops.reshape(x, (-1, rows * cols, width))
