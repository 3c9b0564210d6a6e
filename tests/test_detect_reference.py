"""Necks of detectors against torch's functions, and KerasHub's feature pyramid network."""

import keras
import keras_hub
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contracts import FAMILIES
from gradients import forward

from mimzoo.tasks.detection.necks import SimpleFeaturePyramid, TopDownPyramid

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
        backbone, min_level=1, max_level=3, use_p5=False
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
