"""Operations whose general form is wrong or slow on a backend."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from mimzoo.backend import onednn
from mimzoo.backend.constant import Tensor


def unit(x: Tensor) -> Tensor:
    """Vectors of the last axis at length 1, in float32; those shorter than 1e-12 stay shorter."""
    x = ops.cast(x, "float32")
    if keras.config.backend() == "torch":
        return _torch_unit()(x)
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, 1e-24))


@functools.cache
def _torch_unit() -> Callable[[Tensor], Tensor]:
    """Lengths of 1 in torch, with the gradient in two passes where autograd takes six."""
    import torch

    class Unit(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(1e-12)
            y = x * inverse.reciprocal_()
            ctx.save_for_backward(y, inverse)
            return y

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            y, inverse = ctx.saved_tensors
            along = torch.einsum("...d,...d->...", gradient, y)[..., None]
            return torch.addcmul(gradient, y, along, value=-1).mul_(inverse)

    return Unit.apply


def skew(table: Tensor, axis: int) -> Tensor:
    """Axis of 2n - 1 offsets -> two axes (n, n), [i, j] = table[i - j + n - 1].

    torch has windows that move along an axis, and their gradient.
    """
    before, length, after = table.shape[:axis], table.shape[axis], table.shape[axis + 1 :]
    side = (length + 1) // 2
    if side == 1:
        return ops.expand_dims(table, axis)
    if keras.config.backend() == "torch":
        # Window k of the flipped table begins at the offset n - 1 - k.
        windows = table.flip(axis).unfold(axis, side, 1).flip(axis)
        return windows.movedim(-1, axis + 1)
    # Each of n copies, one longer than the table, is read one further to the left.
    copies = ops.flip(table, axis)
    copies = ops.expand_dims(copies, axis)
    copies = ops.broadcast_to(copies, (*before, side, length, *after))
    pad = [(0, 0)] * len(copies.shape)
    pad[axis + 1] = (0, 1)
    flat = ops.reshape(ops.pad(copies, pad), (*before, side * (length + 1), *after))
    start = (slice(None),) * axis
    # Row i of the result begins at n - 1 - i of the flipped table.
    flat = flat[(*start, slice(side - 1, side - 1 + side * length))]
    return ops.reshape(flat, (*before, side, length, *after))[(*start, slice(None), slice(0, side))]


def exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in float32 throughout.

    By default JAX lets TPUs multiply float32 numbers as bfloat16.
    """
    if keras.config.backend() != "jax":
        return ops.matmul(a, b)
    import jax.numpy as jnp

    return jnp.matmul(a, b, precision="highest")


def linear(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """x @ kernel + bias over the last axis: (..., D) -> (..., E).

    torch adds the bias inside the product instead of in a pass of its own. XLA and TensorFlow get
    two-dimensional products: the gradient of the kernel is then one product, too.
    """
    backend = keras.config.backend()
    if backend == "torch":
        import torch.nn.functional as F

        if onednn.suits(x, kernel):
            return onednn.multiply(x, kernel, bias)
        return F.linear(x, kernel.t(), bias)
    shape = (-1, *x.shape[1:-1], kernel.shape[-1])
    x = ops.reshape(x, (-1, x.shape[-1]))
    if backend == "jax" and x.dtype == "bfloat16" and on_jax_cpu():
        return ops.reshape(_jax_cpu_linear()(x, kernel, bias), shape)
    y = ops.matmul(x, kernel)
    if bias is not None:
        y = y + bias
    return ops.reshape(y, shape)


def on_jax_cpu() -> bool:
    """Whether JAX, which is the backend, computes on CPUs."""
    import jax

    return jax.default_backend() == "cpu"


@functools.cache
def _jax_cpu_linear() -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """`linear` of two bfloat16 matrices for XLA on CPUs.

    XLA multiplies in matrix units, five times as fast, only where the result is float32 and the
    first matrix is not transposed.
    """
    import jax
    import jax.numpy as jnp

    def multiply(a: Tensor, b: Tensor, axis: int = 0) -> Tensor:
        dims = (((1,), (axis,)), ((), ()))
        return jax.lax.dot_general(a, b, dims, preferred_element_type=jnp.float32)

    def forward(x: Tensor, kernel: Tensor, bias: Tensor | None) -> tuple:
        y = multiply(x, kernel)
        y = y if bias is None else y + bias.astype(y.dtype)
        return y.astype(x.dtype), (x, kernel, bias)

    def backward(kept: tuple, gradient: Tensor) -> tuple:
        x, kernel, bias = kept
        to_x = multiply(gradient, kernel, 1).astype(x.dtype)
        # The row of ones adds up the gradient of the bias; with it, XLA cannot fold `x.T` back.
        turned = jnp.concatenate([x.T, jnp.ones((1, len(x)), x.dtype)])
        to_both = multiply(turned, gradient)
        to_bias = None if bias is None else to_both[-1].astype(bias.dtype)
        return to_x, to_both[:-1].astype(kernel.dtype), to_bias

    @jax.custom_vjp
    def linear(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return forward(x, kernel, bias)[0]

    linear.defvjp(forward, backward)
    return linear


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution's cumulative function: the exact GELU, in any shape.

    JAX's own takes the complementary error function, which XLA's CPU computes with an exponential
    and two branches; plain erf is one rational function.
    """
    if keras.config.backend() != "jax":
        return keras.activations.gelu(x, approximate=False)
    return _jax_gelu()(x)


@functools.cache
def _jax_gelu() -> Callable[[Tensor], Tensor]:
    """GELU in JAX that keeps its input alone for the backward pass.

    Else the error function and the exponential of its derivative are kept, too.
    """
    import jax
    import jax.numpy as jnp

    def cumulative(x: Tensor) -> Tensor:
        return 0.5 * (1.0 + jax.lax.erf(x * 0.7071067811865476))

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return x * cumulative(x), x

    def backward(x: Tensor, gradient: Tensor) -> tuple[Tensor]:
        # Behind the barrier XLA does not see that the forward pass computed some of this.
        x = jax.lax.optimization_barrier(x)
        density = 0.3989422804014327 * jnp.exp(-0.5 * jnp.square(x))
        return (gradient * (cumulative(x) + x * density),)

    result = jax.custom_vjp(lambda x: forward(x)[0])
    result.defvjp(forward, backward)
    return result


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
