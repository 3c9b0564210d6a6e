"""How little calling a backbone holds meanwhile."""

import weakref

import contracts
import keras
import numpy as np
import pytest


@pytest.mark.skipif(keras.config.backend() != "torch", reason="the others run compiled steps")
@pytest.mark.parametrize("family", contracts.FAMILIES)
def test_no_block_output_outlives_the_next_block(family, monkeypatch):
    import torch

    cls, arguments = contracts.FAMILIES[family]
    backbone = cls(image_shape=contracts.SHAPE, **arguments)
    outputs, alive = [], []
    blocks = [layer for layer in backbone.layers if "block_" in layer.name]
    blocks = [layer for layer in blocks if hasattr(layer, "drop_path")]
    for block in blocks:

        def call(x, *args, run=block.call, **kwargs):
            alive.append(sum(ref() is not None for ref in outputs))
            y = run(x, *args, **kwargs)
            outputs.append(weakref.ref(y))
            return y

        monkeypatch.setattr(block, "call", call)
    with torch.no_grad():
        backbone(np.zeros((1, *contracts.SHAPE), "float32"))
    assert len(alive) == len(blocks) >= 2
    assert max(alive) == 1  # its own input
