"""Whether something is a symbol of a graph, or has values."""

from typing import Any

import keras


def is_traced(x: Any) -> bool:
    """Whether `x` is traced by Keras, JAX, TensorFlow or torch, so that it has no values yet."""
    if isinstance(x, keras.KerasTensor):
        return True
    module = type(x).__module__
    if module.startswith("jax"):
        import jax

        return isinstance(x, jax.core.Tracer)
    if module.startswith("torch"):
        import torch

        return torch.compiler.is_compiling()
    return is_tensorflow_symbol(x)


def is_tensorflow_symbol(x: Any) -> bool:
    """Whether `x` is a tensor of a TensorFlow graph, such as tf.data makes on every backend."""
    return type(x).__module__.startswith("tensorflow") and not hasattr(x, "numpy")


def in_stateless_scope() -> bool:
    """Whether variables have other values than their own, as in `stateless_call`."""
    with keras.StatelessScope(initialize_variables=False) as scope:
        return scope.original_scope is not None
