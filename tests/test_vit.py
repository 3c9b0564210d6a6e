"""ViTBackbone and its classifier: geometry, presets, training."""

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


def test_drop_path_acts_in_training_only(images):
    backbone = ViTBackbone(**SMALL, drop_path_rate=0.9)
    x = images.astype("float32") / 255
    calm = [forward(backbone, x) for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    wild = [ops.convert_to_numpy(backbone(x, training=True)) for _ in range(2)]
    assert not np.allclose(*wild)


# MAE's code: classifier with 1000 classes, and pretraining model, in millions.
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


def test_pyramid():
    backbone = ViTBackbone((64, 32, 3), 8, 32, 2, 2)
    shapes = {name: tuple(x.shape[1:3]) for name, x in backbone.pyramid_outputs.items()}
    assert shapes == {"P2": (16, 8), "P3": (8, 4), "P4": (4, 2)}


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


@pytest.mark.one_backend
def test_quantization(images):
    backbone, x = ViTBackbone(**SMALL), images.astype("float32") / 255
    before = forward(backbone, x)
    backbone.quantize("int8")
    assert 0 < np.abs(forward(backbone, x) - before).max() < 0.5


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
