"""Absolute positions of the tokens of a grid."""

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.layers.resize import resize_position_table


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
            index: (B, K) integers, the place of each token on the grid. Default: all, in order.
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
