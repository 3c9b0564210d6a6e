"""Arrays that follow from a model's shape: made once, saved nowhere."""

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any


def add_constant(layer: keras.layers.Layer, name: str, array: np.ndarray) -> None:
    """Gives a layer the attribute `name`; `ops.convert_to_tensor(layer.name)` reads it.

    On torch it is a buffer that no file holds, on the device of the layer's weights. The other
    backends fold the numpy array into their program.
    """
    if keras.config.backend() != "torch":
        setattr(layer, name, array)
        return
    import torch

    # A tensor made in inference mode could take part in no later backward pass.
    with torch.inference_mode(False):
        layer.register_buffer(name, ops.convert_to_tensor(array), persistent=False)


class Constant:
    """An array of an object that is no layer: `constant(like)` is it, on the device of `like`.

    torch would copy it to the device in each step, so there the last tensor is kept.
    """

    def __init__(self, array: np.ndarray):
        self.array = array
        self._kept: Tensor | None = None

    def __call__(self, like: Tensor) -> Tensor:
        """The array as a tensor of its own dtype, on the device of `like`."""
        if keras.config.backend() != "torch":
            return ops.convert_to_tensor(self.array)
        if self._kept is not None and self._kept.device == like.device:
            return self._kept
        import torch

        with torch.inference_mode(False):
            tensor = torch.tensor(self.array, device=like.device)
        # What a trace makes belongs to the trace: its tensors are no plain ones, or have no data.
        traced = torch.compiler.is_compiling() or type(tensor) is not torch.Tensor
        if not traced and not tensor.is_meta:
            self._kept = tensor
        return tensor

    def __getstate__(self) -> dict:
        return {"array": self.array, "_kept": None}
