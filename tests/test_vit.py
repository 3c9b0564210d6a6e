"""ViTBackbone and its classifier: geometry, presets, training."""

import keras
import keras_hub
import numpy as np
import pytest
from gradients import forward
from keras import ops

import mimzoo
from mimzoo.layers.resize import _geometric_offsets, resize_position_table, resize_relative_table
from mimzoo.models import ImageClassifier, ViTBackbone
from mimzoo.models.vit import vit_size
from mimzoo.pretraining import MAE, MAEDecoder

SMALL = {"image_shape": (16, 24, 3), "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
VARIANTS = [
    {},
    {"class_token": False},
    {"position_embedding": "learned"},
    {"position_embedding": "none", "relative_position_bias": "shared", "qkv_bias": "qv"},
    {"relative_position_bias": "per_block", "qkv_bias": "none", "layer_scale_init": 0.1},
    {"final_norm": False, "remat": True},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_step_save_load(options, images, tmp_path):
    """Forward, one gradient step with drop path, save and load."""
    backbone = ViTBackbone(**SMALL, **options, drop_path_rate=0.5)
    model = ImageClassifier.for_backbone(ViTBackbone)(backbone, num_classes=3)
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    history = model.fit(images, np.arange(16) % 3, batch_size=16, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    moved = [
        not np.array_equal(a, ops.convert_to_numpy(b))
        for a, b in zip(before, model.trainable_variables, strict=True)
    ]
    # Two of a small depth's branches may be dropped for every example, but never most of them.
    assert np.mean(moved) > 0.5
    model.save_to_preset(tmp_path / "preset")
    loaded = ImageClassifier.from_preset(str(tmp_path / "preset"))
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )
    assert not list((tmp_path / "preset").glob("*.tmp"))


def test_drop_path_acts_in_training_only(images):
    backbone = ViTBackbone(**SMALL, drop_path_rate=0.9)
    x = images.astype("float32") / 255
    calm = [forward(backbone, x) for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    wild = [ops.convert_to_numpy(backbone(x, training=True)) for _ in range(2)]
    assert not np.allclose(*wild)


def test_rematerialisation_changes_nothing(images):
    plain = ViTBackbone(**SMALL)
    remat = ViTBackbone(**SMALL, remat=True)
    remat.set_weights(plain.get_weights())
    x = images.astype("float32") / 255
    np.testing.assert_allclose(
        forward(lambda x: remat(x, training=True), x),
        forward(lambda x: plain(x, training=True), x),
        atol=1e-6,
    )


# papers.md 1.3: classifier with 1000 classes, and pretraining model, in millions.
@pytest.mark.parametrize(
    ("size", "classifier", "pretraining"),
    [("base", 86.57, 111.91), ("large", 304.32, 329.54), ("huge", 632.04, 657.07)],
)
def test_published_parameter_counts(size, classifier, pretraining):
    def count(depth, decoder_depth):
        task = MAE(
            ViTBackbone.from_size(size, depth=depth), decoder=MAEDecoder(depth=decoder_depth)
        )
        return task.backbone.count_params(), task.decoder.count_params()

    # All blocks are alike: two depths give every other.
    (one, decoder_one), (two, decoder_two) = count(1, 1), count(2, 2)
    config = vit_size(size)
    backbone = one + (config["depth"] - 1) * (two - one)
    decoder = decoder_one + 7 * (decoder_two - decoder_one)
    head = (config["embed_dim"] + 1) * 1000
    assert (backbone + head) / 1e6 == pytest.approx(classifier, abs=0.01)
    assert (backbone + decoder) / 1e6 == pytest.approx(pretraining, abs=0.01)


@pytest.mark.parametrize("shape", [(32, 32, 3), (24, 16, 3), (8, 40, 3)])
@pytest.mark.parametrize("options", [{}, {"relative_position_bias": "per_block"}], ids=str)
def test_load_at_another_size(shape, options, tmp_path):
    ViTBackbone(**SMALL, **options).save_to_preset(tmp_path / "p")
    loaded = ViTBackbone.from_preset(str(tmp_path / "p"), image_shape=shape)
    out = loaded(np.zeros((1, *shape), "float32"))
    assert out.shape == (1, 1 + shape[0] * shape[1] // 16, 32)
    same = ViTBackbone.from_preset(str(tmp_path / "p"))
    again = ViTBackbone.from_preset(str(tmp_path / "p"), image_shape=SMALL["image_shape"])
    x = np.ones((1, *SMALL["image_shape"]), "float32")
    np.testing.assert_array_equal(forward(same, x), forward(again, x))


def test_bicubic_resize_matches_torch():
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).normal(size=(7, 5, 3)).astype("float32")
    for grid in [(14, 10), (9, 4), (3, 5)]:
        expected = torch.nn.functional.interpolate(
            torch.tensor(table).permute(2, 0, 1)[None], size=grid, mode="bicubic"
        )[0].permute(1, 2, 0)
        np.testing.assert_allclose(resize_position_table(table, grid), expected, atol=1e-5)


def test_relative_table_resize_matches_a_spline():
    interpolate = pytest.importorskip("scipy.interpolate")
    table = np.random.default_rng(0).normal(size=(13, 13, 2)).astype("float32")
    resized = resize_relative_table(table, (14, 14))
    offsets = _geometric_offsets(13, 27)
    new = np.arange(-13, 14)
    for head in range(2):
        spline = interpolate.RectBivariateSpline(offsets, offsets, table[..., head], s=0)
        np.testing.assert_allclose(resized[..., head], spline(new, new), atol=1e-4)


def test_learned_positions_start_at_a_fixed_preset(tmp_path):
    backbone = ViTBackbone(**SMALL)
    backbone.save_to_preset(tmp_path / "p")
    learned = ViTBackbone.from_preset(str(tmp_path / "p"), position_embedding="learned")
    x = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype("float32")
    np.testing.assert_allclose(forward(learned, x), forward(backbone, x), atol=1e-6)
    assert any("positions" in v.path for v in learned.trainable_variables)
    assert not any("positions" in v.path for v in backbone.trainable_variables)


def test_pyramid_and_intermediates():
    backbone = ViTBackbone((64, 32, 3), 8, 32, 2, 2)
    shapes = {name: tuple(x.shape[1:3]) for name, x in backbone.pyramid_outputs.items()}
    assert shapes == {"P2": (16, 8), "P3": (8, 4), "P4": (4, 2)}
    model = keras.Model(backbone.input, backbone.pyramid_outputs)
    x = np.random.default_rng(0).normal(size=(1, 64, 32, 3)).astype("float32")
    outputs = {k: ops.convert_to_numpy(v) for k, v in model(x).items()}
    tokens = forward(backbone, x)
    np.testing.assert_allclose(outputs["P3"].reshape(1, 32, 32), tokens[:, 1:], atol=1e-5)
    assert len(backbone.intermediate_outputs) == 2


def test_mixed_precision_stays_close(images):
    x = images.astype("float32") / 255
    exact = ViTBackbone(**SMALL)
    half = ViTBackbone(**SMALL, dtype="mixed_bfloat16")
    half.set_weights(exact.get_weights())
    error = ops.convert_to_numpy(ops.cast(half(x), "float32")) - ops.convert_to_numpy(exact(x))
    assert np.abs(error).max() < 0.15


def test_keras_hub_loads_our_presets(images, tmp_path):
    ImageClassifier.for_backbone(ViTBackbone)(ViTBackbone(**SMALL), 5).save_to_preset(
        tmp_path / "p"
    )
    model = keras_hub.models.ImageClassifier.from_preset(str(tmp_path / "p"), num_classes=3)
    assert model.predict(images, verbose=0).shape == (16, 3)
    assert type(model).__module__.startswith("mimzoo")


def test_grey_and_other_sizes_are_converted():
    model = ImageClassifier.for_backbone(ViTBackbone)(ViTBackbone(**SMALL), 2)
    grey = np.random.default_rng(0).integers(0, 256, (2, 16, 24), "uint8")
    colour = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_allclose(
        model.predict(grey, verbose=0), model.predict(colour, verbose=0), atol=1e-6
    )
    assert model.predict(np.zeros((2, 50, 40, 3), "uint8"), verbose=0).shape == (2, 2)


def test_logits_are_not_taken_for_probabilities(images):
    model = ImageClassifier.for_backbone(ViTBackbone)(ViTBackbone(**SMALL), 4)
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    loss = model.evaluate(images, np.arange(16) % 4, verbose=0)[0]
    assert loss == pytest.approx(np.log(4), abs=1e-2)


def test_lora_and_quantization(images):
    backbone = ViTBackbone(**SMALL)
    backbone.enable_lora(2)
    assert all("/qkv/" in v.path for v in backbone.trainable_variables)
    assert any("lora" in v.path for v in backbone.trainable_variables)
    other = ViTBackbone(**SMALL)
    x = images.astype("float32") / 255
    before = forward(other, x)
    other.quantize("int8")
    after = forward(other, x)
    assert 0 < np.abs(after - before).max() < 0.5


def error_of(call, *args, **kwargs):
    with pytest.raises((ValueError, TypeError)) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_errors_say_what_to_do(tmp_path):
    assert "image_shape=(20, 20, ...)" in error_of(ViTBackbone, (21, 21, 3), 4, 32, 1, 2)
    assert "not divisible by num_heads" in error_of(ViTBackbone, (16, 16, 3), 4, 30, 1, 4)
    assert "choose one of nano" in error_of(ViTBackbone.from_size, "giant")
    assert "qkv_bias must be" in error_of(ViTBackbone, **SMALL, qkv_bias="all")
    ViTBackbone(**SMALL).save_to_preset(tmp_path / "p")
    path = str(tmp_path / "p")
    message = error_of(ImageClassifier.from_preset, path, num_classes=3, drop_path=0.1)
    assert "Did you mean 'drop_path_rate'" in message
    message = error_of(ViTBackbone.from_preset, path, image_shape=(17, 16, 3))
    assert "not divisible by patch_size 4" in message
    assert "class_token=True" in error_of(
        ImageClassifier.from_preset, path, num_classes=2, class_token=False, pooling="token"
    )


def test_an_unknown_preset_offers_the_nearest():
    known = mimzoo.list_presets()[0]
    assert known in error_of(ViTBackbone.from_preset, known[:-2] + "x")


def test_preset_arguments_arrive(tmp_path):
    ViTBackbone(**SMALL).save_to_preset(tmp_path / "p")
    model = ImageClassifier.from_preset(
        str(tmp_path / "p"), num_classes=7, drop_path_rate=0.25, dropout=0.5, final_norm=False
    )
    assert model.backbone.drop_path_rate == 0.25
    assert model.dropout == 0.5
    assert model.head_norm is not None
    assert model.num_classes == 7
