"""Tensors of a checkpoint <-> tensors of ours: each rule once, with its inverse.

`to_ours` and `to_theirs` take and give one array for each name of a row of the table. All only
move numbers, so what goes in comes out bit for bit; but for detectron2's tables of positions,
which are resized if the image size is another.
"""

import math
from dataclasses import dataclass

import numpy as np

from mimzoo.layers.resize import resize_offset_table, resize_position_table

Arrays = tuple[np.ndarray, ...]


class Same:
    """Nothing to do: one tensor, the same shape."""

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """Checkpoint -> mimzoo."""
        return theirs

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """Mimzoo -> checkpoint."""
        return ours


class Transposed(Same):
    """torch's linear layer keeps (out, in), Keras' (in, out)."""

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(out, in) -> (in, out)."""
        return (theirs[0].T,)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(in, out) -> (out, in)."""
        return (ours[0].T,)


class ConvKernel(Same):
    """torch keeps the kernel of a convolution (out, in, h, w), Keras (h, w, in, out).

    Of a transposed convolution both have input and output swapped, so the rule is the same.
    """

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(out, in, h, w) -> (h, w, in, out)."""
        return (theirs[0].transpose(2, 3, 1, 0),)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(h, w, in, out) -> (out, in, h, w)."""
        return (ours[0].transpose(3, 2, 0, 1),)


@dataclass(frozen=True)
class PatchKernel(Same):
    """A convolution whose stride is its kernel is a linear layer on (row, col, channel) patches.

    Args:
        patch_size: side of a patch in pixels.
    """

    patch_size: int

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(D, C, p, p) -> (p p C, D)."""
        (kernel,) = theirs
        return (kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel)),)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(p p C, D) -> (D, C, p, p)."""
        (kernel,) = ours
        side = self.patch_size
        return (kernel.reshape(side, side, -1, kernel.shape[-1]).transpose(3, 2, 0, 1),)


class Joined(Same):
    """Queries, keys and values in three tensors, which we keep in one: biases (D,) -> (3 D,)."""

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """Three of (D, ...) -> (3 D, ...)."""
        return (np.concatenate(theirs),)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(3 D, ...) -> three of (D, ...)."""
        return tuple(np.split(ours[0], 3))


class JoinedKernel(Joined):
    """Joined, then Transposed: three of (D, D) -> (D, 3 D)."""

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """Three of (D, D), (out, in) -> (D, 3 D), (in, out)."""
        return (np.concatenate(theirs).T,)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(D, 3 D) -> three of (D, D)."""
        return tuple(np.split(ours[0].T, 3))


@dataclass(frozen=True)
class Positions(Same):
    """(1, 1 + N, D) with the class token's row first -> (rows, cols, D) and that row.

    Args:
        grid: rows and columns, whose product is N.
        class_row: whether the model keeps the class token's position as (1, 1, D). If not, the
            row is zero, as in MAE's fixed table (util/pos_embed.py).
    """

    grid: tuple[int, int]
    class_row: bool = False

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(1, 1 + N, D) -> (rows, cols, D)[, (1, 1, D)].

        Raises:
            ValueError: a class row that is not zero where the model has no place for it.
        """
        (table,) = theirs
        if not self.class_row and table[0, 0].any():
            raise ValueError("the position of the class token is not zero, as it is in MAE.")
        rest = table[0, 1:].reshape(*self.grid, -1)
        return (rest, table[:, :1]) if self.class_row else (rest,)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(rows, cols, D)[, (1, 1, D)] -> (1, 1 + N, D)."""
        rest = ours[0].reshape(1, -1, ours[0].shape[-1])
        first = ours[1] if self.class_row else np.zeros_like(rest[:, :1])
        return (np.concatenate([first, rest], axis=1),)


class UnusedClassRow(Positions):
    """Positions with a row for a class token that the model does not have, and never reads.

    detectron2's ViT keeps the table of its pretraining, of a square image, and resizes it
    whenever it is read (modeling/backbone/utils.py, `get_abs_pos`).
    """

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(1, 1 + side side, D) -> (rows, cols, D)."""
        table = theirs[0][0, 1:]
        side = math.isqrt(len(table))
        return (resize_position_table(table.reshape(side, side, -1), self.grid),)


@dataclass(frozen=True)
class OffsetTable(Same):
    """A table of decomposed relative positions along one axis, resized to the tokens there.

    Args:
        side: number of tokens.
    """

    side: int

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(2 old side - 1, head_dim) -> (2 side - 1, head_dim)."""
        return (resize_offset_table(theirs[0], self.side),)


