"""Segmenters: any input, windows over any image, presets, and what is refused."""

import keras
import keras_hub
import numpy as np
import pytest
from contracts import FAMILIES
from PIL import Image

from mimzoo.data import LabelledPictures, Loader, Normalize
from mimzoo.models import ImageClassifier, ImageSegmenter, ViTBackbone
from mimzoo.pretraining import MAE, Data2VecBackbone, MAEDecoder
from mimzoo.tasks.segmentation.sliding import bands, starts, upscaled

SHAPE = (16, 24, 3)


def segmenter(family="vit", image_shape=SHAPE, drop_path_rate=0.0, **options) -> ImageSegmenter:
    cls, config = FAMILIES[family]
    backbone = cls(image_shape=image_shape, drop_path_rate=drop_path_rate, **config)
    options = {"head_dim": 8, "auxiliary_dim": 4, **options}
    return ImageSegmenter.for_backbone(cls)(backbone, 3, **options)


def scenes(count=6, height=20, width=28):
    """Images whose left part is dark, of class 0, the rest bright, of class 1; some unlabelled."""
    rng = np.random.default_rng(0)
    maps = (np.arange(width) >= rng.integers(8, 20, (count, height, 1))).astype("uint8")
    images = (maps[..., None] * 120 + rng.integers(0, 100, (count, height, width, 3))).astype(
        "uint8"
    )
    maps[:, :2] = 255
    return images, maps


ON_ALL = {("vit", "upernet")}
CASES = [
    pytest.param(f, h, marks=[] if (f, h) in ON_ALL else pytest.mark.one_backend)
    for f, h in [*((f, "upernet") for f in FAMILIES), ("vit", "linear")]
]


@pytest.mark.parametrize(("family", "head"), CASES)
def test_a_step_moves_every_weight_and_a_preset_keeps_them(family, head, tmp_path):
    model = segmenter(family, head=head, drop_path_rate=0.1)
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    images, maps = scenes(4)
    model.compile(keras.optimizers.SGD(0.5))
    for _ in range(2):  # what starts at zero hides what lies before it
        history = model.fit(images, maps, batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    still = [
        v.path
        for old, v in zip(before, model.trainable_variables, strict=True)
        if np.array_equal(old, keras.ops.convert_to_numpy(v))
    ]
    assert not still
    model.save_to_preset(tmp_path)
    same = ImageSegmenter.from_preset(str(tmp_path))
    assert type(same) is type(model)
    np.testing.assert_array_equal(same.predict(images), model.predict(images))
    x = np.zeros((1, *SHAPE), "float32")
    np.testing.assert_allclose(same.predict_on_batch(x), model.predict_on_batch(x), atol=1e-6)


@pytest.mark.one_backend
def test_it_learns(tmp_path):
    images, maps = scenes(8)
    model = segmenter(dropout=0.0)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(images, maps, batch_size=4, epochs=12, verbose=0)
    loss, iou = model.evaluate(images, maps)
    assert loss < 0.4
    predicted = model.predict(images)
    shares = [
        ((predicted == c) & (maps == c)).sum()
        / (((predicted == c) | (maps == c)) & (maps < 255)).sum()
        for c in (0, 1)
    ]
    assert iou == pytest.approx(np.mean(shares), abs=1e-5)
    assert iou > 0.6


@pytest.mark.one_backend
def test_every_way_in_is_one():
    images, maps = scenes(6)
    losses = []
    for x, y in (
        (images, maps),
        (list(images), list(maps[..., None])),
        (images / np.float32(255), maps),
        (LabelledPictures(images, maps, 3), None),
    ):
        keras.utils.set_random_seed(1)
        model = segmenter(dropout=0.0)
        losses.append(model.fit(x, y, batch_size=2, epochs=2, verbose=0).history["loss"])
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-5)
    cut, small = images[:, :16, :24], maps[:, :16, :24]
    values = [
        model.evaluate(x, y)
        for x, y in (
            (cut, small),
            ([(cut[:3], small[:3]), (cut[3:], small[3:])], None),
            (
                Loader(LabelledPictures(cut, small, 3), 3, shuffle=False, normalize=Normalize()),
                None,
            ),
        )
    ]
    np.testing.assert_allclose(values[1:], [values[0]] * 2, rtol=1e-5)
    history = model.fit([(cut, small)], verbose=0, validation_data=(images, maps)).history
    assert history["val_mean_iou"][0] == pytest.approx(model.evaluate(images, maps)[1])


@pytest.mark.one_backend
def test_the_last_images_are_for_validation():
    images, maps = scenes(8)
    for x, y in ((images, maps), (list(images), list(maps))):
        model = segmenter(head="linear")
        history = model.fit(x, y, validation_split=0.25, verbose=0).history
        loss = model.evaluate(images[6:], maps[6:], return_dict=True)["loss"]
        assert history["val_loss"] == [pytest.approx(loss)]
    with pytest.raises(ValueError, match="validation_split is for images in memory"):
        model.fit("photos/", validation_split=0.25)


