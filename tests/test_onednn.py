"""Products by oneDNN beside those of torch: values, gradients, and when they are taken."""

import keras
import numpy as np
import pytest

from mimzoo.backend import onednn
from mimzoo.layers.linear import Linear

if keras.config.backend() != "torch":
    pytest.skip("only torch leaves a choice", allow_module_level=True)

import torch
import torch.nn.functional as F
import torch.utils.flop_counter

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch without oneDNN"
)


@pytest.fixture(autouse=True)
def everywhere(monkeypatch):
    """As on a processor where it is the faster, and for products of any size."""
    monkeypatch.setattr(onednn, "on_amd", lambda: True)
    monkeypatch.setattr(onednn, "ALONE", 0)
    monkeypatch.setattr(onednn, "WITH_GRADIENT", 0)


def numbers(*shape: int) -> torch.Tensor:
    rng = np.random.default_rng(sum(shape))
    return torch.tensor(rng.normal(size=shape).astype("float32"), requires_grad=True)


def close(actual, right):
    torch.testing.assert_close(actual, right, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("width", "units"), [(64, 96), (96, 64), (64, 64), (5, 3)])
def test_values_and_gradients(width, units, with_bias):
    x, kernel, upstream = numbers(2, 7, width), numbers(width, units), numbers(2, 7, units)
    bias = numbers(units) if with_bias else None
    inputs = [x, kernel, *([bias] if with_bias else [])]
    ours, theirs = onednn.multiply(x, kernel, bias), F.linear(x, kernel.t(), bias)
    close(ours, theirs)
    ours = torch.autograd.grad((ours * upstream).sum(), inputs, create_graph=True)
    theirs = torch.autograd.grad((theirs * upstream).sum(), inputs, create_graph=True)
    for a, b in zip(ours, theirs, strict=True):
        close(a, b)
    # And their gradients: what a gradient penalty needs.
    for a, b in zip(
        torch.autograd.grad(sum(g.square().sum() for g in ours), [x, upstream]),
        torch.autograd.grad(sum(g.square().sum() for g in theirs), [x, upstream]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-2)
    with torch.no_grad():
        close(onednn.multiply(x, kernel, bias), F.linear(x, kernel.t(), bias))


def test_only_the_gradients_that_are_needed():
    x, kernel, bias = numbers(3, 8), numbers(8, 4), numbers(4)
    kernel.requires_grad_(False)
    onednn.multiply(x.detach(), kernel, bias).sum().backward()
    assert kernel.grad is None
    close(bias.grad, torch.full((4,), 3.0))
    assert not onednn.multiply(x.detach(), kernel, bias.detach()).requires_grad


def test_other_memory_layouts():
    x, kernel = numbers(6, 7, 2).permute(2, 1, 0), numbers(4, 6).t()
    close(onednn.multiply(x, kernel), x @ kernel)
    onednn.multiply(x, kernel).expand(3, 2, 7, 4).sum().backward()


def test_large_products_are_taken_and_small_ones_are_not(monkeypatch):
    x, kernel = numbers(4, 8), numbers(8, 2)
    monkeypatch.setattr(onednn, "ALONE", 64)
    monkeypatch.setattr(onednn, "WITH_GRADIENT", 65)
    assert not onednn.suits(x, kernel)
    with torch.no_grad():
        assert onednn.suits(x, kernel)
        assert not onednn.suits(x[1:], kernel)
    monkeypatch.setattr(onednn, "on_amd", lambda: False)
    with torch.no_grad():
        assert not onednn.suits(x, kernel)


def test_what_torch_does_otherwise_stays_with_torch():
    x, kernel = numbers(4, 8), numbers(8, 2)
    seen = []

    def note(x):
        seen.append(onednn.suits(x, kernel))
        return x @ kernel

    assert onednn.suits(x, kernel)
    assert not onednn.suits(x.bfloat16(), kernel.bfloat16())
    assert not onednn.suits(x.double(), kernel.double())
    assert not onednn.suits(x.to("meta"), kernel.to("meta"))
    torch.func.jvp(note, (x,), (x,))
    torch.func.vmap(note)(x)
    with torch.autograd.forward_ad.dual_level():
        note(x)
    assert seen == [False] * 3


def test_a_layer_takes_it_but_an_exported_one_does_not(monkeypatch):
    layer = Linear(4)
    layer.build((None, 3))
    x = numbers(2, 3).detach()
    taken = []
    multiply = onednn.multiply
    monkeypatch.setattr(onednn, "multiply", lambda *a: taken.append(1) or multiply(*a))
    layer(x)
    assert taken == [1]
    graph = str(torch.export.export(layer, (x,)).graph)
    assert "mkldnn" not in graph
    assert "linear" in graph or "addmm" in graph
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 2 * 3 * 4
    assert taken == [1]
