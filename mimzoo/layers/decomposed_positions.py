"""Relative positions that depend on the query: one table of row offsets, one of column offsets."""

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor, add_constant, relative_to_absolute
from mimzoo.layers.resize import resize_offset_table


@keras.saving.register_keras_serializable(package="mimzoo")
class DecomposedRelativePositions(keras.layers.Layer):
    """Adds query · row_table[row offset] + query · column_table[column offset] to the logits.

    MViT v2 (arXiv 2112.01526) as ViTDet has it: the query is not scaled, all heads of a block share
    the tables, and these start at zero (detectron2, modeling/backbone/vit.py and utils.py). They
    are resized on load by `resize_offset_table`.

    The terms become channels of queries, the keys' rows and columns as one-hot vectors become
    channels of keys: so attention computes their sum itself, and needs no tensor with a number for
    each pair of tokens.

    Args:
        grid: rows and columns of tokens.
        head_dim: channels of a head.
        **kwargs: of keras.layers.Layer.
    """

    def __init__(self, grid: tuple[int, int], head_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.head_dim = head_dim
        rows, cols = self.grid
        # Kernels of GPUs take multiples of 8 channels.
        self.padding = -(head_dim + rows + cols) % 8
        places = [np.repeat(np.eye(rows), cols, axis=0), np.tile(np.eye(cols), (rows, 1))]
        places.append(np.zeros((rows * cols, self.padding)))
        add_constant(self, "places", np.concatenate(places, axis=1).astype("float32"))

    def build(self, input_shape: tuple | None = None) -> None:
        """Creates both tables, (2 rows - 1, head_dim) and (2 cols - 1, head_dim)."""
        rows, cols = self.grid
        for name, side in (("row_table", rows), ("column_table", cols)):
            shape = (2 * side - 1, self.head_dim)
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer="zeros"))
        self.built = True

    def call(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys whose products, times head_dim ** -0.5, are the logits with positions.

        Args:
            query, key: (B, heads, T, head_dim), T = rows x cols in row-major order.

        Returns:
            Both as (B, heads, T, head_dim + rows + cols), padded with zeros to a multiple of 8.
        """
        (rows, cols), (_, heads, length, _) = self.grid, query.shape
        by_place = ops.reshape(query, (-1, heads, rows, cols, self.head_dim))
        tables = (
            relative_to_absolute(ops.cast(table, query.dtype), axis=0)
            for table in (self.row_table, self.column_table)
        )
        terms = [
            ops.reshape(ops.einsum(rule, by_place, table), (-1, heads, length, side))
            for rule, table, side in zip(
                ("bnrcd,rkd->bnrck", "bnrcd,ckd->bnrck"), tables, self.grid, strict=True
            )
        ]
        more = ops.concatenate(terms, axis=-1) * self.head_dim**0.5
        if self.padding:
            more = ops.pad(more, ((0, 0), (0, 0), (0, 0), (0, self.padding)))
        places = ops.cast(ops.convert_to_tensor(self.places), key.dtype)
        # Broadcast to all examples and heads; TensorFlow may not know how many examples there are.
        places = places + ops.zeros_like(key[..., :1])
        return ops.concatenate([query, more], axis=-1), ops.concatenate([key, places], axis=-1)

    def compute_output_spec(
        self, query: keras.KerasTensor, key: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Shapes as `call` gives them."""
        shape = (*query.shape[:-1], self.head_dim + self.places.shape[-1])
        return tuple(keras.KerasTensor(shape, x.dtype) for x in (query, key))

    def load_own_variables(self, store: dict) -> None:
        """Reads both tables, resized to this layer's grid."""
        tables = (self.row_table, self.column_table)
        for number, (table, side) in enumerate(zip(tables, self.grid, strict=True)):
            table.assign(resize_offset_table(np.array(store[str(number)]), side))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "grid": self.grid, "head_dim": self.head_dim}
