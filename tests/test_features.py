"""Features of a frozen teacher as a target."""

import keras
import keras_hub
import numpy as np
import pytest
from gradients import forward, value_and_gradients
from keras import ops
from PIL import Image
from test_simmim import nano_task as nano_simmim
from test_swin import SMALL, awake

from mimzoo.layers.resize import image_matrix
from mimzoo.models import SwinBackbone, SwinV2Backbone, ViTBackbone
from mimzoo.models.vit import vit_backbone
from mimzoo.pretraining import MAE, FeatureTarget, MAEDecoder, RandomMasking, SimMIM
from mimzoo.pretraining.targets import Step
from mimzoo.pretraining.task import MIMPreprocessor
from mimzoo.tasks.preprocessing import ImageConverter

VIT = {"image_shape": (16, 24, 3), "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}


def vit(**options) -> ViTBackbone:
    return awake(ViTBackbone(**{**VIT, **options}))


def target_of(teacher, **options) -> FeatureTarget:
    return FeatureTarget(teacher, **{"dtype": "float32", **options})


def mae(target: FeatureTarget, **options) -> MAE:
    return MAE(vit(), decoder=MAEDecoder(32, 1, 2), target=target, **options)


def simmim(target: FeatureTarget) -> SimMIM:
    return nano_simmim(SwinV2Backbone, target=target)


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def layer_norm(x: np.ndarray) -> np.ndarray:
    x = x.astype("float64")
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


# --- what the target is ---------------------------------------------------------------------------


def dinov2() -> keras.Model:
    return keras_hub.models.DINOV2Backbone(
        8, 2, 16, 2, 32, num_register_tokens=2, image_shape=(32, 32, 3)
    )


def clip() -> keras.Model:
    return keras_hub.models.CLIPVisionEncoder(8, 16, 2, 2, 32, image_shape=(32, 32, 3))


def dinov3() -> keras.Model:
    return keras_hub.models.DINOV3Backbone(8, 2, 16, 2, 32, image_shape=(32, 32, 3))


def hub_vit() -> keras.Model:
    return keras_hub.models.ViTBackbone((32, 32, 3), 8, 2, 2, 16, 32)


@pytest.mark.parametrize(
    ("make", "front"),
    [
        (vit, 1),
        (lambda: vit(class_token=False, final_norm=False), 0),
        (lambda: awake(SwinBackbone(**SMALL)), 0),
        (hub_vit, 1),
        (dinov2, 3),
        (dinov3, 5),
        (clip, 1),
    ],
)
def test_the_output_of_the_teacher_run_beside_it(make, front):
    teacher = make()
    images = random_images(2, *teacher.inputs[0].shape[1:])
    name = next(iter(teacher.input)) if isinstance(teacher.input, dict) else None
    own = forward(lambda x: teacher({name: x} if name else x, training=False), images)[:, front:]
    cell = int((images[0, ..., 0].size / own.shape[1]) ** 0.5)

    plain = target_of(teacher, layer_norm=False)
    found = forward(lambda x: plain.targets(Step(x, cell)), images)
    np.testing.assert_allclose(found, own, atol=1e-5)
    normed = target_of(teacher)
    assert normed.size(cell, 3) == own.shape[-1]
    found = forward(lambda x: normed.targets(Step(x, cell)), images)
    np.testing.assert_allclose(found, layer_norm(own), atol=1e-4)


@pytest.mark.one_backend
def test_layers_are_normalised_then_averaged():
    teacher = vit(depth=3)
    images = random_images(2, 16, 24, 3)
    tokens, blocks = teacher.embed(images), []
    tokens = teacher.class_token_layer(teacher.positions(tokens))
    for block in teacher.blocks:
        tokens = block(tokens)
        blocks.append(ops.convert_to_numpy(tokens)[:, 1:])
    for layers, used in ((1, [1]), ([0, -1], [0, 2]), (range(3), [0, 1, 2])):
        target = target_of(teacher, layers=layers)
        expected = np.mean([layer_norm(blocks[n]) for n in used], axis=0)
        actual = forward(lambda x, target=target: target.targets(Step(x, 4)), images)
        np.testing.assert_allclose(actual, expected, atol=1e-4)
    target = target_of(teacher, layers=[0, 1], layer_norm=False)
    actual = forward(lambda x: target.targets(Step(x, 4)), images)
    np.testing.assert_allclose(actual, (blocks[0] + blocks[1]) / 2, atol=1e-5)


@pytest.mark.parametrize("builder", [hub_vit, dinov2, dinov3, clip])
def test_blocks_of_keras_hub(builder):
    """The last block, put through the final norm, is the output."""
    teacher = builder()
    images = random_images(2, 32, 32, 3)
    block = forward(target_of(teacher, layers=[-1], layer_norm=False).features, images)
    first = forward(target_of(teacher, layers=[0], layer_norm=False).features, images)
    output = forward(target_of(teacher, layer_norm=False).features, images)
    norms = [x for x in teacher._flatten_layers() if isinstance(x, keras.layers.LayerNormalization)]
    finals = [x for x in norms if x.name in ("ln", "layer_norm", "layernorm")]
    found = ops.convert_to_numpy(finals[-1](block))
    np.testing.assert_allclose(found, output, atol=1e-5)
    assert not np.allclose(first, block)


@pytest.mark.one_backend
def test_a_finer_grid_is_averaged():
    teacher = vit(patch_size=2)
    images = random_images(2, 16, 24, 3)
    target = target_of(teacher)
    fine = layer_norm(ops.convert_to_numpy(teacher(images))[:, 1:]).reshape(2, 4, 2, 6, 2, 16)
    actual = forward(lambda x: target.targets(Step(x, 4)), images)
    np.testing.assert_allclose(actual, fine.mean((2, 4)).reshape(2, 24, 16), atol=1e-4)


@pytest.mark.parametrize("new", [(14, 10), (40, 50), (20, 11)])
def test_images_are_resized_as_pillow_does(new):
    image = random_images(20, 33)
    expected = np.asarray(Image.fromarray(image).resize(new[::-1], Image.Resampling.BICUBIC))
    actual = image_matrix(20, new[0]) @ image @ image_matrix(33, new[1]).T
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.one_backend
def test_size_and_normalisation_become_the_teachers(images):
    """The student sees 16 x 24 px as ImageNet's, the teacher 8 x 12 in -1..1."""
    teacher = vit(image_shape=(8, 12, 3), patch_size=2)
    target = target_of(teacher, mean=[0.5] * 3, std=[0.5] * 3, layer_norm=False)
    task = mae(target)
    pixels = images.astype("float32") / 127.5 - 1
    small = np.einsum("hH,wW,bHWc->bhwc", image_matrix(16, 8), image_matrix(24, 12), pixels)
    expected = ops.convert_to_numpy(teacher(small))[:, 1:]
    actual = forward(lambda x: target.targets(Step(x, 4)), task.preprocess(images))
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("loss", ["smooth_l1", "mse", "cosine"])
def test_losses(loss):
    target = target_of(vit(), loss=loss, beta=0.5)
    images, predictions = random_images(2, 16, 24, 3), random_images(2, 24, 16)
    targets = forward(lambda x: target.targets(Step(x, 4)), images).astype("float64")
    error = np.abs(predictions - targets)
    if loss == "mse":
        expected = (error**2).mean(-1)
    elif loss == "smooth_l1":
        assert (error < 0.5).any()
        assert (error > 0.5).any()
        expected = np.where(error < 0.5, error**2 / 2 / 0.5, error - 0.25).mean(-1)
    else:
        norms = np.linalg.norm(predictions, axis=-1) * np.linalg.norm(targets, axis=-1)
        expected = 1 - (predictions * targets).sum(-1) / norms
    actual = forward(lambda x: target.loss(Step(x, 4), predictions), images)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("make", [mae, simmim])
def test_on_masked_or_all_cells(make, images):
    for on in ("masked", "all"):
        task = make(target_of(vit(), loss_on=on))
        x = task.preprocess(images)
        inputs = {"images": x, "masks": task.draw(np.arange(16))["masks"]}
        predictions = random_images(16, 24, 16)
        loss = ops.convert_to_numpy(task.target.loss(Step(x, 4), predictions))
        patch = task.backbone.patch_size
        hidden = inputs["masks"].reshape(16, 4, 4 // patch, 6, 4 // patch).mean((2, 4))
        weights = hidden.reshape(16, 24) if on == "masked" else np.ones((16, 24))
        actual = float(ops.convert_to_numpy(task.compute_loss(x=inputs, y_pred=predictions)))
        assert actual == pytest.approx((loss * weights).sum() / weights.sum(), rel=1e-5)


# --- training -------------------------------------------------------------------------------------


class CountingPatchEmbed(vit_backbone.PatchEmbed):
    """Counts in a variable, so that compiled steps count, too."""

    def build(self, input_shape):
        super().build(input_shape)
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

    def call(self, images):
        self.count.assign_add(1.0)
        return super().call(images)


def test_one_forward_pass_a_step(images, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(vit_backbone, "PatchEmbed", CountingPatchEmbed)
        target = target_of(vit(), layers=[0, 1])
        (count,) = (v for v in target.teacher.held if v.path.endswith("count"))
    task = mae(target)
    count.assign(0.0)
    task.fit(images, batch_size=4, epochs=3, verbose=0)
    assert float(ops.convert_to_numpy(count)) == 12
    task.evaluate(images, batch_size=8, verbose=0)
    assert float(ops.convert_to_numpy(count)) == 14


@pytest.mark.one_backend  # mae_following in test_tasks.py shows it on all
@pytest.mark.parametrize(("make", "loss"), [(mae, "smooth_l1"), (simmim, "cosine")])
def test_training_lowers_the_loss_and_leaves_the_teacher(make, loss, images):
    teacher = vit(drop_path_rate=0.5)
    task = make(target_of(teacher, loss=loss, dtype="mixed_bfloat16"))
    task.compile(keras.optimizers.AdamW(5e-3))
    frozen = task.frozen_variables
    assert {id(v) for v in frozen} <= {id(v) for v in task.non_trainable_variables}
    assert not {id(v) for v in frozen} & {id(v) for v in task.trainable_variables}
    before = [ops.convert_to_numpy(v) for v in frozen]
    start = task.evaluate(images, verbose=0)
    history = task.fit(images, batch_size=8, epochs=6, validation_data=images, verbose=0)
    assert history.history["val_loss"][-1] < 0.9 * start
    for old, new in zip(before, frozen, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
    # A copy was taken: what becomes of the original does not matter.
    value = task.evaluate(images, verbose=0)
    for weight in teacher.weights:
        weight.assign(weight * 0.0)
    assert task.evaluate(images, verbose=0) == value


def test_a_compiled_step_reads_the_teacher_as_a_variable(images):
    """On JAX what is not tracked would be a constant of the step."""
    task = mae(target_of(vit()))
    before = task.evaluate(images, verbose=0)
    for weight in task.frozen_variables:
        weight.assign(weight * 1.5 + 0.1)
    assert task.evaluate(images, verbose=0) != pytest.approx(before, rel=1e-4)


def test_no_gradient_goes_into_the_teacher():
    task = mae(target_of(vit()))

    def function(model, images):
        found = task.target.targets(Step(images, 4))
        if keras.config.backend() == "torch":
            assert found.grad_fn is None
        weights = list(model.trainable_variables)
        return ops.sum(found) + sum(ops.sum(w) * 0.0 for w in weights) + ops.sum(images) * 0.0

    _, gradient, _ = value_and_gradients(function, task, random_images(2, 16, 24, 3))
    assert not gradient.any()


def test_low_precision_inside_float32_outside():
    images = random_images(2, 16, 24, 3)
    teacher = vit()
    target = FeatureTarget(teacher)
    assert target.model.outputs[0].dtype == "bfloat16"
    found = target.targets(Step(ops.convert_to_tensor(images), 4))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    predictions = ops.cast(random_images(2, 24, 16), "bfloat16")
    loss = target.loss(Step(ops.convert_to_tensor(images), 4), predictions)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    exact = forward(lambda x: target_of(teacher).targets(Step(x, 4)), images)
    difference = np.abs(ops.convert_to_numpy(found) - exact)
    assert 0 < difference.max() < 0.2


# --- pictures and errors --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [mae, simmim])
@pytest.mark.one_backend
def test_pictures(make, images):
    task = make(target_of(vit()))
    pictures = task.reconstruct(images[:3])
    patch = task.backbone.patch_size
    masks = pictures["masks"].reshape(3, *task.backbone.grid)
    hidden = np.kron(masks, np.ones((1, patch, patch))) > 0
    target, painted = pictures["target"], pictures["reconstruction"]
    assert target.shape == painted.shape == images[:3].shape
    np.testing.assert_array_equal(painted[~hidden], target[~hidden])
    assert (painted[hidden] != target[hidden]).any()
    # One colour a cell, and all colours in use.
    assert (target.reshape(3, 4, 4, 6, 4, 3).std((2, 4)) == 0).all()
    assert target.std((0, 1, 2)).min() > 40


@pytest.mark.one_backend
def test_what_does_not_fit_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"4x4 cannot be aligned .* 4x6: .* 16x24 .* 16x16"):
        mae(target_of(vit(image_shape=(16, 16, 3))))
    target = target_of(vit())
    mae(target)
    other = MIMPreprocessor(ImageConverter((16, 24), mean=[0.5] * 3, std=[0.5] * 3))
    with pytest.raises(ValueError, match=r"belongs to a task .* otherwise"):
        mae(target, preprocessor=other)
    with pytest.raises(ValueError, match="teacher 'no_such' cannot be loaded"):
        mae(target_of("no_such"))
    with pytest.raises(ValueError, match="gives no layer 2: choose from 0 to 1"):
        target_of(vit(), layers=2)
    with pytest.raises(ValueError, match=r"no mean, as they differ .* layers of one stage"):
        target_of(SwinBackbone(**SMALL), layers=[0, -1])
    with pytest.raises(ValueError, match="3 channels, the task's have 1"):
        MAE(vit(image_shape=(16, 24, 1)), target=target_of(vit()), preprocessor=None)
    with pytest.raises(ValueError, match="does not take images alone"):
        target_of(
            keras_hub.models.BertBackbone(
                vocabulary_size=8, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
            )
        )
    with pytest.raises(ValueError, match="image_size is for a teacher given by name"):
        target_of(vit(), image_size=32)
    with pytest.raises(ValueError, match="loss must be one of smooth_l1, mse, cosine"):
        FeatureTarget("x", loss="l1")
    with pytest.raises(ValueError, match="loss_on must be one of masked, all"):
        FeatureTarget("x", loss_on="visible")
    with pytest.raises(ValueError, match="beta must be positive"):
        FeatureTarget("x", beta=0)
    with pytest.raises(ValueError, match="mean and std go together"):
        FeatureTarget("x", mean=[0.5] * 3)


@pytest.mark.one_backend
def test_simmim_on_a_vit_predicts_a_cell_for_each_patch(images):
    task = SimMIM(vit(), RandomMasking(0.5), target=target_of(vit(class_token=False)))
    inputs = {"images": task.preprocess(images), "masks": task.draw(np.arange(16))["masks"]}
    predictions = forward(task, inputs)
    loss = ops.convert_to_numpy(task.target.loss(Step(inputs["images"], 4), predictions))
    actual = task.compute_loss(x=inputs, y_pred=predictions)
    expected = (loss * inputs["masks"]).sum() / inputs["masks"].sum()
    assert float(ops.convert_to_numpy(actual)) == pytest.approx(expected, rel=1e-5)
