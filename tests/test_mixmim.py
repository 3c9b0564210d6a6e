"""MixMIM as a task, and its backbone."""

import json

import keras
import numpy as np
import pytest
from gradients import forward, value_and_gradients
from keras import ops
from test_swin import SMALL, awake

from mimzoo.models import ImageClassifier, MixMIMBackbone, SwinBackbone, SwinV2Backbone, ViTBackbone
from mimzoo.models.layer_decay import mixmim_layer_decay_scales
from mimzoo.optimizers.groups import multipliers
from mimzoo.pretraining import FeatureTarget, HOGTarget, MixMasking, MixMIM, MixMIMDecoder
from mimzoo.pretraining.targets import Step

one_backend = pytest.mark.one_backend

BACKBONE = {**SMALL, "window_size": (4, 4)}


def nano_task(cls: type = MixMIMBackbone, **options) -> MixMIM:
    backbone = awake(cls(**{**BACKBONE, **options.pop("backbone", {})}))
    options.setdefault("decoder", MixMIMDecoder(16, 1, 2, name="decoder"))
    options.setdefault("masking", MixMasking(mask_patch_size=8))
    return MixMIM(backbone, **options)


def inputs_of(task: MixMIM, images: np.ndarray) -> dict:
    return {"images": task.preprocess(images), "masks": task.draw(np.arange(len(images)))["masks"]}


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (MixMIMBackbone, {"mixing_embedding": True}),
        pytest.param(
            MixMIMBackbone,
            {
                "backbone": {"remat": True},
                "masking": MixMasking(mask_patch_size=8, shared="batch"),
            },
            marks=one_backend,
        ),
        pytest.param(SwinBackbone, {}, marks=one_backend),
        pytest.param(SwinV2Backbone, {"backbone": {"remat": True}}, marks=one_backend),
    ],
)
def test_fit_lowers_the_loss_and_moves_every_weight(cls, options, images):
    backbone = {"drop_path_rate": 0.2, **options.get("backbone", {})}
    task = nano_task(cls, **{**options, "backbone": backbone})
    task.compile(keras.optimizers.AdamW(5e-3))
    before = [ops.convert_to_numpy(v) for v in task.trainable_variables]
    fixed = ops.convert_to_numpy(task.decoder.positions.table)
    start = task.evaluate(images, verbose=0)
    history = task.fit(images, batch_size=8, epochs=6, validation_data=images, verbose=0)
    assert history.history["val_loss"][-1] < start - 0.02
    for old, new in zip(before, task.trainable_variables, strict=True):
        assert not np.array_equal(old, ops.convert_to_numpy(new)), new.path
    np.testing.assert_array_equal(fixed, ops.convert_to_numpy(task.decoder.positions.table))


@pytest.mark.parametrize(
    "cls",
    [MixMIMBackbone, *(pytest.param(c, marks=one_backend) for c in (SwinBackbone, SwinV2Backbone))],
)
def test_no_token_of_one_image_reaches_the_other(cls, images):
    task = nano_task(cls)
    inputs = inputs_of(task, images[:4])
    shows_partner = ops.convert_to_numpy(task._of_positions(inputs["masks"]))
    own = (~shows_partner[0]).astype("float32")[None, :, None]

    def of_the_first(pixels):
        features = task.encode_mixed({**inputs, "images": pixels})[:1]
        return ops.sum(ops.square(features) * ops.convert_to_tensor(own))

    # Not by the decoder's weights, which these features do not come from.
    run, model = (lambda _, pixels: of_the_first(pixels)), task.backbone
    _, gradient, _ = value_and_gradients(run, model, inputs["images"])
    assert np.abs(gradient[0]).max() > 0
    assert (gradient[1:] == 0).all()


def test_each_patch_is_predicted_once_and_unseen(images):
    task = nano_task()
    inputs = inputs_of(task, images)
    before = forward(task, inputs).reshape(16, 4, 6, -1)
    # Another picture in one cell of an image changes its predictions, but not that cell's.
    for number, (row, col) in enumerate([(1, 2), (0, 5), (3, 3)]):
        images = inputs["images"].copy()
        images[number, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4] = 9
        found = forward(task, {**inputs, "images": images}).reshape(before.shape)
        np.testing.assert_array_equal(found[number, row, col], before[number, row, col])
        assert not np.array_equal(found[number], before[number])


