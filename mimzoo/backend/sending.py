"""torch on CUDA: batches that are on their way to the GPU while it computes the steps before."""

from collections.abc import Callable
from typing import Any

import keras


def sender() -> Callable[[Any], Any] | None:
    """What moves a batch of arrays to the device of Keras, or None where nothing is to be gained.

    On JAX and TensorFlow Keras moves batches ahead of their steps; a CPU has no memory of its own.
    """
    if keras.config.backend() != "torch":
        return None
    device = keras.ops.convert_to_tensor(0).device
    return Sender(device) if device.type == "cuda" else None


class Sender:
    """Copies batches from pinned memory, on a stream of its own.

    Keras would copy from pageable memory on the stream that computes, and wait until that has done
    all before. Batches are copied at most two steps ahead, since each takes memory of the GPU.

    Args:
        device: of CUDA.
    """

    def __init__(self, device: Any):
        import torch

        self.device, self.stream = device, torch.cuda.Stream(device)
        self.started = None

    def __call__(self, batch: Any) -> Any:
        """The batch as tensors on the device, for the stream that is current."""
        import torch

        current = torch.cuda.current_stream(self.device)
        if self.started is not None:
            self.started.synchronize()
        # All but the step of the batch that was sent last was started before that was.
        self.started = current.record_event()
        with keras.device("cpu"), torch.cuda.stream(self.stream):
            sent = keras.tree.map_structure(self._sent, batch, none_is_leaf=False)
        current.wait_stream(self.stream)
        for tensor in keras.tree.flatten(sent):
            if tensor is not None:
                tensor.record_stream(current)
        return sent

    def _sent(self, array: Any) -> Any:
        # As Keras converts arrays, which makes int64 of uint32, for example.
        tensor = keras.ops.convert_to_tensor(array)
        return tensor.pin_memory().to(self.device, non_blocking=True)
