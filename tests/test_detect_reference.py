"""Necks of detectors against torch's functions, and KerasHub's feature pyramid network."""

import keras
import keras_hub
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contracts import FAMILIES
from gradients import forward

from mimzoo.models import ObjectDetector
from mimzoo.tasks.detection.anchors import Anchors, anchor_boxes
from mimzoo.tasks.detection.necks import SimpleFeaturePyramid, TopDownPyramid
from mimzoo.tasks.detection.suppression import detections

rng = np.random.default_rng(0)


def randomized(layer):
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.3 + weight.path.endswith("gamma"))
    return layer


def test_the_simple_pyramid_is_that_of_the_paper():
    """arXiv 2203.16527, and detectron2's `SimpleFeaturePyramid`, which cannot be installed here."""
    x = rng.normal(size=(2, 5, 6, 8)).astype("float32")
    neck = SimpleFeaturePyramid(4)
    neck.build(x.shape)
    randomized(neck)
    maps = [np.moveaxis(keras.ops.convert_to_numpy(one), -1, 1) for one in neck(x)]
    assert [one.shape[2:] for one in maps] == [(20, 24), (10, 12), (5, 6), (3, 3)]

    def weights(layer):
        return [torch.tensor(np.array(w)) for w in layer.get_weights()]

    def up(layer, x):
        kernel, bias = weights(layer)
        return F.conv_transpose2d(x, kernel.permute(3, 2, 0, 1), bias, stride=2)

    def norm(layer, x):
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, x.shape[-1:], *weights(layer), eps=1e-6).permute(0, 3, 1, 2)

    def conv(layer, x):
        (kernel,) = weights(layer)
        return F.conv2d(x, kernel.permute(3, 2, 0, 1), padding="same")

    image = torch.tensor(x).permute(0, 3, 1, 2)
    first, second, third, fourth = neck.chains
    scaled = [
        up(first[3], F.gelu(norm(first[1], up(first[0], image)))),
        up(second[0], image),
        image,
        F.max_pool2d(image, 2, ceil_mode=True),
    ]
    for chain, one, found in zip(neck.chains, scaled, maps, strict=True):
        one = norm(chain[-1], conv(chain[-2], norm(chain[-3], conv(chain[-4], one))))
        np.testing.assert_allclose(found, one.numpy(), atol=1e-4)
    assert [layer.filters for layer in (first[0], first[3], second[0])] == [4, 2, 4]
    assert len(third) == len(fourth) - 1 == 4


@pytest.mark.one_backend
def test_the_top_down_pyramid_is_that_of_keras_hub():
    cls, config = FAMILIES["swin"]
    backbone = cls((16, 24, 3), **{**config, "depths": (1, 1, 1), "num_heads": (1, 1, 1)})
    theirs = keras_hub.models.RetinaNetBackbone(
        backbone, min_level=1, max_level=3, use_p5=False, image_shape=(16, 24, 3)
    ).feature_pyramid
    maps = {
        name: rng.normal(size=(2, *one.shape[1:])).astype("float32")
        for name, one in backbone.pyramid_outputs.items()
    }
    randomized(theirs)
    ours = TopDownPyramid(256)
    ours.build([one.shape for one in maps.values()])
    for number, name in enumerate(maps):
        ours.laterals[number].set_weights(theirs.lateral_conv_layers[name].get_weights())
        ours.outputs[number].set_weights(theirs.output_conv_layers[name].get_weights())
    expected = theirs(maps)
    for found, name in zip(ours(list(maps.values())), maps, strict=True):
        expected_map = keras.ops.convert_to_numpy(expected[name])
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected_map, atol=1e-4)


def test_the_top_down_pyramid_takes_odd_sizes():
    shapes = [(2, 7, 9, 4), (2, 4, 5, 6), (2, 2, 3, 8)]
    neck = TopDownPyramid(3)
    neck.build(shapes)
    found = forward(lambda maps: neck(maps)[0], [np.ones(shape, "float32") for shape in shapes])
    assert found.shape == (2, 7, 9, 3)


