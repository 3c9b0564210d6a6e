"""Which variables get which multiplier and weight decay, and the errors where that cannot be."""

import keras
import numpy as np
import pytest
from test_optimizers import FLAT, SCALES, assert_near, run, tiny_vit, values, variables

from mimzoo import optimizers
from mimzoo.optimizers import groups


def test_vit_rule():
    model = tiny_vit()
    got = dict(
        zip(
            [v.path.removeprefix("tiny/") for v in model.trainable_variables],
            groups.multipliers(model.trainable_variables, SCALES),
            strict=True,
        )
    )
    assert got["patch_embed/kernel"] == got["embed/class_token"] == 0.5**3
    assert got["block_0/qkv/kernel"] == 0.5**2
    assert got["block_1/norm1/gamma"] == 0.5
    assert got["norm/gamma"] == got["predictions/bias"] == 1.0


def test_vit_rule_tells_block_1_from_block_11():
    scales = optimizers.vit_layer_decay_scales(12, 0.5)
    block = keras.Variable(0.0, name="block_11")
    assert next(m for regex, m in scales if groups.matches_any(block, [regex])) == 0.5


def test_no_weight_decay_rule():
    model = tiny_vit()
    spared = {v.path for v in optimizers.no_weight_decay(model, ["patch_embed/kernel"])}
    assert {f"tiny/{n}" for n in ("norm/gamma", "block_0/qkv/bias", "patch_embed/kernel")} < spared
    assert not {"tiny/embed/class_token", "tiny/predictions/kernel"} & spared
    for optimizer in (optimizers.AdamW(model, 0.1), optimizers.LayerDecayAdamW(model, 0.1)):
        optimizer.build(model.trainable_variables)
        undecayed = {
            v.path
            for v, decayed in zip(model.trainable_variables, optimizer._decayed, strict=True)
            if not decayed
        }
        assert undecayed == spared - {"tiny/patch_embed/kernel"}


def test_user_exclusions_are_kept():
    targets = variables()
    before = values(targets)
    inner = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    inner.exclude_from_weight_decay(var_list=targets[:1])
    zero = [[np.zeros(v.shape, "float32") for v in targets]]
    after = run(optimizers.LayerDecay(inner, FLAT, ["v1"]), targets, zero)
    assert_near(after, [before[0], before[1], before[2] * 0.95])


def test_what_is_frozen_keeps_its_rate_for_later():
    model = tiny_vit()
    model.get_layer("block_0").trainable = False
    optimizers.LayerDecayAdamW(model, 0.1, 0.5).build(model.trainable_variables)
    optimizer = optimizers.LayerDecayAdamW(model, 0.1, 0.5)
    model.get_layer("block_0").trainable = True
    optimizer = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(optimizer)
    )
    optimizer.build(model.trainable_variables)
    never = optimizers.LayerDecayAdamW(model, 0.1, 0.5)
    never.build(model.trainable_variables)
    assert optimizer._multipliers == never._multipliers
    assert len(set(never._multipliers)) > 1


def test_errors_say_what_to_do():
    model = tiny_vit()
    targets = model.trainable_variables
    adam = keras.optimizers.Adam
    with pytest.raises(
        ValueError, match="No regex in scales matches the variable 'tiny/embed/class"
    ):
        optimizers.LayerDecay(adam(0.1), [("block_|patch|norm|pred", 1.0)]).build(targets)
    with pytest.raises(ValueError, match="'blokc_0' in scales matches no trainable variable"):
        optimizers.LayerDecay(adam(0.1), [("blokc_0", 0.5), (".*", 1.0)]).build(targets)
    with pytest.raises(ValueError, match="'tokn' in no_weight_decay"):
        optimizers.AdamW(model, 0.1, no_weight_decay=["tokn"])
    with pytest.raises(ValueError, match="at least 0"):
        optimizers.LayerDecay(adam(0.1), [(".*", -1.0)])
    with pytest.raises(ValueError, match="inside loss scaling"):
        optimizers.LayerDecay(keras.optimizers.LossScaleOptimizer(adam(0.1)), FLAT)
    inner = adam(0.1)
    optimizers.LayerDecay(inner, FLAT)
    with pytest.raises(ValueError, match="wrapped by a LayerDecay already"):
        optimizers.LayerDecay(inner, FLAT)
    with pytest.raises(ValueError, match=r"wraps a keras.optimizers.Optimizer"):
        optimizers.LayerDecay("adam", FLAT)
    with pytest.raises(ValueError, match="has no layer_decay_scales"):
        optimizers.LayerDecayAdamW(tiny_vit(keras.Sequential), 0.1)
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        optimizers.LayerDecayAdamW(model, 0.1, layer_decay=65)
    with pytest.raises(ValueError, match="build it first"):
        optimizers.AdamW(keras.Sequential([keras.layers.Dense(2)]), 0.1)
