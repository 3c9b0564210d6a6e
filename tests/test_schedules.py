"""Learning-rate schedules, and lengths of runs."""

import math

import keras
import numpy as np
import pytest

from mimzoo import optimizers


def test_warmup_cosine():
    rate = optimizers.WarmupCosine(2.0, total_steps=110, warmup_steps=10, final=1.0)
    got = [float(rate(s)) for s in (0, 5, 10, 60, 110, 500)]
    np.testing.assert_allclose(got, [0.0, 1.0, 2.0, 1.5, 1.0, 1.0], rtol=1e-6)
    mae = [1.0 + 0.5 * (1 + math.cos(math.pi * (s - 10) / 100)) for s in range(10, 110)]
    got = keras.ops.convert_to_numpy(rate(np.arange(10, 110)))
    np.testing.assert_allclose(got, mae, rtol=1e-6)


def test_warmup_multistep():
    rate = optimizers.WarmupMultiStep(4.0, 100, 10, 2.0, milestones=[50, 80])
    got = [float(rate(s)) for s in (0, 5, 10, 49, 50, 79, 80, 100)]
    np.testing.assert_allclose(got, [2.0, 3.0, 4.0, 4.0, 0.4, 0.4, 0.04, 0.04], rtol=1e-6)


def test_schedules_count_beyond_float32():
    big = 2**24
    rate = optimizers.WarmupMultiStep(1.0, 2 * big, 0, 0.0, milestones=[big + 1])
    assert [float(rate(big + i)) for i in (0, 1)] == pytest.approx([1.0, 0.1])
    rate = optimizers.WarmupCosine(1.0, 4 * big, 0)
    last = [float(rate(4 * big - left)) for left in (3, 2, 1, 0)]
    want = [math.sin(math.pi / 2 * left / (4 * big)) ** 2 for left in (3, 2, 1, 0)]
    np.testing.assert_allclose(last, want, rtol=1e-5)


@pytest.mark.parametrize(
    "rate",
    [
        optimizers.WarmupCosine(1e-3, 100, 10, 1e-6, 1e-5),
        optimizers.WarmupMultiStep(1e-3, 100, 10, 1e-6, [50], 0.5),
    ],
)
def test_schedules_are_saved(rate):
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert type(again) is type(rate)
    assert again.get_config() == rate.get_config()


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.WarmupCosine(1.0, 10, 10),
        lambda: optimizers.WarmupCosine(1.0, 10.5, 1),
        lambda: optimizers.WarmupCosine(1.0, 10, -1),
        lambda: optimizers.WarmupCosine(-1.0, 10, 1),
        lambda: optimizers.WarmupCosine(1.0, 10, 1, final=2.0),
        lambda: optimizers.WarmupMultiStep(1.0, 10, 1, 0.0, []),
        lambda: optimizers.WarmupMultiStep(1.0, 10, 1, 0.0, [5, 5]),
        lambda: optimizers.WarmupMultiStep(1.0, 10, 1, 0.0, [10]),
        lambda: optimizers.WarmupMultiStep(1.0, 10, 1, 0.0, [5], factor=0.0),
        lambda: optimizers.scaled_learning_rate(1e-3, 0),
        lambda: optimizers.vit_layer_decay_scales(0, 0.5),
    ],
)
def test_nonsense_schedules(make):
    with pytest.raises(ValueError, match=r"must"):
        make()


def test_lengths():
    imagenet = {"batch_size": 2048, "num_examples": 1_281_167}
    assert optimizers.steps("800ep", **imagenet) == 500_000
    assert optimizers.steps((10, "epochs"), **imagenet) == 6_250
    assert optimizers.steps("0.5 ep", **imagenet) == 312
    assert optimizers.steps("500000it") == optimizers.steps(500_000) == 500_000
    assert optimizers.steps("1e9img", batch_size=4096) == 244_140
    assert optimizers.steps("0ep", **imagenet) == 0
    assert optimizers.scaled_learning_rate(1.5e-4, 4096) == pytest.approx(2.4e-3)
    assert optimizers.scaled_learning_rate(1e-4, 2048, per=512) == pytest.approx(4e-4)


@pytest.mark.parametrize(
    "length",
    [
        *("800", "ep", "8 weeks", "-1ep", "1.2.3ep", "0.5it", (8,), ("x", "ep"), None, True, 1.5),
        *((float("nan"), "ep"), (float("inf"), "it"), -3),
    ],
)
def test_nonsense_lengths(length):
    with pytest.raises(ValueError, match=r"length|number"):
        optimizers.steps(length, 10, 100)


def test_lengths_name_what_is_missing():
    with pytest.raises(ValueError, match="batch_size"):
        optimizers.steps("1img")
    with pytest.raises(ValueError, match="num_examples"):
        optimizers.steps("1ep", batch_size=8)