@dataclass(frozen=True)
class PatchPositions(Same):
    """Positions without a class token: (1, N, D) -> (rows, cols, D).

    Args:
        grid: rows and columns, whose product is N.
    """

    grid: tuple[int, int]

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(1, N, D) -> (rows, cols, D)."""
        return (theirs[0].reshape(*self.grid, -1),)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(rows, cols, D) -> (1, N, D)."""
        return (ours[0].reshape(1, -1, ours[0].shape[-1]),)


@dataclass(frozen=True)
class RelativeTable(Same):
    """One row for each offset, row offset first: ((2 r - 1)(2 c - 1), H) -> (2 r - 1, 2 c - 1, H).

    Swin models/swin_transformer.py, `WindowAttention`. Where there is a class token three rows
    follow (class to token, token to class, class to class; BEiT modeling_finetune.py), which we
    keep apart.

    Args:
        grid: rows r and columns c of tokens.
        class_rows: whether the three rows are there.
    """

    grid: tuple[int, int]
    class_rows: bool = False

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(offsets[ + 3], heads) -> (2 r - 1, 2 c - 1, heads)[, (3, heads)]."""
        (table,) = theirs
        rows, cols = (2 * side - 1 for side in self.grid)
        shape = (rows, cols, table.shape[-1])
        if not self.class_rows:
            return (table.reshape(shape),)
        return table[:-3].reshape(shape), table[-3:]

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(2 r - 1, 2 c - 1, heads)[, (3, heads)] -> (offsets[ + 3], heads)."""
        table = ours[0].reshape(-1, ours[0].shape[-1])
        return (np.concatenate([table, ours[1]]) if self.class_rows else table,)


@dataclass(frozen=True)
class Shuffled(Same):
    """Rows of SimMIM's 1 x 1 convolution: (channel, row, col) order <-> our (row, col, channel).

    The order that torch's PixelShuffle reads (models/simmim.py).

    Args:
        stride: side in pixels of what one token predicts.
    """

    stride: int

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(C s s,) -> (s s C,)."""
        (bias,) = theirs
        return (np.moveaxis(bias.reshape(-1, self.stride, self.stride), 0, -1).reshape(-1),)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(s s C,) -> (C s s,)."""
        (bias,) = ours
        return (np.moveaxis(bias.reshape(self.stride, self.stride, -1), -1, 0).reshape(-1),)


class ShuffledKernel(Shuffled):
    """Shuffled, for the kernel of the convolution."""

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(C s s, D, 1, 1) -> (D, s s C)."""
        (kernel,) = theirs
        width = kernel.shape[1]
        x = kernel.reshape(-1, self.stride, self.stride, width)
        return (x.transpose(3, 1, 2, 0).reshape(width, -1),)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(D, s s C) -> (C s s, D, 1, 1)."""
        (kernel,) = ours
        x = kernel.reshape(len(kernel), self.stride, self.stride, -1)
        return (x.transpose(3, 1, 2, 0).reshape(-1, len(kernel), 1, 1),)


# Neighbours of a patch merging, row by row as mmcv's unfold takes them, in Swin's order; the
# permutation is its own inverse.
_COLUMN_FIRST = [0, 2, 1, 3]


class Unfolded(Same):
    """Vectors over the 4 c channels of a patch merging, in mmcv's order.

    mmcv keeps (channel, neighbour), neighbours row by row; Swin (neighbour, channel), neighbours
    (0, 0), (1, 0), (0, 1), (1, 1) (mmpretrain tools/model_converters/mixmim_to_mmpretrain.py).
    """

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(4 c,) -> (4 c,)."""
        return (theirs[0].reshape(-1, 4)[:, _COLUMN_FIRST].T.reshape(-1),)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(4 c,) -> (4 c,)."""
        return (ours[0].reshape(4, -1)[_COLUMN_FIRST].T.reshape(-1),)


class UnfoldedKernel(Unfolded):
    """Unfolded, for the linear layer of a patch merging."""

    def to_ours(self, *theirs: np.ndarray) -> Arrays:
        """(2 c, 4 c), (out, in) -> (4 c, 2 c)."""
        (kernel,) = theirs
        x = kernel.reshape(len(kernel), -1, 4)[:, :, _COLUMN_FIRST]
        return (x.transpose(2, 1, 0).reshape(-1, len(kernel)),)

    def to_theirs(self, *ours: np.ndarray) -> Arrays:
        """(4 c, 2 c) -> (2 c, 4 c)."""
        (kernel,) = ours
        width = kernel.shape[-1]
        x = kernel.reshape(4, -1, width)[_COLUMN_FIRST]
        return (x.transpose(2, 1, 0).reshape(width, -1),)
