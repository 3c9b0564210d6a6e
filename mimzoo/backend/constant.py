"""Arrays that follow from a model's shape."""

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any


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
