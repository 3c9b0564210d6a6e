"""Everything that differs between JAX, torch and TensorFlow, and nothing else.

The rest of mimzoo speaks `keras.ops`. What stands here is here because the general operation is
wrong or slow on one of the three; each function says which.
"""

from mimzoo.backend.attention import attention
from mimzoo.backend.constant import Constant, Tensor, add_constant
from mimzoo.backend.graphs import Graphs, active_graphs
from mimzoo.backend.interrupts import keep_weights
from mimzoo.backend.operations import (
    exact_matmul,
    gather_tokens,
    gelu,
    inverse_length,
    relative_to_absolute,
)
from mimzoo.backend.recompute import check_remat, recomputed
from mimzoo.backend.sending import sender
from mimzoo.backend.step_graph import StepGraph
from mimzoo.backend.tracing import is_tensorflow_symbol, is_traced
from mimzoo.backend.training import (
    TorchParameters,
    draw_rows,
    fuse_adam,
    no_gradient,
    set_part,
    share_of_replica,
    uniform_rows,
)

__all__ = [
    "Constant",
    "Graphs",
    "StepGraph",
    "Tensor",
    "TorchParameters",
    "active_graphs",
    "add_constant",
    "attention",
    "check_remat",
    "draw_rows",
    "exact_matmul",
    "fuse_adam",
    "gather_tokens",
    "gelu",
    "inverse_length",
    "is_tensorflow_symbol",
    "is_traced",
    "keep_weights",
    "no_gradient",
    "recomputed",
    "relative_to_absolute",
    "sender",
    "set_part",
    "share_of_replica",
    "uniform_rows",
]
