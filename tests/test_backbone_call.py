"""What calling a backbone gives, and how little it holds meanwhile."""

import weakref

import keras
import numpy as np
import pytest
from gradients import forward
from keras import ops

from mimzoo.models import MixMIMBackbone, SwinBackbone, SwinV2Backbone, ViTBackbone

STAGES = {"depths": (2, 1), "num_heads": (2, 4), "window_size": 4, "embed_dim": 16, "patch_size": 2}
BACKBONES = {
    ViTBackbone: {"patch_size": 4, "embed_dim": 32, "depth": 4, "num_heads": 2},
    SwinBackbone: STAGES,
    SwinV2Backbone: STAGES,
    MixMIMBackbone: {**STAGES, "depths": (1, 3), "window_size": (4, 2)},
}


@pytest.fixture(params=BACKBONES, ids=lambda cls: cls.__name__)
def backbone(request):
    return request.param(image_shape=(16, 16, 3), **BACKBONES[request.param])


def test_the_call_and_the_graph_agree(backbone, images):
    x = images[:2, :16, :16].astype("float32") / 255
    called = forward(backbone, x)
    graph = keras.Model(backbone.input, backbone.output)
    for other in (graph(x), backbone({"images": x, "masks": x}), backbone([x])):
        np.testing.assert_allclose(ops.convert_to_numpy(other), called, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="shape"):
        backbone(x[:, :8])


@pytest.mark.skipif(keras.config.backend() != "torch", reason="the others run compiled steps")
def test_no_block_output_outlives_the_next_block(backbone, monkeypatch):
    import torch

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
        backbone(np.zeros((1, 16, 16, 3), "float32"))
    assert len(alive) == len(blocks) > 2
    assert max(alive) == 1  # its own input
