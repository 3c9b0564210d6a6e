"""Loss and gradients of a model, the same call on every backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


def forward(function: Callable, inputs: Any) -> np.ndarray:
    """`function(inputs)` as an array, compiled on JAX."""
    if keras.config.backend() == "jax":
        import jax

        # A function of its own: JAX would answer for a known one with the weights of then.
        return np.asarray(jax.jit(lambda x: function(x))(inputs))
    return ops.convert_to_numpy(function(inputs))


def value_and_gradients(
    function: Callable, model: keras.Model, inputs: np.ndarray
) -> tuple[float, np.ndarray, list[np.ndarray]]:
    """`function(model, inputs) -> scalar`: its value, gradient by inputs, by trainable weights."""
    loss, gx, gv, _ = value_gradients_and_more(lambda *x: (function(*x), ()), model, inputs)
    return loss, gx, gv


def value_gradients_and_more(
    function: Callable, model: keras.Model, inputs: np.ndarray
) -> tuple[float, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """The same of `function(model, inputs) -> (scalar, tensors)`, and the tensors: one program."""
    backend = keras.config.backend()
    if backend == "torch":
        import torch

        x = torch.tensor(inputs, requires_grad=True)
        variables = [v.value for v in model.trainable_variables]
        loss, more = function(model, x)
        grads = torch.autograd.grad(loss, [x, *variables])
    elif backend == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(inputs)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss, more = function(model, x)
        grads = tape.gradient(loss, [x, *[v.value for v in model.trainable_variables]])
    else:
        import jax

        variables = model.trainable_variables

        def pure(x, values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(model, x)

        # Compiled as a whole: one by one, each operation would be compiled for each shape.
        run = jax.jit(jax.value_and_grad(pure, argnums=(0, 1), has_aux=True))
        (loss, more), (gx, gv) = run(ops.convert_to_tensor(inputs), [v.value for v in variables])
        grads = [gx, *gv]
    arrays = [None if g is None else ops.convert_to_numpy(g) for g in grads]
    loss = float(ops.convert_to_numpy(loss))
    return loss, arrays[0], arrays[1:], [ops.convert_to_numpy(x) for x in more]


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """‖actual - expected‖ / ‖expected‖ in float64."""
    actual, expected = np.float64(actual), np.float64(expected)
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
