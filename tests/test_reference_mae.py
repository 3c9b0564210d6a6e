"""ViT and MAE against figures that we did not compute."""

import keras
import numpy as np
import pytest
from checkpoints import golden, of_state, of_transformers
from gradients import forward, relative_error, value_and_gradients
from keras import ops

from mimzoo.layers.patches import patchify


def masks_from_noise(noise: np.ndarray, visible: int) -> np.ndarray:
    masks = np.ones(noise.shape, "uint8")
    np.put_along_axis(masks, np.argsort(noise, axis=1)[:, :visible], 0, axis=1)
    return masks


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The official tiny model's figures, our task with its weights, and the inputs."""
    figures, state, facts = golden("mae")
    task = of_state(state, tmp_path_factory.mktemp("mae"), **facts)
    inputs = {"images": figures["x"], "masks": masks_from_noise(figures["noise"], 16)}
    return figures, task, inputs


def test_golden_prediction_mask_and_loss(official):
    figures, task, inputs = official
    np.testing.assert_array_equal(inputs["masks"], figures["out/mask"])
    prediction = task(inputs)
    np.testing.assert_allclose(
        ops.convert_to_numpy(prediction), figures["out/prediction"], atol=1e-4
    )
    loss = task.compute_loss(x=inputs, y_pred=prediction)
    loss = float(ops.convert_to_numpy(loss))
    assert loss == pytest.approx(float(figures["out/loss"]), rel=1e-5)
    evaluated = task.evaluate(inputs, batch_size=2, verbose=0)
    assert evaluated == pytest.approx(float(figures["out/loss"]), rel=1e-5)


def test_golden_features(official):
    figures, task, inputs = official
    whole = ops.convert_to_numpy(task.backbone(inputs["images"]))
    np.testing.assert_allclose(whole, figures["out/features_unmasked"], atol=1e-4)
    visible = ops.convert_to_numpy(task.encode_visible(inputs))
    # The official code keeps its shuffled order; ours is the order of the grid.
    order = np.argsort(np.argsort(figures["noise"], axis=1)[:, :16], axis=1)
    expected = np.take_along_axis(figures["out/latent_visible"][:, 1:], order[..., None], axis=1)
    np.testing.assert_allclose(visible[:, 1:], expected, atol=1e-4)
    np.testing.assert_allclose(visible[:, 0], figures["out/latent_visible"][:, 0], atol=1e-4)


def test_golden_input_gradient(official):
    figures, task, inputs = official

    def loss(model, images):
        x = {**inputs, "images": images}
        return model.compute_loss(x=x, y_pred=model(x))

    value, gradient, _ = value_and_gradients(loss, task, inputs["images"])
    assert value == pytest.approx(float(figures["out/loss"]), rel=1e-5)
    assert relative_error(gradient, figures["out/grad_x"]) < 1e-4


@pytest.fixture(scope="module")
def transformers_mae(tmp_path_factory):
    """A ViTMAE of transformers, random weights and biases, and our copy of it."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=192,
        image_size=48,
        patch_size=8,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=128,
        norm_pix_loss=True,
    )
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "pos_embed" not in name and "position_embeddings" not in name:
                weight.add_(torch.randn_like(weight) * 0.05)
    return theirs, of_transformers(theirs, tmp_path_factory.mktemp("vit_mae"))


@pytest.mark.parametrize("normalize", [True, False])
def test_transformers_mae(transformers_mae, normalize):
    import torch

    theirs, ours = transformers_mae
    theirs.config.norm_pix_loss = normalize
    ours.target.normalize = normalize
    rng = np.random.default_rng(1)
    images = rng.normal(size=(3, 48, 48, 3)).astype("float32")
    noise = rng.random((3, 36)).astype("float32")
    pixels = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    expected = theirs(pixel_values=pixels, noise=torch.tensor(noise))
    theirs.zero_grad()
    expected.loss.backward()
    inputs = {"images": images, "masks": masks_from_noise(noise, 9)}

    def loss(model, x):
        x = {**inputs, "images": x}
        return model.compute_loss(x=x, y_pred=model(x))

    np.testing.assert_allclose(forward(ours, inputs), expected.logits.detach().numpy(), atol=1e-4)
    value, gradient, by_weight = value_and_gradients(loss, ours, images)
    assert value == pytest.approx(expected.loss.item(), rel=1e-5)
    assert relative_error(gradient, pixels.grad.numpy().transpose(0, 2, 3, 1)) < 1e-4
    paths = [v.path for v in ours.trainable_variables]
    mask_token = by_weight[next(i for i, p in enumerate(paths) if p.endswith("mask_token"))]
    assert relative_error(mask_token, theirs.decoder.mask_token.grad.numpy()) < 1e-4


def test_transformers_vit(tmp_path):
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=192,
        image_size=(32, 48),
        patch_size=8,
    )
    theirs = transformers.ViTModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    ours = of_transformers(theirs, tmp_path)
    assert (ours.image_shape, ours.position_embedding) == ((32, 48, 3), "learned")
    images = np.random.default_rng(1).normal(size=(2, 32, 48, 3)).astype("float32")
    with torch.no_grad():
        pixels = torch.tensor(images.transpose(0, 3, 1, 2))
        expected = theirs(pixels, output_hidden_states=True)
    np.testing.assert_allclose(forward(ours, images), expected.last_hidden_state.numpy(), atol=1e-4)
    middle = keras.Model(ours.input, ours.intermediate_outputs[1])
    np.testing.assert_allclose(
        forward(middle, images), expected.hidden_states[2].numpy(), atol=1e-4
    )


def test_patch_order_is_row_column_channel():
    image = np.arange(4 * 6 * 3, dtype="float32").reshape(1, 4, 6, 3)
    patches = ops.convert_to_numpy(patchify(image, 2))
    np.testing.assert_array_equal(patches[0, 4], image[0, 2:4, 2:4].reshape(-1))
