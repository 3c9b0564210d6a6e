"""Attention biases that depend on the offset between two tokens of a grid."""

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor, add_constant, relative_to_absolute
from mimzoo.layers.resize import resize_relative_table


def offsets_to_pairs(table: Tensor) -> Tensor:
    """(2 rows - 1, 2 cols - 1, heads), by offset -> (heads, T, T), by pair of the T tokens.

    Entry [i, j] is that of offset i - j.
    """
    for axis in (0, 2):  # the second time rows have become two axes
        table = relative_to_absolute(table, axis)
    # (rows i, rows j, cols i, cols j, heads)
    rows, _, cols, _, heads = table.shape
    table = ops.transpose(table, (4, 0, 2, 1, 3))
    return ops.reshape(table, (heads, rows * cols, rows * cols))


@keras.saving.register_keras_serializable(package="mimzoo")
class RelativePositionBias(keras.layers.Layer):
    """Learned attention bias: one number a head for each offset.

    As in Swin, BEiT and SimMIM's ViT (models/vision_transformer.py): (2 rows - 1)(2 cols - 1)
    offsets and, with a class token, three more: class to token, token to class, class to class.
    Resized on load by `resize_relative_table`.

    Args:
        grid: rows and columns of tokens.
        num_heads: heads of the attention it is added to.
        class_token: whether a class token stands in front.
        initializer: of the table: zeros as in SimMIM's ViT; Swin draws it.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        num_heads: int,
        class_token: bool = False,
        initializer: str | dict = "zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.num_heads = num_heads
        self.class_token = class_token
        self.initializer = initializer

    def build(self, input_shape: tuple | None = None) -> None:
        """Creates the table."""
        rows, cols = self.grid
        self.table = self.add_weight(
            name="table",
            shape=(2 * rows - 1, 2 * cols - 1, self.num_heads),
            initializer=self.initializer,
        )
        if self.class_token:
            self.class_table = self.add_weight(
                name="class_table", shape=(3, self.num_heads), initializer="zeros"
            )
        self.built = True

    def call(self, tokens: Tensor, index: Tensor | None = None) -> Tensor:
        """The bias of attention among `tokens`.

        Args:
            tokens: (B, T, D); not read.
            index: (B, K) integers, the places of the tokens on the grid, without the class token.

        Returns:
            (1, heads, T, T), or (B, heads, T, T) where `index` is given.
        """
        bias = offsets_to_pairs(ops.convert_to_tensor(self.table))
        if self.class_token:
            count = bias.shape[-1]
            to_token, to_class, own = ops.unstack(ops.convert_to_tensor(self.class_table), 3)
            column = ops.broadcast_to(to_class[:, None, None], (self.num_heads, count, 1))
            row = ops.broadcast_to(to_token[:, None, None], (self.num_heads, 1, count))
            row = ops.concatenate([own[:, None, None], row], axis=2)
            bias = ops.concatenate([row, ops.concatenate([column, bias], axis=2)], axis=1)
        if index is None:
            return bias[None]
        if self.class_token:
            index = ops.pad(index + 1, ((0, 0), (1, 0)))
        total = bias.shape[-1]
        pairs = index[:, :, None] * total + index[:, None, :]
        flat = ops.reshape(ops.transpose(bias, (1, 2, 0)), (-1, self.num_heads))
        return ops.transpose(ops.take(flat, pairs, axis=0), (0, 3, 1, 2))

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
            "initializer": self.initializer,
        }


def log_offsets(window_size: int, pretrained_window_size: int = 0) -> np.ndarray:
    """(2w - 1, 2w - 1, 2) float32: log-spaced offsets between tokens of a window of side w.

    sign(x) log2(|x| + 1) / log2(8) of x = 8 offset / (p - 1), where p is the window that the bias
    was pretrained with, or w (Swin V2, arXiv 2111.09883 section 3.3; models/swin_transformer_v2.py,
    `WindowAttention`).
    """
    offset = np.arange(1 - window_size, window_size, dtype="float32")
    # A window of one token has the offset 0 only.
    x = offset / max((pretrained_window_size or window_size) - 1, 1) * 8
    x = np.sign(x) * np.log2(np.abs(x) + 1) / np.log2(8)
    return np.stack(np.meshgrid(x, x, indexing="ij"), -1).astype("float32")


@keras.saving.register_keras_serializable(package="mimzoo")
class ContinuousPositionBias(keras.layers.Layer):
    """Swin V2's bias: a small network from the log-spaced offset to one number a head.

    16 sigmoid(mlp(offset)), mlp: 2 -> 512, ReLU, -> heads without bias. It needs no resizing: at
    another window the same network reads other offsets.

    Args:
        window_size: side of a window.
        num_heads: heads of the attention it is added to.
        pretrained_window_size: side at which the network was trained; 0: this one.
        hidden_dim: width of the network.
    """

    def __init__(
        self,
        window_size: int,
        num_heads: int,
        pretrained_window_size: int = 0,
        hidden_dim: int = 512,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.window_size = window_size
        self.num_heads = num_heads
        self.pretrained_window_size = pretrained_window_size
        self.hidden_dim = hidden_dim
        add_constant(self, "offsets", log_offsets(window_size, pretrained_window_size))

    def build(self, input_shape: tuple | None = None) -> None:
        """Creates the network."""
        normal = keras.initializers.RandomNormal
        self.kernel1 = self.add_weight(
            name="kernel1", shape=(2, self.hidden_dim), initializer=normal(stddev=0.02)
        )
        self.bias1 = self.add_weight(name="bias1", shape=(self.hidden_dim,), initializer="zeros")
        self.kernel2 = self.add_weight(
            name="kernel2", shape=(self.hidden_dim, self.num_heads), initializer=normal(stddev=0.02)
        )
        self.built = True

    def call(self, tokens: Tensor) -> Tensor:
        """The bias (1, heads, T, T) float32 of attention among the T tokens of a window.

        Args:
            tokens: not read.
        """
        kernel1, bias1, kernel2 = (
            ops.cast(w, "float32") for w in (self.kernel1, self.bias1, self.kernel2)
        )
        hidden = ops.relu(ops.matmul(ops.convert_to_tensor(self.offsets), kernel1) + bias1)
        table = ops.matmul(hidden, kernel2)
        # The sigmoid comes last: XLA would fuse anything cheaper into every window's sum.
        return 16 * ops.sigmoid(offsets_to_pairs(table))[None]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "window_size": self.window_size,
            "num_heads": self.num_heads,
            "pretrained_window_size": self.pretrained_window_size,
            "hidden_dim": self.hidden_dim,
        }
