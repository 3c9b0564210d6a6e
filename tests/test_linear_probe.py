"""Linear probes on frozen features."""

import keras
import numpy as np
import pytest

from mimzoo.downstream import extract_features, linear_probe
from mimzoo.models import ViTBackbone


def test_linear_probe_separates_what_can_be_separated():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    features = np.eye(3)[labels] @ random.normal(size=(3, 8)) * 5 + random.normal(size=(90, 8))
    split = features[:60], labels[:60], features[60:], labels[60:]
    first = linear_probe(*split, steps=100)
    assert first > 0.95
    assert linear_probe(*split, steps=100) == first
    assert linear_probe(features[:60], random.permutation(labels[:60]), *split[2:], steps=100) < 0.8


def test_linear_probe_says_what_does_not_fit():
    features, labels = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="test: features must be"):
        linear_probe(features, labels, features, labels[:3])
    with pytest.raises(ValueError, match="out of range"):
        linear_probe(features, labels, features, labels + 1)


def test_features_are_pooled_tokens():
    images = np.random.default_rng(0).random((22, 8, 8, 3), "float32")
    numbers = np.arange(22)
    backbone = ViTBackbone(image_shape=(8, 8, 3), patch_size=4, embed_dim=16, depth=1, num_heads=2)
    batches = [(images[:16], numbers[:16]), (images[16:], numbers[16:])]
    tokens = keras.ops.convert_to_numpy(backbone(images))
    features, labels = extract_features(backbone, batches)
    np.testing.assert_allclose(features, tokens[:, 1:].mean(1), atol=1e-5)
    np.testing.assert_array_equal(labels, numbers)
    features, labels = extract_features(backbone, [images], pooling="token")
    np.testing.assert_allclose(features, tokens[:, 0], atol=1e-5)
    assert labels is None
    with pytest.raises(ValueError, match="pooling"):
        extract_features(backbone, [images], pooling="max")
    with pytest.raises(ValueError, match="no batches"):
        extract_features(backbone, [])
