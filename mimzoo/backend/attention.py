"""Dot-product attention."""

from collections.abc import Sequence

import keras
from keras import ops

from mimzoo.backend.constant import Tensor


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    scale: float | None = None,
    masks: Sequence[Tensor] = (),
) -> Tensor:
    """Dot-product attention, softmax in float32.

    Args:
        query, key, value: (..., heads, T, head_dim).
        bias: added to the scaled logits; broadcastable to (..., heads, T, T).
        scale: of the logits; default head_dim ** -0.5.
        masks: added after the bias, each broadcastable in its own way.

    Returns:
        (..., heads, T, head_dim), in the dtype of `value`.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    terms = [*([] if bias is None else [bias]), *masks]
    if keras.config.backend() == "torch" and not terms:
        import torch.nn.functional as F

        # The fused kernel holds no logits. It would take one term, but not without a copy for
        # each window, nor a trained one in the fastest kernels.
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    logits = ops.matmul(query * scale, ops.swapaxes(key, -1, -2))
    logits = ops.cast(logits, "float32")
    for term in terms:
        logits = logits + ops.cast(term, "float32")
    return ops.matmul(ops.cast(ops.softmax(logits), value.dtype), value)
