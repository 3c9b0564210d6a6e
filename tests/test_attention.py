"""Attention, GELU, unit vectors, and their gradients against formulas in numpy."""

import math

import keras
import numpy as np
import pytest
from gradients import relative_error, value_and_gradients
from keras import ops

from mimzoo.backend import Tensor, attention, gelu, inverse_length
from mimzoo.backend.attention import jax_attention, torch_attention
from mimzoo.layers import CosineWindowAttention

B, W, H, T, D = 2, 3, 2, 5, 4
SHAPES = {
    "windows": (B, W, H, T, D),
    "tokens": (B, H, T, D),
    "one head": (B, W, 1, T, D),
}


class Weights(keras.layers.Layer):
    """Matrices and vectors as weights, in their order."""

    def __init__(self, *arrays):
        super().__init__()
        for number, array in enumerate(arrays):
            weight = self.add_weight(name=f"w{number}", shape=array.shape)
            weight.assign(array)
        self.built = True

    def tensors(self, dtype="float32"):
        return [ops.cast(ops.convert_to_tensor(w), dtype) for w in self.weights]


def by_formula(query, key, value, bias, masks, scale, upstream):
    """Sum of the output times `upstream`, and gradients by query, key, value and bias."""
    query, key, value = (np.float64(x) for x in (query, key, value))
    logits = scale * query @ key.swapaxes(-1, -2)
    for term in [*([] if bias is None else [bias]), *masks]:
        logits = logits + term
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    to_p = upstream @ value.swapaxes(-1, -2)
    to_logits = p * (to_p - (to_p * p).sum(-1, keepdims=True))
    gradients = [
        scale * to_logits @ key,
        scale * to_logits.swapaxes(-1, -2) @ query,
        p.swapaxes(-1, -2) @ upstream,
    ]
    if bias is not None:
        shape = (1,) * (to_logits.ndim - bias.ndim) + bias.shape
        axes = tuple(i for i, n in enumerate(shape) if n == 1 and to_logits.shape[i] > 1)
        gradients.append(to_logits.sum(axes).reshape(bias.shape))
    return (p @ value * upstream).sum(), gradients


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("bias_of", ["none", "heads", "examples"])
@pytest.mark.parametrize("case", SHAPES)
def test_gradients_are_those_of_the_formula(case, bias_of, masked):
    rng, shape = np.random.default_rng(0), SHAPES[case]
    query, key, value, upstream = (rng.normal(size=shape).astype("float32") for _ in range(4))
    heads, lead = shape[-3], (1,) * (len(shape) - 4)
    bias = {
        "none": None,
        "heads": rng.normal(size=(1, heads, T, T)).astype("float32"),
        "examples": rng.normal(size=(B, *lead, heads, T, T)).astype("float32"),
    }[bias_of]
    hidden = np.where(rng.random((*shape[:-3], 1, T, T)) < 0.3, -100.0, 0.0).astype("float32")
    masks = [hidden] if masked else []
    scale = None if case == "tokens" else 0.7
    layer = Weights(key, value, *([] if bias is None else [bias]))

    def loss(layer, query):
        key, value, *biases = layer.tensors()
        bias = biases[0] if biases else None
        terms = [ops.convert_to_tensor(mask) for mask in masks]
        out = attention(query, key, value, bias, scale, terms)
        return ops.sum(out * ops.convert_to_tensor(upstream))

    expected = by_formula(query, key, value, bias, masks, scale or D**-0.5, upstream)
    found, to_query, to_weights = value_and_gradients(loss, layer, query)
    assert found == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    for actual, right in zip([to_query, *to_weights], expected[1], strict=True):
        assert relative_error(actual, right) < 1e-5


TERMS = {
    "a bias of heads": [(1, H, T, T)],
    "bias and shift": [(1, H, T, T), (W, 1, T, T)],
    "bias, shift and sources": [(1, H, T, T), (W, 1, T, T), (B, W, 1, T, T)],
}


def with_terms(function, shape, terms):
    """Value and gradients of attention by query, key, value and each term."""
    rng = np.random.default_rng(2)
    query, key, value, upstream = (rng.normal(size=shape).astype("float32") for _ in range(4))
    layer = Weights(key, value, *(rng.normal(size=t).astype("float32") for t in terms))

    def loss(layer, query):
        key, value, *terms = layer.tensors()
        return ops.sum(function(query, key, value, terms) * ops.convert_to_tensor(upstream))

    return value_and_gradients(loss, layer, query)


def check_same(expected, found):
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for right, actual in zip([expected[1], *expected[2]], [found[1], *found[2]], strict=True):
        assert relative_error(actual, right) < 1e-5


