"""Everything that differs between JAX, torch and TensorFlow, and nothing else.

The rest of mimzoo speaks `keras.ops`. What stands here is here because the general operation is
wrong or slow on one of the three; each function says which.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

Tensor = Any


class TorchParameters:
    """Mixin of models whose `parameters()`, on torch, has to list every weight.

    Keras' own list is empty for a model that sets attributes before `super().__init__()`, as
    KerasHub's do, and leaves out one of two variables with the same path. Keras' training step
    clears gradients by that list: what is missing there adds up its gradients over all steps.
    """

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """(name, torch parameter) of all variables; the arguments are torch's."""
        import torch

        dot = "." if prefix else ""
        for number, variable in enumerate(self.variables):
            if isinstance(variable.value, torch.nn.Parameter):
                yield f"{prefix}{dot}{number}.{variable.path}", variable.value


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, softmax in float32.

    Args:
        query, key, value: (B, heads, T, head_dim).
        bias: added to the scaled logits; broadcastable to (B, heads, T, T).

    Returns:
        (B, heads, T, head_dim), in the dtype of `value`.
    """
    if keras.config.backend() == "torch":
        import torch.nn.functional as F

        if bias is not None:
            bias = bias.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    if keras.config.backend() == "jax":
        import jax

        if jax.default_backend() != "cpu" and bias is None:
            out = jax.nn.dot_product_attention(*(x.swapaxes(1, 2) for x in (query, key, value)))
            return out.swapaxes(1, 2)
    logits = ops.matmul(query * query.shape[-1] ** -0.5, ops.swapaxes(key, -1, -2))
    logits = ops.cast(logits, "float32")
    if bias is not None:
        logits = logits + ops.cast(bias, "float32")
    return ops.matmul(ops.cast(ops.softmax(logits), value.dtype), value)


def linear(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """x @ kernel + bias over the last axis: (..., D) -> (..., E).

    torch adds the bias inside the product instead of in a pass of its own. XLA and TensorFlow get
    two-dimensional products: the gradient of the kernel is then one product, too.
    """
    if keras.config.backend() == "torch":
        import torch.nn.functional as F

        return F.linear(x, kernel.t(), bias)
    shape = (-1, *x.shape[1:-1], kernel.shape[-1])
    y = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    if bias is not None:
        y = y + bias
    return ops.reshape(y, shape)


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution's cumulative function: the exact GELU, in any shape.

    JAX's own takes the complementary error function, which XLA's CPU computes with an exponential
    and two branches; plain erf is one rational function.
    """
    if keras.config.backend() != "jax":
        return keras.activations.gelu(x, approximate=False)
    import jax

    return x * (0.5 * (1.0 + jax.lax.erf(x * 0.7071067811865476)))


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Row `index[b, k]` of example b: (B, N, D), (B, K) -> (B, K, D).

    `ops.take_along_axis` would index every single number, and its gradient scatter them one by
    one (on XLA's CPU a serial loop over B*K*D); these gather, and scatter, whole rows.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.vmap(lambda rows, i: rows.at[i].get(mode="promise_in_bounds"))(tokens, index)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.gather(tokens, index, batch_dims=1)
    return ops.take_along_axis(tokens, index[..., None], axis=1)
