"""Constants on torch: right after a trace or inference mode, in no file, on the right device."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import ops

from mimzoo.backend import Constant
from mimzoo.layers import CosineWindowAttention

if keras.config.backend() != "torch":
    pytest.skip("the others keep no tensors", allow_module_level=True)

import torch

ARRAY = np.arange(3, dtype="float32")


class Times(torch.nn.Module):
    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return x * self.constant(x)


def in_inference_mode(module, x):
    with torch.inference_mode():
        module(x)


def on_meta(module, x):
    module(x.to("meta"))


@pytest.mark.parametrize(
    "first",
    [
        lambda module, x: torch.export.export(module, (x,)),
        in_inference_mode,
        on_meta,
    ],
)
def test_what_comes_first_changes_nothing(first):
    module, x = Times(Constant(ARRAY)), torch.ones(2, 3)
    first(module, x)
    x.requires_grad_()
    y = module(x)
    y.sum().backward()
    assert type(y) is torch.Tensor
    np.testing.assert_array_equal(x.grad, np.stack([ARRAY, ARRAY]))
    assert module.constant(x) is module.constant(x)


def test_copies_hold_the_array_only():
    constant = Constant(ARRAY)
    constant(torch.ones(3))
    for other in (copy.deepcopy(constant), pickle.loads(pickle.dumps(constant))):
        assert vars(other)["_kept"] is None
        np.testing.assert_array_equal(other(torch.ones(3)), ARRAY)


def test_those_of_layers_are_buffers_in_no_file():
    layer = CosineWindowAttention(8, 2, (8, 8), 4, shifted=True)
    layer.build((None, 8, 8, 8))
    buffers = {name.split(".")[-1]: value for name, value in layer.named_buffers()}
    assert set(buffers) == {"shift_mask", "offsets"}
    assert not any(name.endswith(tuple(buffers)) for name in layer.state_dict())
    assert not any(v.name in buffers for v in layer.variables)
    for program in (torch.export.export(layer, (torch.ones(1, 8, 8, 8),)).module(), layer):
        assert torch.isfinite(program(torch.ones(1, 8, 8, 8))).all()
    with torch.inference_mode():
        made_inside = CosineWindowAttention(8, 2, (8, 8), 4, shifted=True)
    assert not any(buffer.is_inference() for buffer in made_inside.buffers())
    assert ops.convert_to_numpy(layer.shift_mask).min() == -100
