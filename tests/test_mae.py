"""MAE as a task: fit, evaluate, reconstruct, presets."""

import keras
import numpy as np
import pytest
from gradients import forward
from keras import ops

from mimzoo.models import ViTBackbone
from mimzoo.pretraining import MAE, MAEDecoder, PixelTarget, RandomMasking
from mimzoo.pretraining.targets import Step


def nano_task(**options) -> MAE:
    backbone = ViTBackbone((16, 24, 3), 4, 32, 2, 2, **options.pop("backbone", {}))
    return MAE(backbone, decoder=MAEDecoder(16, 1, 2), **options)


@pytest.mark.parametrize(
    "backbone",
    [
        {"drop_path_rate": 0.3},
        pytest.param({"class_token": False, "remat": True}, marks=pytest.mark.one_backend),
        pytest.param(
            {"relative_position_bias": "shared", "qkv_bias": "qv"}, marks=pytest.mark.one_backend
        ),
    ],
    ids=str,
)
def test_fit_lowers_the_loss_and_moves_every_weight(images, backbone):
    task = nano_task(backbone=backbone)
    task.compile(keras.optimizers.AdamW(5e-3))
    before = [ops.convert_to_numpy(v) for v in task.trainable_variables]
    start = task.evaluate(images, verbose=0)
    history = task.fit(images, batch_size=8, epochs=6, validation_data=images, verbose=0)
    assert history.history["val_loss"][-1] < start - 0.02
    for old, new in zip(before, task.trainable_variables, strict=True):
        assert not np.array_equal(old, ops.convert_to_numpy(new)), new.path


def test_ready_inputs_give_the_same_loss(images):
    task = nano_task()
    expected = task.evaluate(images, batch_size=8, verbose=0)
    ready = {"images": task.preprocess(images), **task.draw(np.arange(16))}
    assert task.evaluate(ready, batch_size=8, verbose=0) == pytest.approx(expected, rel=1e-6)
    history = task.fit(ready, epochs=2, validation_data=ready, verbose=0)
    assert len(history.history["val_loss"]) == 2


def test_encoder_sees_visible_patches_only(images):
    task = nano_task()
    x = task.preprocess(images[:2])
    masks = task.draw(np.arange(2))["masks"]
    hidden = np.kron(masks.reshape(2, 4, 6), np.ones((1, 4, 4)))[..., None]
    noise = np.random.default_rng(0).normal(size=x.shape).astype("float32")
    changed = np.where(hidden > 0, noise, x).astype("float32")
    first = forward(task, {"images": x, "masks": masks})
    second = forward(task, {"images": changed, "masks": masks})
    np.testing.assert_array_equal(first, second)


def test_reconstruct_pastes_and_denormalises(images):
    task = nano_task(target=PixelTarget(normalize=True))
    pictures = task.reconstruct(images[:3])
    hidden = np.kron(pictures["masks"].reshape(3, 4, 6), np.ones((1, 4, 4))) > 0
    np.testing.assert_array_equal(pictures["original"], images[:3])
    np.testing.assert_array_equal(pictures["reconstruction"][~hidden], images[:3][~hidden])
    assert (pictures["masked"][hidden] == 128).all()
    # A perfect prediction gives the image back.
    x = task.preprocess(images[:3])
    patches = x.reshape(3, 4, 4, 6, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(3, 24, 48)
    mean, std = patches.mean(-1, keepdims=True), patches.std(-1, ddof=1, keepdims=True)
    perfect = (patches - mean) / np.sqrt(std**2 + 1e-6)
    painted = ops.convert_to_numpy(task.target.pictures(Step(x, 4), perfect))
    np.testing.assert_allclose(painted, x, atol=1e-4)


def test_preset_round_trip_with_decoder(images, tmp_path):
    task = nano_task(masking=RandomMasking(0.6, seed=4), target=PixelTarget(normalize=False))
    task.save_to_preset(tmp_path / "p")
    loaded = MAE.from_preset(str(tmp_path / "p"))
    assert loaded.masking.mask_ratio == 0.6
    assert loaded.target.normalize is False
    assert loaded.evaluate(images, verbose=0) == pytest.approx(
        task.evaluate(images, verbose=0), rel=1e-6
    )
    other = MAE.from_preset(str(tmp_path / "p"), image_shape=(32, 32, 3))
    assert np.isfinite(other.evaluate(images, verbose=0))


def test_bfloat16_loss_is_close(images):
    exact = nano_task()
    half = nano_task(backbone={"dtype": "mixed_bfloat16"})
    for a, b in zip(half.weights, exact.weights, strict=True):
        a.assign(ops.convert_to_numpy(b))
    assert half.evaluate(images, verbose=0) == pytest.approx(
        exact.evaluate(images, verbose=0), rel=1e-2
    )


@pytest.mark.skipif(keras.config.backend() != "torch", reason="the others run compiled steps")
def test_a_step_runs_the_model_once(images, monkeypatch):
    task, calls = nano_task(), []
    inputs = {"images": task.preprocess(images[:4]), "masks": task.draw(np.arange(4))["masks"]}
    encode = task.backbone.encode
    monkeypatch.setattr(
        task.backbone, "encode", lambda *args, **more: calls.append(1) or encode(*args, **more)
    )
    keras.Model.train_on_batch(task, inputs)
    assert len(calls) == 1


@pytest.mark.skipif(keras.config.backend() != "torch", reason="only torch keeps gradients")
def test_a_step_lets_go_of_its_gradients(images):
    task = nano_task()
    task.fit(images, batch_size=4, verbose=0)
    assert all(v.value.grad is None for v in task.trainable_variables)


def test_errors_say_what_to_do(images):
    task = nano_task()
    with pytest.raises(ValueError, match=r"compile without loss\."):
        task.compile("adam", loss="mse")
    with pytest.raises(ValueError, match="there are no images"):
        task.fit(images[:0])
    with pytest.raises(ValueError, match="18 ones in each row"):
        task.evaluate({"images": task.preprocess(images), "masks": np.ones((16, 24))})
    with pytest.raises(ValueError, match="with C 1 or 3"):
        task.fit(np.zeros((2, 8, 8, 5), "uint8"))
    with pytest.raises(ValueError, match="resize them"):
        nano_task(preprocessor=None).fit(np.zeros((2, 8, 8, 3), "float32"))
    with pytest.raises(ValueError, match="nobody knows which values are black and white"):
        nano_task(preprocessor=None).reconstruct(np.zeros((2, 16, 24, 3), "float32"))
