"""MixMIM against the official code and against a naive version of it."""

import naive_mixmim
import numpy as np
import pytest
from checkpoints import golden, of_state
from gradients import relative_error, value_and_gradients, value_gradients_and_more
from keras import ops
from test_swin import awake

from mimzoo.models import MixMIMBackbone
from mimzoo.pretraining import MixMIM, MixMIMDecoder


def test_golden(tmp_path):
    figures, state, facts = golden("mixmim")
    task = of_state(state, tmp_path, **facts)
    cells = figures["mask"].reshape(1, 4, 4)
    masks = cells.repeat(8, 1).repeat(8, 2).reshape(1, -1).repeat(2, 0).astype("uint8")

    def run(model, images):
        inputs = {"images": images, "masks": masks}
        loss = model.compute_loss(x=inputs, y_pred=model(inputs))
        tokens = model.backbone.embed(images)
        features, decoder = model.encode_mixed(inputs), model.decoder
        both = decoder.decode(features, ops.cast(cells.reshape(1, -1), "bool"))
        return loss, [
            decoder.prediction(decoder.norm(both)),
            features,
            model.backbone.encode(tokens),
            model.backbone.encode(tokens, masks[:1]),
            model.backbone.encode(tokens, masks),
        ]

    value, gradient, _, found = value_gradients_and_more(run, task, figures["x"])
    assert value == pytest.approx(float(figures["out/loss"]), rel=1e-5)
    assert relative_error(gradient, figures["out/grad_x"]) < 1e-3
    for actual, name in zip(
        found, ("reconstruction", "features_mixed", "features_plain"), strict=False
    ):
        np.testing.assert_allclose(actual, figures[f"out/{name}"], atol=1e-4)
    np.testing.assert_allclose(found[3], found[4], atol=1e-6)  # one mask for all


def test_naive_version():
    """Several windows, two pairs with masks of their own."""
    backbone = MixMIMBackbone((24, 16, 3), 4, 16, (2,), (2,), 2)
    task = MixMIM(awake(backbone), decoder=MixMIMDecoder(16, 1, 2), preprocessor=None)
    images = np.random.default_rng(0).normal(size=(4, 24, 16, 3)).astype("float32")
    masks = task.draw(np.arange(4))["masks"]
    assert not np.array_equal(masks[0], masks[2])

    def loss(model, images):
        inputs = {"images": images, "masks": masks}
        return model.compute_loss(x=inputs, y_pred=model(inputs))

    value, _, _ = value_and_gradients(loss, task, images)
    expected, count = naive_mixmim.loss(task, images, masks)
    assert value == pytest.approx(expected, rel=1e-5)
    assert (count == 1).all()  # every patch of every image, once
