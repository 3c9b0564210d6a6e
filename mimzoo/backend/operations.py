"""Operations whose general form is wrong or slow on a backend."""

import functools
import math
from collections.abc import Callable

import keras
from keras import ops

from mimzoo.backend.constant import Tensor


def inverse_length(x: Tensor) -> Tensor:
    """One over the length of the vectors of the last axis, which stays: (..., D) -> (..., 1).

    In the dtype of `x`, which should be float32. It is 0 for vectors shorter than 1e-12: padding
    tokens are zeros, whose gradient `keras.ops.normalize` makes no number, and
    `torch.nn.functional.normalize` so large that float16 does not hold it.
    """
    square = ops.sum(x * x, axis=-1, keepdims=True)
    return ops.where(square > 1e-24, ops.rsqrt(ops.maximum(square, 1e-24)), 0.0)


def relative_to_absolute(table: Tensor, axis: int) -> Tensor:
    """Axis of 2n - 1 offsets -> two axes (n, n), [i, j] = table[i - j + n - 1].

    Copies and slices instead of a gather, whose gradient would be a scatter of single numbers.
    """
    before, length, after = table.shape[:axis], table.shape[axis], table.shape[axis + 1 :]
    side = (length + 1) // 2
    if side == 1:
        return ops.expand_dims(table, axis)
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


def gelu(x: Tensor) -> Tensor:
    """The exact GELU, with erf.

    For the backward pass JAX would keep more than its input, which is a block's widest tensor, and
    in bfloat16 round each of a dozen steps.
    """
    if keras.config.backend() != "jax":
        return keras.activations.gelu(x, approximate=False)
    return _jax_gelu()(x)


@functools.cache
def _jax_gelu() -> Callable[[Tensor], Tensor]:
    import jax
    import jax.numpy as jnp

    # GELU's kernels of a ViT-B took 8.0 ms a step on an H100 with erfc, as Keras has it, and 4.2
    # with erf (both while other processes used the GPU); but TensorFlow cannot read erf in an
    # exported model. So it stands in training alone.
    def below(x: Tensor) -> Tensor:
        return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        wide = x.astype("float32")
        return (wide * below(wide)).astype(x.dtype), x

    def backward(x: Tensor, gradient: Tensor) -> tuple[Tensor]:
        wide = x.astype("float32")
        density = jnp.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
        slope = below(wide) + wide * density
        return ((gradient.astype("float32") * slope).astype(x.dtype),)

    function = jax.custom_vjp(lambda x: keras.activations.gelu(x, approximate=False))
    function.defvjp(forward, backward)
    return function


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Row `index[b, k]` of example b: (B, N, D), (B, K) -> (B, K, D).

    `ops.take_along_axis` would index every single number, and its gradient scatter them one by
    one; these gather, and scatter, whole rows.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.vmap(lambda rows, i: rows.at[i].get(mode="promise_in_bounds"))(tokens, index)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.gather(tokens, index, batch_dims=1)
    return ops.take_along_axis(tokens, index[..., None], axis=1)
