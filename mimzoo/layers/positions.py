"""Absolute and relative position information for grids of tokens."""

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.resize import resize_position_table, resize_relative_table


def sincos_table(grid: tuple[int, int], dim: int) -> np.ndarray:
    """Fixed 2-D sine-cosine positions: (rows, cols, dim) float32.

    MAE util/pos_embed.py: the first half of the channels encodes the column, the second half the
    row; each half holds sines, then cosines, of the coordinate times 10000^(-i / (dim / 4)).

    Raises:
        ValueError: `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, got {dim}.")
    omega = 1.0 / 10000 ** (np.arange(dim // 4) / (dim / 4.0))
    halves = [np.arange(side)[:, None] * omega for side in grid]
    row, col = (np.concatenate([np.sin(a), np.cos(a)], axis=1) for a in halves)
    table = np.concatenate(
        [
            np.broadcast_to(col[None], (*grid, dim // 2)),
            np.broadcast_to(row[:, None], (*grid, dim // 2)),
        ],
        axis=-1,
    )
    return table.astype("float32")


@keras.saving.register_keras_serializable(package="mimzoo")
class PositionEmbedding(keras.layers.Layer):
    """Adds an absolute position to each token.

    The table is kept in the file as (rows, cols, dim) at the geometry it was trained at and is
    resized when it is loaded at another (`resize_position_table`). A preset with fixed positions
    may be loaded as a learned one, which is what MAE's fine-tuning does (models_vit.py).

    Args:
        grid: rows and columns of tokens.
        trainable: False: fixed sine-cosine positions. True: learned ones, starting there.
    """

    def __init__(self, grid: tuple[int, int], trainable: bool = False, **kwargs):
        super().__init__(trainable=trainable, **kwargs)
        self.grid = tuple(grid)

    def build(self, input_shape: tuple) -> None:
        """Creates the table."""
        table = sincos_table(self.grid, input_shape[-1])
        self.table = self.add_weight(
            name="table",
            shape=table.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(table, dtype),
            trainable=self.trainable,
        )
        self.built = True

    def call(self, tokens: Tensor, index: Tensor | None = None) -> Tensor:
        """Adds positions.

        Args:
            tokens: (B, K, D).
            index: (B, K) integers, which cell of the grid each token is. Default: all, in order.
        """
        table = ops.reshape(self.table, (1, -1, tokens.shape[-1]))
        table = ops.cast(table, tokens.dtype)
        if index is None:
            return tokens + table
        return tokens + ops.take(table[0], index, axis=0)

    def load_own_variables(self, store: dict) -> None:
        """Reads the table, resized to this layer's grid."""
        table = np.array(store["0"])
        if table.shape[-1] != self.table.shape[-1]:
            raise ValueError(
                f"the file holds positions of width {table.shape[-1]}, the model needs "
                f"{self.table.shape[-1]}: build the model with the file's embed_dim."
            )
        self.table.assign(resize_position_table(table, self.grid))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "grid": self.grid}


@keras.saving.register_keras_serializable(package="mimzoo")
class RelativePositionBias(keras.layers.Layer):
    """Learned attention bias that depends on the offset between two tokens of a grid.

    As in BEiT and SimMIM's ViT (models/vision_transformer.py): one number a head for each of the
    (2 rows - 1)(2 cols - 1) offsets and, with a class token, three more: class to token, token to
    class, class to class. Resized on load by `resize_relative_table`.

    Args:
        grid: rows and columns of tokens.
        num_heads: heads of the attention it is added to.
        class_token: whether a class token stands in front.
    """

    def __init__(self, grid: tuple[int, int], num_heads: int, class_token: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.num_heads = num_heads
        self.class_token = class_token
        rows, cols = self.grid
        cells = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), -1)
        cells = cells.reshape(-1, 2)
        offset = cells[:, None] - cells[None] + [rows - 1, cols - 1]
        index = offset[..., 0] * (2 * cols - 1) + offset[..., 1]
        if class_token:
            first = (2 * rows - 1) * (2 * cols - 1)
            index = np.pad(index, ((1, 0), (1, 0)))
            index[0, :], index[:, 0], index[0, 0] = first, first + 1, first + 2
        self._index = index.astype("int32")

    def build(self, input_shape: tuple | None = None) -> None:
        """Creates the table, zero, as the official code does."""
        rows, cols = self.grid
        self.table = self.add_weight(
            name="table", shape=(2 * rows - 1, 2 * cols - 1, self.num_heads), initializer="zeros"
        )
        if self.class_token:
            self.class_table = self.add_weight(
                name="class_table", shape=(3, self.num_heads), initializer="zeros"
            )
        self.built = True

    def call(self, tokens: Tensor, index: Tensor | None = None) -> Tensor:
        """The bias of attention among `tokens`.

        Args:
            tokens: (B, T, D); only its shape matters.
            index: (B, K) integers, which cells of the grid are present (without the class token).

        Returns:
            (1, heads, T, T), or (B, heads, T, T) where `index` is given.
        """
        table = ops.reshape(self.table, (-1, self.num_heads))
        if self.class_token:
            table = ops.concatenate([table, self.class_table])
        pairs = ops.convert_to_tensor(self._index)[None]
        if index is not None:
            if self.class_token:
                index = ops.pad(index + 1, ((0, 0), (1, 0)))
            total = self._index.shape[0]
            flat = index[:, :, None] * total + index[:, None, :]
            pairs = ops.take(ops.reshape(pairs, (-1,)), flat)
        return ops.transpose(ops.take(table, pairs, axis=0), (0, 3, 1, 2))

    def load_own_variables(self, store: dict) -> None:
        """Reads the table, resized to this layer's grid."""
        self.table.assign(resize_relative_table(np.array(store["0"]), self.grid))
        if self.class_token:
            self.class_table.assign(np.array(store["1"]))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "grid": self.grid,
            "num_heads": self.num_heads,
            "class_token": self.class_token,
        }