@pytest.mark.skipif(keras.config.backend() != "torch", reason="what torch does on CUDA")
@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
def test_the_fused_kernel_with_terms(terms):
    shape = SHAPES["windows"]
    expected = with_terms(lambda q, k, v, m: attention(q, k, v, m[0], 0.7, m[1:]), shape, terms)
    check_same(expected, with_terms(lambda *given: torch_attention(*given, 0.7), shape, terms))


@pytest.mark.skipif(keras.config.backend() != "torch", reason="what torch does on CUDA")
def test_terms_that_examples_share_are_not_repeated_for_each(monkeypatch):
    import torch

    seen = []
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda query, key, value, attn_mask, scale: seen.append(attn_mask) or value,
    )
    query = torch.zeros(SHAPES["windows"], dtype=torch.bfloat16)
    bias, shift = torch.zeros(1, H, T, T), torch.zeros(W, 1, T, T)
    for terms, heads in ([bias], H), ([bias, shift], W * H):
        assert torch_attention(query, query, query, terms, 1.0).shape == query.shape
        assert seen[-1].shape == (1, heads, T, T)
        assert seen[-1].dtype == query.dtype


@pytest.mark.skipif(keras.config.backend() != "jax", reason="what JAX does on GPUs")
@pytest.mark.parametrize("length", [4, 5])
def test_attention_of_padded_tokens(length):
    shape = (B, H, length, D)
    expected = with_terms(lambda q, k, v, _: attention(q, k, v, scale=0.7), shape, [])
    check_same(
        expected, with_terms(lambda q, k, v, _: jax_attention(q, k, v, 0.7, "xla"), shape, [])
    )


# Rounding to bfloat16 is 2^-9; numbers pass it a few times.
DTYPES = {"float32": 1e-5, "bfloat16": 1.5e-2}


def check(function, layer, inputs, upstream, dtype, expected):
    """`function(tensors, inputs)`: its product with `upstream`, and all gradients."""

    def loss(layer, x):
        out = function(layer.tensors(dtype), ops.cast(x, dtype))
        return ops.sum(ops.cast(out, "float32") * ops.convert_to_tensor(upstream))

    found, to_inputs, to_weights = value_and_gradients(loss, layer, inputs)
    right = DTYPES[dtype]
    assert found == pytest.approx(
        expected[0], rel=right, abs=right * float(np.linalg.norm(upstream))
    )
    for actual, gradient in zip([to_inputs, *to_weights], expected[1], strict=True):
        assert relative_error(actual, gradient) < right


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_in_low_precision(dtype):
    rng = np.random.default_rng(1)
    query, key, value, upstream = (
        rng.normal(size=(B, H, T, D)).astype("float32") for _ in range(4)
    )
    expected = by_formula(query, key, value, None, [], D**-0.5, upstream)
    check(lambda w, x: attention(x, *w), Weights(key, value), query, upstream, dtype, expected)


def test_unit_vectors_and_their_gradient():
    rng = np.random.default_rng(3)
    x, upstream = (rng.normal(size=(B, T, D)).astype("float32") for _ in range(2))
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    y = x / length
    gradient = (upstream - y * (y * upstream).sum(-1, keepdims=True)) / length
    expected = (y * upstream).sum(), [gradient]
    check(lambda _, x: x * inverse_length(x), Weights(), x, upstream, "float32", expected)


def test_the_gradient_of_a_vector_of_zeros_is_zero():
    zeros = np.zeros((1, 3), "float32")
    found, gradient, _ = value_and_gradients(
        lambda _, x: ops.sum(x * inverse_length(x)), Weights(), zeros
    )
    assert found == 0
    assert (gradient == 0).all()


def test_padding_in_float16_leaves_gradients_finite():
    layer = CosineWindowAttention(8, 2, grid=(6, 6), window_size=4, dtype="mixed_float16")
    layer.build((None, 6, 6, 8))
    tokens = np.random.default_rng(4).normal(size=(2, 6, 6, 8)).astype("float32")

    def loss(layer: CosineWindowAttention, x: Tensor) -> Tensor:
        return ops.sum(ops.square(ops.cast(layer(x), "float32")))

    for gradient in value_and_gradients(loss, layer, tokens)[2]:
        assert np.isfinite(gradient).all()


def test_gelu_and_its_gradient_are_exact():
    x = np.linspace(-6, 6, 97, dtype="float32")[None]
    upstream = np.cos(x)
    cumulative = np.array([[math.erfc(-v / math.sqrt(2)) / 2 for v in x[0]]])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    expected = np.sum(x * cumulative * upstream), [upstream * (cumulative + x * density)]
    check(lambda _, x: gelu(x), Weights(), x, upstream, "float32", expected)
