"""The linear layer, called the short way on torch and in full where more is to be done."""

import keras
import numpy as np
import pytest
from keras import ops

from mimzoo.backend import needs_call_only
from mimzoo.layers.linear import Linear

ON_TORCH = keras.config.backend() == "torch"


def built(**options) -> Linear:
    layer = Linear(4, **options)
    layer.build((None, 3))
    return layer


def rows(dtype: str = "float32"):
    return ops.cast(np.arange(6.0).reshape(2, 3), dtype)


def in_full(layer: Linear, x):
    return ops.convert_to_numpy(keras.layers.Dense.__call__(layer, x))


def test_short_and_full_agree():
    layer, x = built(), rows()
    assert needs_call_only(layer, x) == ON_TORCH
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), in_full(layer, x))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_half_precision(policy):
    layer = built(dtype=policy)
    for x in (rows("bfloat16"), rows(), np.ones((2, 3), "float32")):
        y = layer(x)
        assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
        np.testing.assert_array_equal(
            np.float32(ops.convert_to_numpy(ops.cast(y, "float32"))),
            np.float32(in_full(layer, x)),
        )
    assert needs_call_only(layer, rows("bfloat16")) == ON_TORCH
    assert not needs_call_only(layer, rows())


def test_calls_that_need_more_get_it():
    assert not needs_call_only(Linear(4), rows())
    assert Linear(4)(rows()).shape == (2, 4)
    assert not needs_call_only(built(), np.ones((2, 3), "float32"))
    assert isinstance(built()(keras.Input((3,))), keras.KerasTensor)
    regular = built(activity_regularizer="l2")
    regular(rows())
    assert len(regular.losses) == 1
    quantized = built()
    exact = ops.convert_to_numpy(quantized(rows()))
    quantized.quantize("int8")
    assert not needs_call_only(quantized, rows())
    assert 0 < np.abs(ops.convert_to_numpy(quantized(rows())) - exact).max() < 0.2
    adapted = built()
    adapted.enable_lora(2)
    adapted.lora_kernel_b.assign(np.ones((2, 4)))
    np.testing.assert_array_equal(ops.convert_to_numpy(adapted(rows())), in_full(adapted, rows()))


@pytest.mark.skipif(not ON_TORCH, reason="only torch has hooks")
def test_hooks_are_called():
    seen = []
    layer = built()
    layer.register_forward_hook(lambda *_: seen.append("after"))
    layer(rows())
    layer = built()
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer(rows())
    assert seen == ["after", "before"]