@pytest.mark.one_backend
def test_label_maps_of_a_source_are_left_out_of_pretraining():
    images, maps = scenes(6, 16, 24)
    losses = []
    for x in (images, LabelledPictures(images, maps, 3)):
        task = MAE(
            Data2VecBackbone(SHAPE, 4, 32, 2, 2), decoder=MAEDecoder(16, 1, 2), compile=False
        )
        for weight in task.weights:
            weight.assign(np.full(weight.shape, 0.1, "float32"))
        task.compile()
        losses.append(task.fit(x, batch_size=2, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    model = ImageSegmenter.for_backbone(Data2VecBackbone)(task.backbone, 3, head_dim=8)
    assert model.predict(images).shape == (6, 16, 24)


@pytest.mark.one_backend
def test_ignored_pixels_count_in_nothing():
    images, maps = scenes(2, 16, 24)
    model = segmenter(ignore_index=2)
    other = np.where(maps == 255, 2, maps)
    assert model.evaluate(images, maps) == model.evaluate(images, other)
    nothing = np.full_like(maps, 255)
    assert model.evaluate(images, nothing)[0] == 0
    assert model.fit([(images, nothing)], verbose=0).history["loss"] == [0]


@pytest.mark.one_backend
def test_numbers_of_files_are_those_of_the_model(tmp_path):
    images, maps = scenes(4, 16, 24)
    for number, (image, numbers) in enumerate(zip(images, maps, strict=True)):
        stored = np.where(numbers == 255, 2, numbers + 1)
        for kind, array in (("images", image), ("labels", stored)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(array.astype("uint8")).save(tmp_path / kind / f"{number}.png")
    maps = np.where(maps == 1, 255, maps)  # number 2
    with pytest.raises(ValueError, match="too few for 3 classes from 253 on"):
        segmenter(first_class=253)
    model = segmenter(first_class=1, ignore_index=2)
    model.save_to_preset(tmp_path / "preset")
    model = ImageSegmenter.from_preset(str(tmp_path / "preset"))
    assert (model.first_class, model.ignore_index) == (1, 2)
    source = model.open(str(tmp_path), "train", holdout=0.0)
    loaded = np.stack([source[index]["image"][..., 3] for index in range(4)])
    np.testing.assert_array_equal(loaded, maps)
    expected = model.evaluate(images, maps)
    assert model.evaluate(images, np.where(maps == 255, 1, maps)) == expected
    assert model.evaluate(source) == pytest.approx(expected)


def test_windows_of_a_pointwise_model_are_the_whole_image():
    images = np.random.default_rng(0).normal(size=(2, 37, 50, 3)).astype("float32")
    asked = []

    def forward(windows):
        asked.append(windows.shape)
        return windows[..., :2] * 3

    for stride in ((8, 12), (16, 24), (5, 7)):
        rows = []
        for first, logits in bands(images, forward, (16, 24), stride, 4):
            assert first == sum(part.shape[1] for part in rows)
            rows.append(logits)
        np.testing.assert_allclose(np.concatenate(rows, 1), images[..., :2] * 3, rtol=1e-5)
    assert set(asked) == {(4, 16, 24, 3)}
    small = images[:, :9, :30]
    ((first, logits),) = bands(small, forward, (16, 24), (8, 12), 4)
    np.testing.assert_allclose(logits, small[..., :2] * 3, rtol=1e-5)
    assert starts(37, 16, 8) == [0, 8, 16, 21]
    assert starts(16, 16, 8) == [0]


def test_logits_are_upscaled_as_keras_does():
    logits = np.random.default_rng(0).normal(size=(1, 7, 9, 2)).astype("float32")
    for size in ((150, 20), (7, 9), (200, 4)):
        found = np.concatenate([part for _, part in upscaled(logits, size)], axis=1)
        expected = keras.ops.image.resize(logits, size, data_format="channels_last")
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(expected), atol=1e-5)


@pytest.mark.one_backend
def test_one_window_is_the_model_itself():
    images, _ = scenes(2, 16, 24)
    model = segmenter()
    x = model.preprocess(images)
    expected = keras.ops.convert_to_numpy(model(x)).argmax(-1)
    np.testing.assert_array_equal(model.predict(images), expected)
    assert model(x, training=True).keys() == {"logits", "auxiliary"}
    mixed = model.predict([images[0], images[1][:, :20], np.zeros((40, 60, 3), "uint8")])
    assert [one.shape for one in mixed] == [(16, 24), (16, 20), (40, 60)]


@pytest.mark.one_backend
def test_images_are_scaled_to_the_shorter_side():
    images, maps = scenes(2, 40, 56)
    model = segmenter(shorter_side=20)
    assert model.predict(images).shape == (2, 40, 56)
    assert np.isfinite(model.fit(images, maps, verbose=0).history["loss"][0])
    assert np.isfinite(model.evaluate(images, maps)).all()


@pytest.mark.one_backend
def test_of_a_classifiers_preset_also_by_keras_hub(tmp_path):
    cls, config = FAMILIES["vit"]
    backbone = cls(image_shape=SHAPE, **config)
    ImageClassifier.for_backbone(cls)(backbone, 2).save_to_preset(tmp_path)
    model = ImageSegmenter.from_preset(
        str(tmp_path), num_classes=4, image_shape=(32, 16, 3), head="linear"
    )
    assert model.predict(np.zeros((1, 50, 20, 3), "uint8")).shape == (1, 50, 20)
    np.testing.assert_array_equal(model.backbone.get_weights()[1], backbone.get_weights()[1])
    hub = keras_hub.models.ImageSegmenter.from_preset(str(tmp_path), num_classes=4)
    assert isinstance(hub, ImageSegmenter)
    model.save_to_preset(tmp_path / "own")
    other = ImageSegmenter.from_preset(str(tmp_path / "own"), num_classes=5)
    assert other.num_classes == 5
    assert keras_hub.models.ImageSegmenter.from_preset(str(tmp_path / "own")).num_classes == 4


@pytest.mark.one_backend
def test_keras_file(tmp_path):
    images, _ = scenes(2)
    model = segmenter(class_names=("a", "b", "c"), ignore_index=7)
    model.save(tmp_path / "a.keras")
    same = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(same.predict(images), model.predict(images))
    assert (same.class_names, same.ignore_index) == (("a", "b", "c"), 7)


@pytest.mark.one_backend
def test_mixed_precision_gives_float32():
    model = segmenter(head_dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"


@pytest.mark.one_backend
def test_a_frozen_backbone_stays(tmp_path):
    images, maps = scenes(2)
    model = segmenter(head="linear")
    model.backbone.trainable = False
    model.compile(keras.optimizers.SGD(1.0))
    before = model.backbone.get_weights()
    model.fit(images, maps, verbose=0)
    for old, new in zip(before, model.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert len(model.trainable_variables) == 4


@pytest.mark.one_backend
def test_what_is_refused():
    images, maps = scenes(2, 16, 24)
    model = segmenter()
    wrong = maps.copy()
    wrong[1, 3, 4] = 9
    with pytest.raises(
        ValueError, match="label map 1 has pixels of number 9, which is no class: 3"
    ):
        model.fit(images, wrong, verbose=0)
    with pytest.raises(ValueError, match="label map 0 has 24 x 15 pixels and its image 24 x 16"):
        model.fit(images, maps[:, :15], verbose=0)
    with pytest.raises(ValueError, match="2 images and 1 label maps"):
        model.fit(images, maps[:1], verbose=0)
    with pytest.raises(ValueError, match="must be integers"):
        model.fit(images, maps.astype("float32"), verbose=0)
    with pytest.raises(ValueError, match="labels are missing"):
        model.fit(images, verbose=0)
    for masks, kinds in (
        (np.where(maps == 1, 255, 0), r"class 0 or no class \(255, ignore_index\)"),
        (maps * 0, "class 0,"),
        (maps | 255, "no class"),
    ):
        with pytest.raises(ValueError, match=f"array: all pixels are of {kinds}"):
            model.fit(images, masks, verbose=0)
    with pytest.raises(ValueError, match="class_weight is not supported"):
        model.fit(images, maps, class_weight={0: 1.0})
    with pytest.raises(ValueError, match="sample_weight is not supported"):
        model.fit(images, maps, sample_weight=np.ones(2))
    more = LabelledPictures(images, maps, 4)
    for source in (more, Loader(more, 2)):
        with pytest.raises(ValueError, match="array has 4 classes, the model 3"):
            model.fit(source, verbose=0)
    with pytest.raises(ValueError, match=r"a batch has images of \(16, 20\), the model takes"):
        model.fit([(images[:, :, :20], maps[:, :, :20])], verbose=0)
    with pytest.raises(ValueError, match="stride"):
        model.predict(images, stride=17)
    with pytest.raises(ValueError, match="head must be one of"):
        segmenter(head="fcn")
    with pytest.raises(ValueError, match=r"num_classes must lie in 2\.\.255"):
        ImageSegmenter.for_backbone(ViTBackbone)(model.backbone, 1)
    with pytest.raises(ValueError, match="class_names names 2 classes"):
        segmenter(class_names=("a", "b"))
