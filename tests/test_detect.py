"""Detectors: any input, boxes in pixels of any image, presets, and what is refused."""

import keras
import keras_hub
import numpy as np
import pytest
from contracts import FAMILIES

from mimzoo.data import BoxedPictures, Loader, Normalize
from mimzoo.data.box_transforms import ResizePad
from mimzoo.hub.card import card
from mimzoo.models import ImageClassifier, ObjectDetector, ViTBackbone
from mimzoo.tasks.class_task import subclasses
from mimzoo.tasks.detection.anchors import Anchors, anchor_boxes
from mimzoo.tasks.detection.suppression import detections, moved

SHAPE = (16, 24, 3)
SMALL = {"neck_dim": 8, "head_dim": 8, "head_depth": 1}


def detector(family="vit", image_shape=SHAPE, drop_path_rate=0.0, **options) -> ObjectDetector:
    cls, config = FAMILIES[family]
    config = {**config, **options.pop("backbone", {})}
    backbone = cls(image_shape=image_shape, drop_path_rate=drop_path_rate, **config)
    return ObjectDetector.for_backbone(cls)(backbone, 3, **{**SMALL, **options})


def scenes(count=6, height=20, width=28):
    """Images with a rectangle, of class 0 or 1 by its colour, in all but the last ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (count, height, width, 3)).astype("uint8")
    boxes, labels = np.zeros((count, 2, 4), "float32"), np.full((count, 2), -1)
    for number in range(count - count // 4):
        side = int(rng.integers(8, 14))
        top, left = rng.integers(0, (height - side, width - side))
        labels[number, 0] = number % 2
        boxes[number, 0] = left, top, left + side, top + side
        images[number, top : top + side, left : left + side, number % 2] += 180
    return images, {"boxes": boxes, "labels": labels}


def weights(model):
    return [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]


@pytest.mark.parametrize(
    "family",
    # What is said of one backbone with stages, on all backends, is said of three on one.
    [
        pytest.param(family, marks=[] if family in ("vit", "swin") else pytest.mark.one_backend)
        for family in FAMILIES
    ],
)
def test_a_step_moves_every_weight_and_a_preset_keeps_them(family, tmp_path):
    model = detector(family, drop_path_rate=0.1)
    images, targets = scenes(4)
    before = weights(model)
    model.compile(keras.optimizers.Adam(0.01))
    for _ in range(2):  # what starts at zero hides what lies before it
        history = model.fit(images, targets, batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    pairs = zip(before, weights(model), model.trainable_variables, strict=True)
    assert not [v.path for old, new, v in pairs if np.array_equal(old, new)]
    model.save_to_preset(tmp_path)
    same = ObjectDetector.from_preset(str(tmp_path))
    assert type(same) is type(model)
    for one, other in zip(model.weights, same.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
    if family == "vit":  # the others differ in their maps alone, and each compiles anew
        found = [one.predict(images, confidence_threshold=0) for one in (model, same)]
        for one, other in zip(*found, strict=True):
            for name in ("boxes", "labels", "confidence"):
                np.testing.assert_allclose(one[name], other[name], atol=1e-5)


@pytest.mark.one_backend
def test_it_learns():
    images, targets = scenes(8)
    model = detector(head_dim=16, neck_dim=16)
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(images, targets, batch_size=4, epochs=40, verbose=0)
    found = model.predict(images)
    for one, box, label in zip(found, targets["boxes"][:, 0], targets["labels"][:, 0], strict=True):
        if label >= 0:
            assert one["labels"][0] == label
            assert np.abs(one["boxes"][0] - box).max() < 4


def loss_of(model, images, targets):
    """Of a batch that the model takes as it is, after a step on it."""
    return model.fit([(images, targets)], verbose=0).history["loss"][0]


@pytest.mark.parametrize("rows", [0, 2])
def test_a_batch_without_objects_teaches_background(rows):
    """The padding of other batches, and none at all."""
    model = detector()
    images = scenes(2, 16, 24)[0]
    nothing = {"boxes": np.zeros((2, rows, 4)), "labels": np.full((2, rows), -1)}
    model.compile(keras.optimizers.SGD(1.0))
    logits = keras.ops.convert_to_numpy(model(model.preprocess(images))["cls_logits"])
    scores = 1 / (1 + np.exp(-logits.astype("float64")))
    expected = (-0.75 * scores**2 * np.log(1 - scores)).sum()
    last, boxes = model.classification_head.convs[-1].bias, model.box_head.get_weights()
    before = keras.ops.convert_to_numpy(last)
    assert loss_of(model, images, nothing) == pytest.approx(expected, rel=1e-3)
    assert all(np.isfinite(value).all() for value in weights(model))
    assert (keras.ops.convert_to_numpy(last) < before).all()
    for old, new in zip(boxes, model.box_head.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.one_backend
def test_padding_changes_nothing():
    images, targets = scenes(4, 16, 24)
    found = []
    for rows in (1, 2, 5):
        model = detector()
        for weight in model.weights:
            weight.assign(np.full(weight.shape, 0.01, "float32"))
        boxes, labels = np.zeros((4, rows, 4)), np.full((4, rows), -1)
        boxes[:, :1], labels[:, :1] = targets["boxes"][:, :1], targets["labels"][:, :1]
        found.append(loss_of(model, images, {"boxes": boxes, "labels": labels}))
    np.testing.assert_allclose(found, found[:1] * 3, rtol=1e-6)


@pytest.mark.one_backend
def test_mixed_precision_gives_float32():
    model = detector(backbone={"dtype": "mixed_bfloat16"})
    images, targets = scenes(4)
    x = model.preprocess(images)
    outputs = model(x)
    assert {keras.backend.standardize_dtype(one.dtype) for one in outputs.values()} == {"float32"}
    loss = model.compute_loss(x, targets, outputs)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert np.isfinite(model.fit(images, targets, verbose=0).history["loss"][0])


@pytest.mark.one_backend
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_have_as_many_places_as_anchors(family):
    shape = (20, 36, 3)  # the stages have odd sides
    model = detector(family, shape, max_level=6)
    outputs = model(np.zeros((1, *shape), "float32"))
    assert {one.shape[1] for one in outputs.values()} == {len(model.anchors.boxes)}
    assert model.output["cls_logits"].shape == (None, len(model.anchors.boxes), 3)


@pytest.mark.one_backend
def test_anchors_and_boxes_there_and_back():
    boxes = np.float32([[[3, 2, 13, 14], [0, 0, 0, 0]], [[0, 0, 24, 16], [8, 8, 12, 12]]])
    anchors = Anchors(anchor_boxes(SHAPE, range(1, 4)))
    deltas, classes = anchors.targets(boxes, np.array([[2, -1], [0, 1]]))
    for number, (image, label) in enumerate(((0, 2), (1, 0), (1, 1))):
        chosen = np.asarray(classes[image]) == label
        assert chosen.any()
        found = moved(anchors.boxes[chosen], np.asarray(deltas[image])[chosen])
        box = boxes[image, int(number == 2)]
        np.testing.assert_allclose(found, np.tile(box, (chosen.sum(), 1)), atol=1e-4)
    assert set(np.unique(classes)) == {-2, -1, 0, 1, 2}


@pytest.mark.one_backend
def test_boxes_are_in_pixels_of_the_image(monkeypatch):
    model = detector()
    box = np.float32([4, 4, 12, 14])  # in the 16 x 24 pixels that the model takes
    deltas, classes = model.anchors.targets(box[None, None], np.array([[1]]))
    deltas, classes = (keras.ops.convert_to_numpy(one) for one in (deltas, classes))
    logits = np.where((classes == 1)[..., None] & (np.arange(3) == 1), 3.0, -9.0)

    def perfect(self, x):
        assert x.shape[1:] == SHAPE
        return {name: np.repeat(one, len(x), 0) for name, one in outputs.items()}

    outputs = {"bbox_regression": deltas, "cls_logits": logits}
    monkeypatch.setattr(keras.Model, "predict_on_batch", perfect)
    sizes = ((16, 24), (32, 48), (64, 48), (8, 48))
    found = model.predict([np.zeros((*size, 3), "uint8") for size in sizes])
    # 64 x 48 becomes 16 x 12, so x2 is 12, and 8 x 48 becomes 4 x 24, which ends above the box.
    expected = [box, 2 * box, 4 * box, None]
    for one, wanted in zip(found, expected, strict=True):
        if wanted is None:
            assert [len(values) for values in one.values()] == [0, 0, 0]
            continue
        np.testing.assert_allclose(one["boxes"], wanted[None], atol=1e-3)
        assert one["labels"].tolist() == [1]
        assert one["confidence"] == pytest.approx([1 / (1 + np.exp(-3))])
        assert [values.dtype for values in one.values()] == ["float32", "int32", "float32"]


@pytest.mark.one_backend
def test_suppression_is_by_class():
    anchors = np.float32([[0, 0, 8, 8], [1, 0, 9, 8], [0, 0, 8, 9], [20, 20, 28, 28]])
    logits = np.float32([[3, -9], [2, -9], [-9, 1], [-9, 0]])
    options = {"size": (24, 32), "threshold": 0.3, "iou_threshold": 0.5}
    one = detections(np.zeros_like(anchors), logits, anchors, **options, max_detections=9)
    np.testing.assert_array_equal(one["boxes"], [[0, 0, 8, 8], [0, 0, 8, 9], [20, 20, 28, 24]])
    assert one["labels"].tolist() == [0, 1, 1]
    assert detections(np.zeros_like(anchors), logits, anchors, **options, max_detections=1)[
        "labels"
    ].tolist() == [0]


@pytest.mark.one_backend
def test_every_way_in_is_one():
    images, targets = scenes(6, 16, 24)
    each = [
        {"boxes": boxes[labels >= 0], "labels": labels[labels >= 0]}
        for boxes, labels in zip(targets["boxes"], targets["labels"], strict=True)
    ]
    source = BoxedPictures(images, each, 3)
    model, losses = detector(), []
    start = model.get_weights()
    for x, y in (
        (images, targets),
        (list(images), each),
        (images / np.float32(255), targets),
        (source, None),
    ):
        model.set_weights(start)
        model.epochs_trained = 0
        model.compile(keras.optimizers.SGD(0.01))
        losses.append(model.fit(x, y, batch_size=2, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(losses, losses[:1] * 4, rtol=1e-5)
    loader = Loader(source, 6, shuffle=False, normalize=Normalize(), transform=ResizePad(SHAPE[:2]))
    values = [
        model.evaluate(x, y, batch_size=6, verbose=0)
        for x, y in ((images, targets), ([(images, targets)], None), (loader, None))
    ]
    values += [model.test_on_batch(images, targets), model.train_on_batch(images, targets)]
    np.testing.assert_allclose(values, values[:1] * 5, rtol=1e-5)
    for one, other in zip(model.predict(loader), model.predict(list(images)), strict=True):
        np.testing.assert_allclose(one["boxes"], other["boxes"], atol=1e-4)
    history = model.fit([(images, targets)], verbose=0, validation_data=(images, targets)).history
    assert history["val_loss"] == pytest.approx([model.evaluate(images, targets, verbose=0)[0]])
    larger = np.repeat(np.repeat(images, 2, 1), 2, 2)
    twice = {"boxes": targets["boxes"] * 2, "labels": targets["labels"]}
    assert model.evaluate(larger, twice, verbose=0)[0] == pytest.approx(
        model.evaluate(images, targets, verbose=0)[0], rel=0.05
    )
    x, y = model.preprocessor(larger, twice)
    np.testing.assert_allclose(y["boxes"], targets["boxes"])
    assert tuple(x.shape) == (6, *SHAPE)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "preset",
    ["vit_nano_mae_fmnist_20ep", "swinv2_nano_simmim_fmnist_30ep", "mixmim_nano_fmnist_10ep"],
)
def test_of_a_bundled_preset_at_any_shape(preset):
    images, targets = scenes(2, 50, 60)
    model = ObjectDetector.from_preset(preset, num_classes=3, image_shape=(44, 76, 3), **SMALL)
    assert np.isfinite(model.fit(images, targets, verbose=0).history["loss"][0])


@pytest.mark.one_backend
def test_of_a_classifiers_preset_also_by_keras_hub(tmp_path):
    cls, config = FAMILIES["vit"]
    backbone = cls(image_shape=SHAPE, **config)
    ImageClassifier.for_backbone(cls)(backbone, 2).save_to_preset(tmp_path)
    windows = {"class_token": False, "window_size": 3, "global_attention_blocks": (1,)}
    model = ObjectDetector.from_preset(
        str(tmp_path), num_classes=4, image_shape=(40, 28, 3), **SMALL, **windows
    )
    assert len(model.predict(np.zeros((2, 50, 20, 3), "uint8"))) == 2
    np.testing.assert_array_equal(model.backbone.get_weights()[1], backbone.get_weights()[1])
    hub = keras_hub.models.ObjectDetector.from_preset(str(tmp_path), num_classes=4)
    assert isinstance(hub, ObjectDetector)
    model.save_to_preset(tmp_path / "own")
    text = card(tmp_path / "own")
    assert "pipeline_tag: object-detection" in text
    assert "boxes of objects of 4 classes" in text
    other = ObjectDetector.from_preset(str(tmp_path / "own"), num_classes=5)
    assert (other.num_classes, other.head_dim, other.backbone.window_size) == (5, 8, 3)
    larger = ObjectDetector.from_preset(str(tmp_path / "own"), image_shape=(160, 200, 3))
    assert (larger.min_level, larger.max_level) == (model.min_level, model.max_level) == (1, 3)
    np.testing.assert_array_equal(larger.own_weights()[-1], model.own_weights()[-1])
    hub = keras_hub.models.ObjectDetector.from_preset(str(tmp_path / "own"))
    x = np.random.default_rng(0).normal(size=(1, 40, 28, 3)).astype("float32")
    for one, same in zip(hub(x).values(), model(x).values(), strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(same), atol=1e-6
        )


@pytest.mark.one_backend
def test_keras_hub_still_finds_its_own_detector():
    retina = keras_hub.models.RetinaNetBackbone
    found = [c for c in subclasses(keras_hub.models.ObjectDetector) if c.backbone_cls is retina]
    assert found == [keras_hub.models.RetinaNetObjectDetector]


@pytest.mark.one_backend
def test_keras_file(tmp_path):
    images, targets = scenes(2)
    model = detector(class_names=("a", "b", "c"))
    model.fit(images, targets, verbose=0)
    model.save(tmp_path / "a.keras")
    same = keras.saving.load_model(tmp_path / "a.keras")
    assert same.class_names == ("a", "b", "c")
    assert same.get_config() == model.get_config()
    losses = [one.fit(images, targets, verbose=0).history["loss"] for one in (model, same)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.one_backend
def test_the_last_images_are_for_validation():
    images, targets = scenes(8)
    rows = [{name: values[i] for name, values in targets.items()} for i in range(8)]
    for x, y in ((images, targets), (list(images), rows)):
        model = detector()
        history = model.fit(x, y, validation_split=0.5, verbose=0).history
        loss = model.evaluate(x[4:], {k: v[4:] for k, v in targets.items()}, verbose=0)[0]
        assert history["val_loss"] == [pytest.approx(loss, rel=1e-5)]


@pytest.mark.one_backend
def test_what_is_refused():
    images, targets = scenes(2, 16, 24)
    model = detector()

    def batch(**changes):
        return [(images, {**targets, **changes})]

    wrong, outside = targets["labels"].copy(), targets["boxes"].copy()
    wrong[0, 0], outside[0, 0] = 7, (30, 2, 40, 9)
    for x, y, message in (
        (images, {**targets, "labels": wrong}, "7"),
        (
            images,
            {**targets, "boxes": targets["boxes"] / 24},
            r"array: all boxes lie within 0\.\.1",
        ),
        (batch(boxes=targets["boxes"] / 24), None, r"all boxes of a batch lie within 0\.\.1"),
        (batch(labels=wrong), None, "image 0 of a batch has the label 7, which is no class"),
        (batch(boxes=outside), None, "which is empty or outside of 24 x 16 pixels"),
        (batch(boxes=targets["boxes"][:, 0]), None, r"boxes must be \(B, N, 4\)"),
        ([(images, targets["boxes"])], None, "targets must be"),
        ([(images[:, :, :20], targets)], None, r"a batch has images of \(16, 20\), the model"),
        (images, None, "labels are missing"),
        (images, targets["boxes"], "targets"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0)
    for name, value in (("class_weight", {0: 1.0}), ("sample_weight", np.ones(2))):
        with pytest.raises(ValueError, match=f"{name} is not supported"):
            model.fit(images, targets, **{name: value})
    with pytest.raises(ValueError, match="array has 4 classes, the model 3"):
        model.fit(BoxedPictures(images, targets, 4), verbose=0)
    with pytest.raises(ValueError, match="confidence_threshold must lie"):
        model.predict(images, confidence_threshold=1)
    for options, message in (
        ({"min_level": 5}, r"min_level must lie in 0\.\.3"),
        ({"max_level": 0}, "max_level 0 must not be below min_level 1"),
        ({"class_names": ("a",)}, "class_names names 1 classes"),
        ({"backbone": {"patch_size": 24}, "image_shape": (24, 24, 3)}, "gives no pyramid"),
    ):
        with pytest.raises(ValueError, match=message):
            detector(**options)
    of_keras_hub = keras_hub.layers.ImageConverter(image_size=(16, 24))
    other = detector(preprocessor=keras_hub.models.ObjectDetectorPreprocessor(of_keras_hub))
    with pytest.raises(ValueError, match="does not say where it moves boxes"):
        other.predict(images)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        ObjectDetector.for_backbone(ViTBackbone)(model.backbone, 0)
