"""SimMIM as a task: fit, evaluate, reconstruct, presets."""

import keras
import numpy as np
import pytest
from gradients import forward
from keras import ops
from test_swin import SMALL, awake

import mimzoo
from mimzoo.models import SwinBackbone, SwinV2Backbone, ViTBackbone
from mimzoo.pretraining import MAE, PixelTarget, RandomMasking, SimMIM, SlidingWindowTarget

one_backend = pytest.mark.one_backend

VIT = {
    "image_shape": (16, 24, 3),
    "patch_size": 4,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "position_embedding": "none",
    "relative_position_bias": "shared",
    "qkv_bias": "qv",
    "layer_scale_init": 0.1,
}


def nano_task(cls: type = SwinV2Backbone, **options) -> SimMIM:
    arguments = {**(VIT if cls is ViTBackbone else SMALL), **options.pop("backbone", {})}
    options.setdefault("masking", RandomMasking(0.6, mask_patch_size=8))
    return SimMIM(awake(cls(**arguments)), **options)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        pytest.param(SwinBackbone, {"target": SlidingWindowTarget(5)}, marks=one_backend),
        (SwinV2Backbone, {"backbone": {"remat": True}}),
        pytest.param(ViTBackbone, {}, marks=one_backend),
    ],
)
def test_fit_lowers_the_loss_and_moves_every_weight(cls, options, images):
    options = {**options, "backbone": {"drop_path_rate": 0.3, **options.get("backbone", {})}}
    task = nano_task(cls, **options)
    task.compile(keras.optimizers.AdamW(5e-3))
    before = [ops.convert_to_numpy(v) for v in task.trainable_variables]
    start = task.evaluate(images, verbose=0)
    history = task.fit(images, batch_size=8, epochs=6, validation_data=images, verbose=0)
    assert history.history["val_loss"][-1] < start - 0.02
    for old, new in zip(before, task.trainable_variables, strict=True):
        assert not np.array_equal(old, ops.convert_to_numpy(new)), new.path


def test_hidden_pixels_are_not_seen(images):
    task = nano_task()
    x = task.preprocess(images[:2])
    masks = task.draw(np.arange(2))["masks"]
    hidden = np.kron(masks.reshape(2, 8, 12), np.ones((1, 2, 2)))[..., None] > 0
    assert hidden.mean() == pytest.approx(4 / 6)
    changed = np.where(hidden, np.float32(9), x)
    first = forward(task, {"images": x, "masks": masks})
    second = forward(task, {"images": changed, "masks": masks})
    np.testing.assert_array_equal(first, second)
    third = forward(task, {"images": np.where(hidden, x, np.float32(9)), "masks": masks})
    assert not np.allclose(first, third)


@pytest.mark.parametrize("target", [PixelTarget(False, "l1"), SlidingWindowTarget(5)])
def test_reconstruct_pastes_and_denormalises(images, target):
    task = nano_task(target=target)
    pictures = task.reconstruct(images[:3])
    hidden = np.kron(pictures["masks"].reshape(3, 8, 12), np.ones((1, 2, 2))) > 0
    np.testing.assert_array_equal(pictures["original"], images[:3])
    np.testing.assert_array_equal(pictures["reconstruction"][~hidden], images[:3][~hidden])
    assert (pictures["masked"][hidden] == 128).all()
    assert (pictures["reconstruction"][hidden] != images[:3][hidden]).any()


@one_backend  # test_tasks.py shows it on all
@pytest.mark.parametrize("cls", [SwinBackbone, SwinV2Backbone, ViTBackbone])
def test_presets_keep_the_task(cls, images, tmp_path):
    task = nano_task(cls, target=SlidingWindowTarget(7, "mse"))
    task.save_to_preset(tmp_path / "p")
    loaded = SimMIM.from_preset(str(tmp_path / "p"))
    assert loaded.target.get_config() == {"window_size": 7, "loss": "mse"}
    assert loaded.masking.mask_patch_size == 8
    expected = task.evaluate(images, verbose=0)
    assert loaded.evaluate(images, verbose=0) == pytest.approx(expected, rel=1e-6)
    # Fine-tuning keeps the backbone and nothing else.
    model = mimzoo.models.ImageClassifier.from_preset(str(tmp_path / "p"), num_classes=3)
    assert model.predict(images, verbose=0).shape == (16, 3)
    for old, new in zip(task.backbone.weights, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(old), ops.convert_to_numpy(new))


def test_a_shared_bias_becomes_one_for_each_block(images, tmp_path):
    """SimMIM's fine-tuning of ViT (utils.py): every block starts from the shared table."""
    task = nano_task(ViTBackbone)
    task.backbone.save_to_preset(tmp_path / "p")
    shared = ViTBackbone.from_preset(str(tmp_path / "p"))
    own = ViTBackbone.from_preset(str(tmp_path / "p"), relative_position_bias="per_block")
    x = task.preprocess(images)
    np.testing.assert_allclose(forward(own, x), forward(shared, x), atol=1e-6)
    assert len([v for v in own.trainable_variables if v.path.endswith("/table")]) == 2
    larger = ViTBackbone.from_preset(
        str(tmp_path / "p"), relative_position_bias="per_block", image_shape=(24, 24, 3)
    )
    assert forward(larger, np.zeros((1, 24, 24, 3), "float32")).shape == (1, 37, 32)


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="MAE drops tokens, which a SwinV2Backbone"):
        MAE(SwinV2Backbone(**SMALL))
    with pytest.raises(ValueError, match="multiple of the backbone's patch_size 2"):
        nano_task(masking=RandomMasking(0.6, mask_patch_size=5))
    with pytest.raises(ValueError, match="does not divide the image of 16x24"):
        nano_task(masking=RandomMasking(0.6, mask_patch_size=32))
    with pytest.raises(ValueError, match=r"stride 4, got 18x24: .* image_shape=\(16, 24, 3\)"):
        nano_task(
            backbone={"image_shape": (18, 24, 3)}, masking=RandomMasking(0.6, mask_patch_size=2)
        )
    with pytest.raises(ValueError, match="odd and at least 3"):
        SlidingWindowTarget(46)
    with pytest.raises(ValueError, match="loss must be one of mse, l1"):
        PixelTarget(loss="mae")
