"""Everything that differs between JAX, torch and TensorFlow, and nothing else.

The rest of mimzoo speaks `keras.ops`. What stands here is here because the general operation is
wrong or slow on one of the three; each function says which.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
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


class Constant:
    """An array that follows from a model's shape: made once, saved nowhere.

    Compiled backends fold it into their program. torch would copy it to the device in each step,
    so there the tensor is kept, one for each device.
    """

    def __init__(self, array: np.ndarray):
        self.array = array
        self._kept: dict = {}

    def __call__(self, like: Tensor) -> Tensor:
        """The array as a tensor of its own dtype, on the device of `like`."""
        if keras.config.backend() != "torch":
            return ops.convert_to_tensor(self.array)
        if like.device not in self._kept:
            import torch

            self._kept[like.device] = torch.tensor(self.array, device=like.device)
        return self._kept[like.device]

    def __getstate__(self) -> dict:
        return {"array": self.array, "_kept": {}}

    def __deepcopy__(self, memo: dict) -> "Constant":
        return Constant(self.array)


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
        import torch.nn.functional as F

        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    if backend == "jax" and not terms and len(query.shape) == 4 and not _on_cpu():
        import jax

        out = jax.nn.dot_product_attention(
            *(x.swapaxes(1, 2) for x in (query, key, value)), scale=scale
        )
        return out.swapaxes(1, 2)
    if scale != 1.0:
        query = query * scale
    if backend == "jax" and _on_cpu():
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
        weights = F.threshold(weights, 1e-37, 0.0)
    return ops.matmul(ops.cast(weights, value.dtype), value)


def _on_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"


@functools.cache
def _cpu_attention() -> Callable[..., Tensor]:
    """Attention of JAX on CPUs, with a backward pass that XLA would not find.

    Divides by the softmax's sum after the product with the values, keeps no logits but makes them
    again, and sums the gradient of the bias by a product with ones: XLA adds up 64 windows column
    by column, forty times slower.
    """
    import jax
    import jax.numpy as jnp

    def logits_of(query: Tensor, key: Tensor, bias: Tensor, masks: Sequence[Tensor]) -> Tensor:
        logits = jnp.matmul(query, key.swapaxes(-1, -2)).astype("float32")
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
        out = (jnp.matmul(weights.astype(value.dtype), value) / total).astype(value.dtype)
        return out, (query, key, value, bias, masks, top + jnp.log(total), out)

    def backward(kept: tuple, gradient: Tensor) -> tuple:
        query, key, value, bias, masks, norm, out = kept
        weights = jnp.exp(logits_of(query, key, bias, masks) - norm)
        mean = (gradient.astype("float32") * out).sum(-1, keepdims=True)
        to_value = jnp.matmul(weights.swapaxes(-1, -2).astype(gradient.dtype), gradient)
        to_logits = jnp.matmul(gradient, value.swapaxes(-1, -2)).astype("float32")
        to_logits = (to_logits - mean) * weights
        to_bias = None if bias is None else _sum_to(to_logits, bias).astype(bias.dtype)
        to_logits = to_logits.astype(query.dtype)
        to_query = jnp.matmul(to_logits, key)
        to_key = jnp.matmul(to_logits.swapaxes(-1, -2), query)
        return to_query, to_key, to_value, to_bias, None

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


def unit(x: Tensor) -> Tensor:
    """Vectors of the last axis at length 1, in float32; those shorter than 1e-12 stay shorter."""
    x = ops.cast(x, "float32")
    if keras.config.backend() == "torch":
        import torch.nn.functional as F

        return F.normalize(x, dim=-1, eps=1e-12)
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, 1e-24))


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


# (number, count): which of so many equal parts of each batch this process computes. Only torch
# needs it: JAX computes on the whole batch, wherever its rows lie, and TensorFlow tells.
_PART = [0, 1]


def set_part(number: int, count: int) -> None:
    """Tells that this process computes the part `number` of `count` of each batch."""
    _PART[:] = number, count


def uniform_rows(shape: tuple, seed: keras.random.SeedGenerator) -> Tensor:
    """Uniform numbers in [0, 1) for the rows of a batch, of any distribution over devices.

    Each device draws for the whole batch and keeps its rows, so that a run draws the same numbers
    on one device and on many.
    """
    backend, (number, count) = keras.config.backend(), _PART
    if backend == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            number, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    if count == 1:
        return keras.random.uniform(shape, seed=seed)
    rows = shape[0]
    drawn = keras.random.uniform((rows * count, *shape[1:]), seed=seed)
    return drawn[number * rows : (number + 1) * rows]


def share_of_replica(loss: Tensor) -> Tensor:
    """A mean over this replica's rows, so scaled that the sum over replicas is the mean over all.

    `tf.distribute` adds up gradients, as Keras' own losses expect; elsewhere the loss stays.
    """
    if keras.config.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync


def no_gradient() -> AbstractContextManager:
    """Where nothing is recorded for a backward pass.

    torch would keep a graph, and every activation in it, up to a `stop_gradient` that comes after.
    JAX and TensorFlow need the `stop_gradient` only.
    """
    if keras.config.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()


def fuse_adam(optimizer: keras.optimizers.Adam) -> None:
    """Lets a new Adam or AdamW step in one pass over the weights, on torch's CPU.

    Keras' own step there makes a dozen passes, a seventh of a small model's training. What is
    computed is the same. Other devices and backends keep Keras' step.
    """
    if keras.config.backend() != "torch" or optimizer.amsgrad:
        return
    import torch
    from torch.optim.adamw import adamw

    usual = optimizer._parallel_update_step

    def step(grads: list, variables: list, learning_rate: Any) -> None:
        weights = [v.value for v in variables]
        if any(w.device.type != "cpu" or w.dtype != torch.float32 for w in weights):
            usual(grads, variables, learning_rate)
            return
        done = float(optimizer.iterations)  # with gradient accumulation it is a tensor
        slots = [optimizer._get_variable_index(v) for v in variables]
        adamw(
            weights,
            grads,
            [optimizer._momentums[i].value for i in slots],
            [optimizer._velocities[i].value for i in slots],
            [],
            [torch.tensor(done) for _ in slots],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            lr=float(learning_rate),
            weight_decay=0.0,  # Keras decays apart
            # Keras adds epsilon before the correction of the second moment, torch after it.
            eps=optimizer.epsilon / (1 - optimizer.beta_2 ** (done + 1)) ** 0.5,
        )

    optimizer._parallel_update_step = step
