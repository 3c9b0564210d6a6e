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

    On GPUs fused kernels hold no logits: torch's with bias and masks in the dtype of `value`,
    cuDNN's on JAX where there are none.

    Args:
        query, key, value: (..., heads, T, head_dim); that of `value` may differ from the others'.
        bias: added to the scaled logits; broadcastable to (..., heads, T, T).
        scale: of the logits; default head_dim ** -0.5.
        masks: added after the bias, each broadcastable in its own way.

    Returns:
        (..., heads, T, head_dim of `value`), in the dtype of `value`.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    terms = [*([] if bias is None else [bias]), *masks]
    backend = keras.config.backend()
    # On CPUs torch's kernel with a term is slower than products and a softmax.
    if backend == "torch" and (not terms or query.device.type == "cuda"):
        return torch_attention(query, key, value, terms, scale)
    alike = query.shape[-1] == value.shape[-1] and len(query.shape) == 4
    if backend == "jax" and not terms and alike and _has_cudnn(query):
        return jax_attention(query, key, value, scale, "cudnn")
    query = query if scale == 1.0 else query * scale
    logits = ops.matmul(query, ops.swapaxes(key, -1, -2))
    logits = ops.cast(logits, "float32")
    for term in terms:
        logits = logits + ops.cast(term, "float32")
    return ops.matmul(ops.cast(ops.softmax(logits), value.dtype), value)


def torch_attention(
    query: Tensor, key: Tensor, value: Tensor, terms: Sequence[Tensor], scale: float
) -> Tensor:
    """`scaled_dot_product_attention`; see `attention`."""
    import torch.nn.functional as F

    if not terms:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    mask = sum(terms[1:], terms[0]).to(value.dtype)
    shape = value.shape
    if len(shape) == 5:
        # Kernels take four axes. Windows that differ in their terms become heads, so that terms
        # which all examples share stay as small as they are.
        mask = mask.reshape((1,) * (5 - mask.ndim) + mask.shape)
        batch, windows, heads, *rest = shape
        if mask.shape[:2] == (1, 1):
            sizes, mask = (batch * windows, heads), mask[0]
        else:
            sizes = (batch, windows * heads)
            mask = mask.expand(-1, windows, heads, -1, -1).flatten(1, 2)
        query, key, value = (x.reshape(*sizes, *rest) for x in (query, key, value))
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return out.reshape(shape)


def jax_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, implementation: str
) -> Tensor:
    """`jax.nn.dot_product_attention` of (B, heads, T, head_dim); see `attention`.

    Args:
        implementation: "cudnn", which trains with even T only, so T is padded; or "xla".
    """
    import jax
    import jax.numpy as jnp

    batch, _, length, _ = query.shape
    more = {}
    if length % 2:
        query, key, value = (
            jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0))) for x in (query, key, value)
        )
        lengths = jnp.full((batch,), length, "int32")
        more = {"query_seq_lengths": lengths, "key_value_seq_lengths": lengths}
    out = jax.nn.dot_product_attention(
        *(jnp.swapaxes(x, 1, 2) for x in (query, key, value)),
        scale=scale,
        implementation=implementation,
        **more,
    )
    return jnp.swapaxes(out, 1, 2)[:, :, :length]


def _has_cudnn(query: Tensor) -> bool:
    """Whether cuDNN's kernels take such queries: half precision, on an NVIDIA GPU from Ampere on.

    Their heads have a multiple of 8 channels, at most 128.
    """
    import jax

    fits = str(query.dtype) in ("bfloat16", "float16") and query.shape[-1] in range(8, 129, 8)
    if not fits or jax.default_backend() != "gpu":
        return False
    return float(getattr(jax.local_devices()[0], "compute_capability", 0)) >= 8.0
