"""What differs in training: parameters, shares of a batch, gradients, optimizers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.backend.constant import Constant, Tensor
from mimzoo.backend.tracing import in_stateless_scope

_KEY = "variable_"


class TorchParameters:
    """Mixin of models whose `parameters()`, on torch, has to list every weight.

    Keras' own list is empty for a model that sets attributes before `super().__init__()`, as
    KerasHub's do, and leaves out one of two variables with the same path. Keras' training step
    clears gradients by that list: what is missing there adds up its gradients over all steps.
    """

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """The torch parameters of all variables."""
        import torch

        values = (variable.value for variable in self.variables)
        return (value for value in values if isinstance(value, torch.nn.Parameter))

    def state_dict(self, *args: Any, prefix: str = "", keep_vars: bool = False, **kwargs) -> dict:
        """torch's, and every variable by its number: paths repeat."""
        found = super().state_dict(*args, prefix=prefix, keep_vars=keep_vars, **kwargs)
        for number, variable in enumerate(self.variables):
            value = variable.value
            found[f"{prefix}{_KEY}{number}"] = value if keep_vars else value.detach()
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs) -> Any:
        """Puts back what `state_dict` gave.

        Raises:
            ValueError: it is of another model.
        """
        given = {name: value for name, value in state_dict.items() if name.startswith(_KEY)}
        wanted = {f"{_KEY}{n}": variable for n, variable in enumerate(self.variables)}
        if {n: tuple(v.shape) for n, v in given.items()} != {
            n: tuple(v.shape) for n, v in wanted.items()
        }:
            raise ValueError("this state_dict is of another model, or not of mimzoo's.")
        for name, variable in wanted.items():
            variable.assign(given[name])
        # Models in this one have their own numbers, of the same variables.
        rest = {name: v for name, v in state_dict.items() if _KEY not in name.rpartition(".")[2]}
        return super().load_state_dict(rest, *args, **kwargs)


# (number, count): which of so many equal parts of each batch this process computes. Only torch
# needs it: JAX computes on the whole batch, wherever its rows lie; TensorFlow knows its replica.
_PART = [0, 1]


def set_part(number: int, count: int) -> None:
    """Makes this process compute the part `number` of `count` of each batch."""
    _PART[:] = number, count


def uniform_rows(shape: tuple, seed: keras.random.SeedGenerator) -> Tensor:
    """Uniform numbers in [0, 1) for the rows of a batch, of any distribution over devices.

    Each device draws for the whole batch and keeps its rows, so that a run draws the same numbers
    on one device and on many.
    """
    rows, *rest = shape
    if keras.config.backend() == "torch":
        drawn = draw_rows([seed], rows, math.prod(rest))[0]
        return ops.reshape(ops.transpose(drawn), shape)
    number, count = 0, 1
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            number, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    if count == 1:
        return keras.random.uniform(shape, seed=seed)
    drawn = keras.random.uniform((rows * count, *rest), seed=seed)
    return drawn[number * rows : (number + 1) * rows]


def draw_rows(seeds: Sequence[keras.random.SeedGenerator], rows: int, count: int) -> Tensor:
    """torch: uniform numbers in [0, 1), `count` for each row of a batch and each generator.

    Keras would read each generator's state from the device. These are hashes of state, number and
    row, computed on the device, and as in `uniform_rows` the same on one device and on many.

    Args:
        seeds: generators; each advances by one.
        rows: of this process.
        count: numbers for each.

    Returns:
        (generators, count, rows) float32, multiples of 2^-24.
    """
    import torch

    states = [seed.state.value for seed in seeds]
    with torch.no_grad():
        state = torch.stack(states).to(torch.int64)
        torch._foreach_add_([s[1] for s in states], 1)
        device, first = state.device, _PART[0] * rows
        row = torch.arange(first, first + rows, device=device)
        number = torch.arange(count, device=device)[:, None]
        bits = _hash(state[:, 0] * 0x9E3779B1 + state[:, 1])[:, None, None]
        bits = _hash(_hash(bits + number) + row)
        return (bits >> 8).to(torch.float32) * 2.0**-24


def _hash(x: Tensor) -> Tensor:
    """32 bits of each int64, mixed: `lowbias32` of Wellons' hash-prospector."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


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
    """Lets a new Adam or AdamW on torch step in one pass, and let go of gradients after it.

    Keras' own step makes a dozen passes over weights and moments. What is computed is the same.
    Nothing is read from the device: rates stay tensors. Other backends keep Keras' step. And Keras
    would hold the gradients, as much as the weights, until the next forward pass has filled memory.
    """
    if keras.config.backend() != "torch" or optimizer.amsgrad:
        return
    import torch
    from torch.optim.adamw import adamw

    usual = optimizer._parallel_update_step
    many = Constant(np.float32(1e9))

    def step(grads: list, variables: list, learning_rate: Any) -> None:
        for variable in variables:
            variable._value.grad = None  # whoever called holds `grads` until the step is over
        weights = [v._value for v in variables]
        if in_stateless_scope() or any(w.dtype != torch.float32 for w in weights):
            usual(grads, variables, learning_rate)
            return
        # torch adds epsilon after the correction of the moments, Keras before it. So both are
        # corrected by the rate, as in Keras, and torch sees moments of so many steps that it
        # corrects nothing.
        done = ops.cast(optimizer.iterations, "float32") + 1
        unbias = (1 - optimizer.beta_2**done) ** 0.5 / (1 - optimizer.beta_1**done)
        slots = [optimizer._get_variable_index(v) for v in variables]
        adamw(
            weights,
            grads,
            [optimizer._momentums[i]._value for i in slots],
            [optimizer._velocities[i]._value for i in slots],
            [],
            [many(weights[0])] * len(slots),
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            lr=learning_rate * unbias,
            weight_decay=0.0,  # Keras decays apart
            eps=optimizer.epsilon,
        )

    optimizer._parallel_update_step = step