@pytest.mark.parametrize("devices", [2, *(pytest.param(n, marks=one_backend) for n in (1, 4, 8))])
def test_pairs_stay_on_a_device(images, devices):
    """Shards of a batch, each alone, give what the whole batch gives."""
    task = nano_task()
    inputs = inputs_of(task, images)
    whole = forward(task, inputs)
    shards = [
        forward(task, {k: v[first : first + 16 // devices] for k, v in inputs.items()})
        for first in range(0, 16, 16 // devices)
    ]
    np.testing.assert_allclose(np.concatenate(shards), whole, atol=1e-5)


def test_masks():
    grid = (8, 12)
    masks = MixMasking(seed=3, mask_patch_size=8).draw(np.arange(12), 0, grid, 2)
    cells = masks.reshape(12, 2, 4, 3, 4)
    np.testing.assert_array_equal(cells.min((2, 4)), cells.max((2, 4)))
    assert (cells[:, :, 0, :, 0].sum((1, 2)) == 3).all()
    np.testing.assert_array_equal(masks[::2], masks[1::2])
    assert len(np.unique(masks, axis=0)) > 2
    # They follow from the first of the pair, wherever it lies.
    moved = MixMasking(seed=3, mask_patch_size=8).draw(np.array([4, 9, 0, 7]), 0, grid, 2)
    np.testing.assert_array_equal(moved[[0, 2]], masks[[4, 0]])
    published = MixMasking(seed=3, mask_patch_size=8, shared="batch").draw(
        np.arange(12), 0, grid, 2, training=True
    )
    np.testing.assert_array_equal(published, np.repeat(masks[:1], 12, axis=0))
    # int(49 x 0.5) of 7 x 7 cells.
    assert MixMasking().draw(np.arange(2), 0, (7, 7), 32).sum() == 48
    wide = MixMasking(0.3, mask_ratio_range=0.4).draw(np.arange(2000), 0, (10, 10), 32).sum(1)
    assert wide.min() == 30
    assert 68 <= wide.max() <= 69
    assert wide.mean() == pytest.approx(49.5, abs=1)


@one_backend
def test_reconstruct(images):
    task = nano_task()
    pictures = task.reconstruct(images[:6], batch_size=4)
    shows_partner = np.kron(pictures["masks"].reshape(6, 8, 12), np.ones((1, 2, 2))) > 0
    original, partner = pictures["original"], pictures["partner"]
    np.testing.assert_array_equal(original, images[:6])
    np.testing.assert_array_equal(partner, images[[1, 0, 3, 2, 5, 4]])
    mixture = np.where(shows_partner[..., None], partner, original)
    np.testing.assert_array_equal(pictures["masked"], mixture)
    own, other = pictures["reconstruction"], pictures["partner_reconstruction"]
    np.testing.assert_array_equal(own[~shows_partner], original[~shows_partner])
    np.testing.assert_array_equal(other[shows_partner], partner[shows_partner])
    # What is painted of an image is what its mixture, or its partner's, predicts for it.
    x = inputs_of(task, images[:6])
    painted = task.to_pixels(
        ops.convert_to_numpy(task.target.pictures(Step(x["images"], 4), forward(task, x)))
    )
    np.testing.assert_allclose(own[shows_partner], painted[shows_partner], atol=1)
    whole = other[[1, 0, 3, 2, 5, 4]]
    np.testing.assert_allclose(whole[~shows_partner], painted[~shows_partner], atol=1)


@pytest.mark.one_backend
def test_other_targets(images):
    """Every cell is predicted once, whatever as."""
    teacher = ViTBackbone((16, 24, 3), 4, 32, 2, 2)
    for target in (HOGTarget(cell_size=4), FeatureTarget(teacher, dtype="float32")):
        task = nano_task(target=target)
        start = task.evaluate(images, verbose=0)
        task.compile(keras.optimizers.AdamW(5e-3))
        task.fit(images, batch_size=16, epochs=4, verbose=0)
        assert task.evaluate(images, verbose=0) < start
        pictures = task.reconstruct(images[:4])
        shows_partner = task.to_image(pictures["masks"])[..., 0]
        for name, where in (("", ~shows_partner), ("partner_", shows_partner)):
            found, perfect = pictures[f"{name}reconstruction"], pictures[f"{name}target"]
            np.testing.assert_array_equal(found[where], perfect[where])
            assert not np.array_equal(found[~where], perfect[~where])
        x = inputs_of(task, images)
        wanted = target.loss(Step(ops.convert_to_tensor(x["images"]), 4), forward(task, x))
        expected = float(np.mean(ops.convert_to_numpy(wanted)))
        assert task.evaluate(images, batch_size=4, verbose=0) == pytest.approx(expected, rel=1e-4)


@one_backend  # test_tasks.py shows it on all
@pytest.mark.parametrize("mixing_embedding", [False, True])
def test_presets_keep_the_task(mixing_embedding, images, tmp_path):
    masking = MixMasking(0.4, 5, 8, mask_ratio_range=0.2)
    task = nano_task(mixing_embedding=mixing_embedding, masking=masking)
    task.save_to_preset(tmp_path / "p")
    loaded = MixMIM.from_preset(str(tmp_path / "p"))
    assert loaded.masking.get_config() == masking.get_config()
    expected = task.evaluate(images, verbose=0)
    assert loaded.evaluate(images, verbose=0) == pytest.approx(expected, rel=1e-6)
    config = json.loads((tmp_path / "p" / "config.json").read_text())["config"]
    assert config["window_size"] == [4, 4]
    # Fine-tuning keeps the backbone, at another size and with other windows.
    model = ImageClassifier.from_preset(
        str(tmp_path / "p"), num_classes=3, image_shape=(24, 32, 3), window_size=(6, 6)
    )
    assert model.predict(images, verbose=0).shape == (16, 3)
    same = ImageClassifier.from_preset(str(tmp_path / "p"), num_classes=3)
    x = task.preprocess(images)
    np.testing.assert_allclose(forward(same.backbone, x), forward(task.backbone, x), atol=1e-6)


@pytest.mark.one_backend
def test_published_parameter_counts():
    """models_mixmim.py: base 88.34M with positions and 1,000 classes, 114.67M in pretraining."""
    task = MixMIM(MixMIMBackbone.from_size("base"), preprocessor=None, compile=False)
    head = 1024 * 1000 + 1000
    assert (task.backbone.count_params() + head) / 1e6 == pytest.approx(88.34, abs=0.005)
    assert task.count_params() / 1e6 == pytest.approx(114.67, abs=0.005)


def test_pyramid_and_intermediates(images):
    backbone = MixMIMBackbone(**BACKBONE)
    assert {k: v.shape[1:] for k, v in backbone.pyramid_outputs.items()} == {
        "P1": (8, 12, 16),
        "P2": (4, 6, 32),
    }
    assert len(backbone.intermediate_outputs) == 3


def test_layer_decay_is_the_published_one():
    backbone = MixMIMBackbone(**BACKBONE)
    model = ImageClassifier.for_backbone(MixMIMBackbone)(backbone, num_classes=2)
    scales = mixmim_layer_decay_scales((2, 1), 0.5)
    found = dict(
        zip(
            [v.path for v in model.trainable_variables],
            multipliers(model.trainable_variables, scales),
            strict=True,
        )
    )
    expected = {
        "patch_embed": 0.5**4,
        "stage_0_block_0": 0.5**3,
        "stage_0_block_1": 0.5**2,
        "stage_0_merging": 0.5,
        "stage_1_block_0": 0.5,
        "predictions": 0.5,
    }
    for name, scale in expected.items():
        values = {v for path, v in found.items() if f"{name}/" in path}
        assert values == {scale}, name


def test_an_odd_image_is_left_out_and_reported(images, caplog):
    task = nano_task()
    assert task.evaluate(images[:7], batch_size=4, verbose=0) == task.evaluate(
        images[:6], batch_size=4, verbose=0
    )
    assert "1 of the 7 images of array are left out of each epoch" in caplog.text


def test_errors_say_what_does_not_fit(images):
    task = nano_task()
    with pytest.raises(ValueError, match="batch_size must be a multiple of 2, got 5"):
        task.fit(images, batch_size=5, verbose=0)
    x = inputs_of(task, images[:4])
    with pytest.raises(ValueError, match="an even number"):
        task(dict(zip(x, (v[:3] for v in x.values()), strict=True)))
    with pytest.raises(ValueError, match="an even number"):
        task.reconstruct(images[:3])
    for wrong in (x["masks"][[0, 2, 1, 3]], np.roll(x["masks"], 1, axis=1), x["masks"][:, :9]):
        with pytest.raises(ValueError, match="equal within squares of 4 px and for images 2k"):
            task.fit({**x, "masks": wrong}, verbose=0)
    with pytest.raises(ValueError, match="two images in one token of the last stage"):
        nano_task(masking=MixMasking(mask_patch_size=2))
    with pytest.raises(ValueError, match=r"stride 4, got 18x24"):
        nano_task(backbone={"image_shape": (18, 24, 3)})
    with pytest.raises(ValueError, match="a ViTBackbone is not"):
        MixMIM(ViTBackbone.from_size("nano"))
    with pytest.raises(ValueError, match="one for each of the 2 stages"):
        MixMIMBackbone(**{**BACKBONE, "window_size": (4, 4, 4)})
    with pytest.raises(ValueError, match="'pair' or 'batch'"):
        MixMasking(shared="device")
    with pytest.raises(ValueError, match="between 0 and 1 - mask_ratio"):
        MixMasking(0.5, mask_ratio_range=0.6)
