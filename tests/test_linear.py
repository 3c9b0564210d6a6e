"""The linear layer is Keras' Dense, whatever is done with it."""

import keras
import numpy as np
import pytest
from keras import ops

from mimzoo.layers import Linear


def pair(**options) -> tuple[Linear, keras.layers.Dense]:
    """Our layer and Keras' with the same weights, the bias not zero."""
    layers = Linear(4, **options), keras.layers.Dense(4, **options)
    for layer in layers:
        layer.build((None, 3))
    layers[0].set_weights([np.full(w.shape, 0.5) + w for w in layers[0].get_weights()])
    layers[1].set_weights(layers[0].get_weights())
    return layers


def agree(ours, theirs, x, tolerance=1e-6):
    a, b = (np.float32(ops.convert_to_numpy(ops.cast(f(x), "float32"))) for f in (ours, theirs))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


ROWS = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


@pytest.mark.parametrize(
    "options", [{}, {"use_bias": False}, {"activation": "relu"}, {"activity_regularizer": "l2"}]
)
def test_it_is_dense(options):
    ours, theirs = pair(**options)
    agree(ours, theirs, ROWS)
    assert len(ours.losses) == len(theirs.losses)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_half_precision(policy):
    ours, theirs = pair(dtype=policy)
    agree(ours, theirs, ROWS, 2e-2)
    assert keras.backend.standardize_dtype(ours(ROWS).dtype) == "bfloat16"


def test_quantized_and_adapted():
    ours, theirs = pair()
    for layer in (ours, theirs):
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones((2, 4)))
        layer.lora_kernel_a.assign(np.ones((3, 2)))
    agree(ours, theirs, ROWS)
    ours, theirs = pair()
    for layer in (ours, theirs):
        layer.quantize("int8")
    agree(ours, theirs, ROWS)
