"""Everything that differs between JAX, torch and TensorFlow, and nothing else.

The rest of mimzoo speaks `keras.ops`. What stands here is here because the general operation is
wrong or slow on one of the three; each function says which.
"""

from mimzoo.backend.constant import Constant, Tensor
from mimzoo.backend.dot_product_attention import attention
from mimzoo.backend.operations import exact_matmul, gather_tokens, gelu, linear, skew, unit
from mimzoo.backend.tracing import is_tensorflow_symbol, is_traced
from mimzoo.backend.training import (
    TorchParameters,
    fuse_adam,
    needs_call_only,
    no_gradient,
    set_part,
    share_of_replica,
    uniform_rows,
)
from mimzoo.backend.weights import blank, load_variable

__all__ = [
    "Constant",
    "Tensor",
    "TorchParameters",
    "attention",
    "blank",
    "exact_matmul",
    "fuse_adam",
    "gather_tokens",
    "gelu",
    "is_tensorflow_symbol",
    "is_traced",
    "linear",
    "load_variable",
    "needs_call_only",
    "no_gradient",
    "set_part",
    "share_of_replica",
    "skew",
    "uniform_rows",
    "unit",
]