def test_targets_are_those_of_keras_hub():
    """Where each object has an anchor that overlaps it by half, as KerasHub forces no other."""
    cls, config = FAMILIES["swin"]
    backbone = cls((64, 96, 3), **config)
    retina = keras_hub.models.RetinaNetBackbone(
        backbone, min_level=1, max_level=2, use_p5=False, image_shape=(64, 96, 3)
    )
    encoder = keras_hub.models.RetinaNetObjectDetector(
        retina, num_classes=3, bounding_box_format="xyxy", pre_logits_num_conv_layers=0
    ).label_encoder
    boxes = np.float32([[[10, 8, 21, 19], [40, 30, 58, 39]], [[2, 50, 20, 62], [60, 3, 72, 26]]])
    labels = np.array([[2, 0], [1, 1]])
    ours = Anchors(anchor_boxes((64, 96, 3), range(1, 3))).targets(boxes, labels)
    theirs = encoder(np.zeros((2, 64, 96, 3), "float32"), boxes, labels)
    deltas, classes, expected, numbers = map(keras.ops.convert_to_numpy, (*ours, *theirs))
    np.testing.assert_array_equal(classes, numbers)
    assert {-2, -1, 0, 1, 2} == set(np.unique(classes))
    learned = classes >= 0
    np.testing.assert_allclose(deltas[learned], expected[learned], atol=1e-5)
    assert (deltas[~learned] == 0).all()


@pytest.mark.one_backend
def test_suppression_is_that_of_keras_hub():
    """For one class, as KerasHub's knows no other; its padding is -1."""
    corners = rng.uniform(0, 60, (200, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, 30, (200, 2))], 1).astype("float32")
    logits = rng.normal(size=(200, 1)).astype("float32")
    theirs = keras_hub.layers.NonMaxSuppression(
        "xyxy", from_logits=True, iou_threshold=0.4, confidence_threshold=0.3, max_detections=150
    )(boxes[None], logits[None])
    count = int(theirs["num_detections"][0])
    zeros = np.zeros_like(boxes)
    ours = detections(zeros, logits, boxes, (200, 200), 0.3, 0.4, max_detections=150)
    assert 20 < len(ours["boxes"]) == count
    for name in ("boxes", "confidence", "labels"):
        expected = keras.ops.convert_to_numpy(theirs[name][0])[:count]
        np.testing.assert_allclose(ours[name], expected, atol=1e-4)


def test_the_loss_is_that_of_torchvision():
    """Its `sigmoid_focal_loss` and L1, over the anchors with an object of the whole batch."""
    cls, config = FAMILIES["vit"]
    model = ObjectDetector.for_backbone(cls)(
        cls((16, 24, 3), **config), 3, neck_dim=8, head_dim=8, head_depth=1
    )
    boxes = np.float32([[[3, 2, 13, 14], [0, 0, 0, 0]], [[0, 0, 24, 16], [8, 8, 12, 12]]])
    labels = np.array([[2, -1], [0, 1]])
    count = len(model.anchors.boxes)
    given = {
        "bbox_regression": rng.normal(size=(2, count, 4)).astype("float32"),
        "cls_logits": rng.normal(size=(2, count, 3)).astype("float32"),
    }
    loss = model.compute_loss(None, {"boxes": boxes, "labels": labels}, given)
    deltas, classes = map(
        torch.tensor, map(keras.ops.convert_to_numpy, model.anchors.targets(boxes, labels))
    )
    offsets, logits = map(torch.tensor, given.values())
    found = classes >= 0
    truth = F.one_hot(classes.long().clamp(min=0), 3) * found[..., None]
    cross = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
    scores = logits.sigmoid()
    missed = (1 - scores) * truth + scores * (1 - truth)
    focal = (0.25 * truth + 0.75 * (1 - truth)) * cross * missed**2
    expected = focal[classes != -2].sum() + (offsets - deltas)[found].abs().sum()
    expected = float(expected / found.sum())
    assert float(keras.ops.convert_to_numpy(loss)) == pytest.approx(expected, rel=1e-4)
