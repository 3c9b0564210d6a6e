"""SimMIM against the official code and transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import golden, of_state, of_transformers
from gradients import (
    forward,
    relative_error,
    value_and_gradients,
    value_gradients_and_more,
)
from test_reference_swin import randomize
from transformers import (
    SwinConfig,
    SwinForMaskedImageModeling,
    Swinv2Config,
    Swinv2ForMaskedImageModeling,
)

from mimzoo.layers import unpatchify
from mimzoo.pretraining import SimMIM, SlidingWindowTarget
from mimzoo.pretraining.targets import Step


def official(name: str, folder: Path) -> tuple[dict, SimMIM, dict]:
    """The official figures, our task with the official weights, and its inputs."""
    figures, state, facts = golden(name)
    task = of_state(state, folder, **facts)
    if name == "simmim_swin":  # SimMIM's own Swin has plain pixels; this one was run with windows
        task.target = SlidingWindowTarget(47)
    masks = figures["mask_tokens"].reshape(len(figures["x"]), -1).astype("uint8")
    return figures, task, {"images": figures["x"], "masks": masks}


@pytest.mark.parametrize("name", ["simmim_swinv2", "simmim_swin", "simmim_vit"])
def test_golden(name, tmp_path):
    figures, task, inputs = official(name, tmp_path)
    backbone, patch = task.backbone, task.backbone.patch_size

    names = ["reconstruction", "features_masked", "target", "features_plain"]

    def run(model, images):
        prediction = model({**inputs, "images": images})
        loss = model.compute_loss(x={**inputs, "images": images}, y_pred=prediction)
        tokens = model.mask_token(backbone.embed(images), inputs["masks"])
        return loss, [
            unpatchify(prediction, backbone.grid, patch),
            backbone.feature_map(backbone.encode(tokens)),
            unpatchify(model.target.targets(Step(images, patch)), backbone.grid, patch),
            backbone(images),
        ]

    value, gradient, _, found = value_gradients_and_more(run, task, inputs["images"])
    assert value == pytest.approx(float(figures["out/loss"]), rel=1e-5)
    assert relative_error(gradient, figures["out/grad_x"]) < 1e-3
    for name, actual in zip(names, found, strict=True):
        if f"out/{name}" in figures:
            np.testing.assert_allclose(actual, figures[f"out/{name}"], atol=1e-4)


@pytest.mark.parametrize(
    ("theirs_cls", "config_cls"),
    [(SwinForMaskedImageModeling, SwinConfig), (Swinv2ForMaskedImageModeling, Swinv2Config)],
)
def test_transformers(theirs_cls, config_cls, tmp_path):
    shared = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
    config = config_cls(image_size=64, patch_size=4, encoder_stride=8, drop_path_rate=0.0, **shared)
    theirs = theirs_cls(config)
    randomize(theirs)
    theirs.eval()
    task = of_transformers(theirs, tmp_path, mask_patch_size=8)

    images = np.random.default_rng(0).normal(size=(3, 64, 64, 3)).astype("float32")
    masks = task.draw(np.arange(3))["masks"]
    pixels = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    expected = theirs(pixels, bool_masked_pos=torch.tensor(masks.astype(bool)))
    expected.loss.backward()

    def loss(model, images):
        x = {"images": images, "masks": masks}
        return model.compute_loss(x=x, y_pred=model(x))

    value, gradient, _ = value_and_gradients(loss, task, images)
    assert value == pytest.approx(expected.loss.item(), rel=1e-5)
    # transformers' loss has no gradient but through the prediction; neither has the target's.
    assert relative_error(gradient, pixels.grad.numpy().transpose(0, 2, 3, 1)) < 1e-3


@pytest.mark.parametrize("window", [3, 11, 47])
def test_sliding_window_target_is_the_naive_loop(window):
    rng = np.random.default_rng(0)
    image = rng.normal(2.0, 0.5, size=(1, 24, 20, 3)).astype("float32")
    image[:, :8, :8] = 2.0  # nothing varies here
    half = window // 2
    expected = np.empty_like(image, dtype="float64")
    for row in range(24):
        for col in range(20):
            around = (
                image[0, max(row - half, 0) : row + half + 1, max(col - half, 0) : col + half + 1]
                .reshape(-1, 3)
                .astype("float64")
            )
            deviation = np.sqrt(around.var(0, ddof=1) + 1e-6)
            expected[0, row, col] = (image[0, row, col] - around.mean(0)) / deviation
    target = SlidingWindowTarget(window)
    actual = forward(lambda x: unpatchify(target.targets(Step(x, 4)), (6, 5), 4), image)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    back = forward(lambda x: target.pictures(Step(x, 4), target.targets(Step(x, 4))), image)
    np.testing.assert_allclose(back, image, atol=1e-4)
