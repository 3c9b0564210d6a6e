"""Variables that are about to be loaded: created, and filled, with fewer passes over memory."""

from typing import Any
from weakref import WeakValueDictionary

import keras
from keras import ops

from mimzoo.backend.constant import Tensor

# Those that variables of JAX hold now: (shape, dtype) -> zeros.
_ZEROS: WeakValueDictionary = WeakValueDictionary()


def blank(shape: tuple, dtype: str | None = None) -> Tensor:
    """An initializer for weights that a file replaces: it writes as little as it can.

    TensorFlow has memory as it comes. JAX's arrays never change, so variables of one shape can
    start with the same zeros. torch's zeros are written by all threads, after which one thread
    reads a file faster than into fresh memory.
    """
    backend = keras.config.backend()
    if backend == "jax":
        zeros = _ZEROS.get((tuple(shape), dtype))
        if zeros is None:
            zeros = _ZEROS[tuple(shape), dtype] = ops.zeros(shape, dtype)
        return zeros
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.raw_ops.Empty(shape=shape, dtype=dtype or keras.config.floatx(), init=False)
    return ops.zeros(shape, dtype)


def load_variable(variable: keras.Variable, store: Any, key: str) -> None:
    """`variable.assign(store[key])`, where Keras' store is a group of an HDF5 file.

    torch reads into the variable itself: one copy less.
    """
    if keras.config.backend() != "torch" or not _read_in_place(variable, store, key):
        variable.assign(store[key])


def _read_in_place(variable: keras.Variable, store: Any, key: str) -> bool:
    """Whether numbers of the variable's kind could be read into its memory."""
    import torch

    try:
        # What Keras itself opens a dataset with; it refuses links out of the file.
        from keras.src.saving.saving_lib import safe_get_h5_dataset

        dataset = safe_get_h5_dataset(store._h5_entry_group, key)
    except (ImportError, AttributeError, KeyError):
        # Another Keras, another store, or another of the files that weights are spread over.
        return False
    memory = variable.value.detach()
    fits = (
        type(memory) is torch.Tensor
        and memory.device.type == "cpu"
        and memory.dtype == torch.float32
        and memory.is_contiguous()
        and memory.numel()
        and dataset.dtype == "float32"
        and dataset.shape == tuple(memory.shape)
    )
    if fits:
        dataset.read_direct(memory.numpy())
    return bool(fits)
