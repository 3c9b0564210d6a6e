"""Swin and Swin V2 against transformers and the official code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import golden, of_state, of_transformers
from gradients import relative_error, value_gradients_and_more
from keras import ops
from transformers import SwinConfig, SwinModel, Swinv2Config, Swinv2Model


def randomize(model: torch.nn.Module) -> None:
    """Every weight, norms and biases too, or half of the model would be tested at 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("logit_scale"):
                value.copy_(2.3 + 2 * noise)  # some above ln 100
            elif value.ndim > 1:
                value.copy_(noise * 0.5 / value.shape[-1] ** 0.5)
            else:
                value.copy_(noise * 0.1 + ("norm" in name and name.endswith("weight")))


def images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")


# height, width, window, pretrained windows; grids are a quarter of the sides. Where sides do not
# divide, transformers' Swin V2 takes the window from grids that it rounds down: both roundings
# must give the same.
CASES = {
    "square": (64, 64, 4, None),
    "shift in all stages": (128, 128, 2, None),
    "clamped window": (32, 32, 8, None),
    "padded windows": (80, 112, 4, None),
    "padded patches": (77, 109, 3, None),
    "pretrained windows": (64, 64, 8, (4, 4)),
}


def compare(theirs: torch.nn.Module, folder: Path, x: np.ndarray) -> None:
    randomize(theirs)
    theirs.eval()
    ours = of_transformers(theirs, folder)
    inputs = torch.tensor(x, requires_grad=True)
    outputs = theirs(inputs.permute(0, 3, 1, 2), output_hidden_states=True)
    expected = outputs.last_hidden_state
    (total := expected.square().sum()).backward()

    def run(model, images):
        features = model(images)
        return ops.sum(ops.square(features)), [features]

    value, gradient, _, (actual,) = value_gradients_and_more(run, ours, x)
    np.testing.assert_allclose(actual, expected.detach().numpy(), atol=1e-4)
    assert value == pytest.approx(total.item(), rel=1e-4)
    assert relative_error(gradient, inputs.grad.numpy()) < 1e-3


@pytest.mark.parametrize("case", ["square", "padded windows", "padded patches"])
def test_swin_is_transformers_swin(case, tmp_path):
    height, width, window, _ = CASES[case]
    shared = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2)}
    config = SwinConfig(
        image_size=(height, width), patch_size=4, window_size=window, drop_path_rate=0.0, **shared
    )
    compare(SwinModel(config, add_pooling_layer=False), tmp_path, images(height, width))


@pytest.mark.parametrize("case", CASES)
def test_swin_v2_is_transformers_swin_v2(case, tmp_path):
    height, width, window, pretrained = CASES[case]
    shared = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2)}
    config = Swinv2Config(
        image_size=(height, width),
        patch_size=4,
        window_size=window,
        pretrained_window_sizes=list(pretrained or (0, 0)),
        drop_path_rate=0.0,
        **shared,
    )
    compare(Swinv2Model(config, add_pooling_layer=False), tmp_path, images(height, width))


def test_golden_swin_v2_classifier(tmp_path):
    figures, state, facts = golden("swinv2_cls")
    model = of_state(state, tmp_path, **facts)

    def run(model, images):
        logits = model(images)
        return ops.sum(ops.square(logits)), [logits]

    _, gradient, _, (logits,) = value_gradients_and_more(run, model, figures["x"])
    np.testing.assert_allclose(logits, figures["out/logits"], atol=1e-4)
    assert relative_error(gradient, figures["out/grad_x_of_sum_of_squared_logits"]) < 1e-3
