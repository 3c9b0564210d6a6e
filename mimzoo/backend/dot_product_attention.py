"""Dot-product attention: the product that each backend does best."""

import functools
import math
from collections.abc import Callable, Sequence

import keras
from keras import ops

from mimzoo.backend.constant import Tensor
from mimzoo.backend.operations import on_jax_cpu


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
    backend = keras.config.backend()
    terms = [*([] if bias is None else [bias]), *masks]
    if backend == "torch" and not terms:
        return _torch_attention(query, key, value, scale)
    if backend == "jax" and not terms and len(query.shape) == 4 and not on_jax_cpu():
        import jax

        out = jax.nn.dot_product_attention(
            *(x.swapaxes(1, 2) for x in (query, key, value)), scale=scale
        )
        return out.swapaxes(1, 2)
    if scale != 1.0:
        query = query * scale
    if backend == "jax" and on_jax_cpu():
        return _cpu_attention()(query, key, value, bias, tuple(masks))
    logits = ops.cast(ops.matmul(query, ops.swapaxes(key, -1, -2)), "float32")
    for term in terms:
        term = ops.cast(term, "float32")
        # The logits are the greatest tensor of a step: torch adds in place, the others fuse.
        logits = logits.add_(term) if backend == "torch" else logits + term
    weights = ops.softmax(logits)
    if masks and backend == "torch" and weights.device.type == "cpu":
        import torch.nn.functional as F

        # Swin's -100 leaves exp(-100), too small for a normal number: CPUs multiply those many
        # times slower, unless they are told to take them for zero, as TensorFlow and XLA do.
        # In place, past autograd: the softmax's gradient of a weight that is zero is zero.
        F.threshold_(weights.data, 1e-37, 0.0)
    return ops.matmul(ops.cast(weights, value.dtype), value)


def _torch_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Torch's fused attention, but where its gradient is slower than what it fuses."""
    import torch
    import torch.nn.functional as F

    half = query.dtype == torch.bfloat16
    if half and query.device.type == "cpu" and query.requires_grad and torch.is_grad_enabled():
        # Torch's fused gradient on CPUs passes the matrix units by: two to twelve times slower.
        # The softmax of bfloat16 adds up in float32.
        logits = torch.matmul(query * scale, key.transpose(-1, -2))
        return torch.matmul(torch.softmax(logits, -1), value)
    return F.scaled_dot_product_attention(query, key, value, scale=scale)


@functools.cache
def _cpu_attention() -> Callable[..., Tensor]:
    """Attention of JAX on CPUs, with a backward pass that XLA would not find.

    Divides by the softmax's sum after the product with the values, keeps no logits but makes them
    again, and sums the gradient of the bias by a product with ones: XLA adds up 64 windows column
    by column, forty times slower.
    """
    import jax
    import jax.numpy as jnp

    # With a float32 result XLA multiplies bfloat16 in matrix units; without, five times slower.
    multiply = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)

    def logits_of(query: Tensor, key: Tensor, bias: Tensor, masks: Sequence[Tensor]) -> Tensor:
        logits = multiply(query, key.swapaxes(-1, -2))
        for term in (bias, *masks):
            logits = logits if term is None else logits + term.astype("float32")
        return logits

    def forward(
        query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, masks: Sequence[Tensor]
    ) -> tuple:
        logits = logits_of(query, key, bias, masks)
        top = logits.max(-1, keepdims=True)
        weights = jnp.exp(logits - top)
        total = weights.sum(-1, keepdims=True)
        out = (multiply(weights.astype(value.dtype), value) / total).astype(value.dtype)
        return out, (query, key, value, bias, masks, top + jnp.log(total), out)

    def backward(kept: tuple, gradient: Tensor) -> tuple:
        query, key, value, bias, masks, norm, out = kept
        weights = jnp.exp(logits_of(query, key, bias, masks) - norm)
        mean = (gradient.astype("float32") * out).sum(-1, keepdims=True)
        to_value = multiply(weights.swapaxes(-1, -2).astype(gradient.dtype), gradient)
        to_logits = multiply(gradient, value.swapaxes(-1, -2))
        to_logits = (to_logits - mean) * weights
        to_bias = None if bias is None else _sum_to(to_logits, bias).astype(bias.dtype)
        to_logits = to_logits.astype(query.dtype)
        to_query = multiply(to_logits, key)
        to_key = multiply(to_logits.swapaxes(-1, -2), query)
        to_inputs = (to_query, to_key, to_value)
        return *(x.astype(query.dtype) for x in to_inputs), to_bias, None

    def attend(
        query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, masks: Sequence[Tensor]
    ) -> Tensor:
        return forward(query, key, value, bias, masks)[0]

    attend = jax.custom_vjp(attend)
    attend.defvjp(forward, backward)
    return attend


def _sum_to(x: Tensor, like: Tensor) -> Tensor:
    """The sum of x over the axes along which `like` was repeated; JAX only."""
    import jax.numpy as jnp

    shape = (1,) * (len(x.shape) - len(like.shape)) + tuple(like.shape)
    lead = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    if shape[lead:] == tuple(x.shape[lead:]):
        rows = math.prod(x.shape[:lead])
        summed = jnp.matmul(jnp.ones((1, rows), x.dtype), jnp.reshape(x, (rows, -1)))
    else:
        axes = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
        summed = x.sum(axes)
    return jnp.reshape(summed, like.shape)
