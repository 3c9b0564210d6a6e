"""Neighbours and linear probe beside scikit-learn, and the callback that uses both."""

import keras
import numpy as np
import pytest

from mimzoo.data import ArraySource, Loader, Normalize
from mimzoo.downstream import FeatureProbe, knn_accuracy, linear_probe
from mimzoo.models import ImageClassifier, ViTBackbone

one_backend = pytest.mark.one_backend


def blobs(seed, train=300, test=1500, classes=5, width=24):
    """Overlapping clusters, about two thirds of which are classified right."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, width))
    labels = random.integers(0, classes, train + test)
    x = (0.35 * centres[labels] + random.normal(size=(train + test, width))).astype("float32")
    return x[:train], labels[:train], x[train:], labels[train:]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (7, 1.0), (500, 0.07)])
def test_neighbours_are_those_of_scikit_learn(k, temperature):
    from sklearn.neighbors import KNeighborsClassifier

    x, y, test_x, test_y = blobs(0)
    theirs = KNeighborsClassifier(
        min(k, len(x)), metric="cosine", weights=lambda d: np.exp((1 - d) / temperature)
    )
    expected = theirs.fit(x, y).score(test_x, test_y)
    found = knn_accuracy(x, y, test_x, test_y, k=k, temperature=temperature)
    assert found == pytest.approx(expected, abs=1 / len(test_y))
    assert 0.4 < found < 0.95


@one_backend
def test_linear_probe_is_near_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y, test_x, test_y = blobs(1, train=2000)
    scaler = StandardScaler().fit(x)
    theirs = LogisticRegression(C=1e4, max_iter=2000).fit(scaler.transform(x), y)
    expected = theirs.score(scaler.transform(test_x), test_y)
    assert linear_probe(x, y, test_x, test_y) == pytest.approx(expected, abs=0.005)


@one_backend
def test_bad_input():
    x, y, test_x, test_y = blobs(2)
    with pytest.raises(ValueError, match="test: features must be"):
        knn_accuracy(x, y, test_x, test_y[:-1])
    with pytest.raises(ValueError, match="out of range"):
        knn_accuracy(x, y, test_x, test_y, num_classes=2)
    with pytest.raises(ValueError, match="k must be at least 1 and temperature above 0"):
        knn_accuracy(x, y, test_x, test_y, k=0)
    with pytest.raises(ValueError, match="some of probe, knn"):
        FeatureProbe([], [], kinds=("svm",))
    with pytest.raises(ValueError, match="every must be at least 1"):
        FeatureProbe([], [], every=0)


def test_a_callback_measures_without_changing_anything():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = random.integers(0, 120, (40, 8, 8, 3)) + 120 * labels[:, None, None, None]
    source = ArraySource(images.astype("uint8"), labels, ("dark", "light"))
    plain = Normalize((0.0,) * 3, (1.0,) * 3)
    loader = Loader(source, 16, shuffle=False, labels=True, drop_remainder=False, normalize=plain)

    def trained(callbacks):
        keras.utils.set_random_seed(0)
        backbone = ViTBackbone(
            image_shape=(8, 8, 3), patch_size=4, embed_dim=16, depth=1, num_heads=2
        )
        model = ImageClassifier(backbone, num_classes=2, preprocessor=None)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        history = keras.Model.fit(
            model,
            (images / 255.0).astype("float32"),
            labels,
            batch_size=20,
            epochs=3,
            verbose=0,
            callbacks=callbacks,
        )
        return history.history, model.get_weights()

    plain, weights = trained([])
    probed, same = trained([FeatureProbe(loader, loader, num_classes=2, every=2)])
    assert probed["loss"] == pytest.approx(plain["loss"], rel=1e-6)
    for a, b in zip(weights, same, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # After two epochs, and at the end.
    assert len(probed["probe_accuracy"]) == len(probed["knn_accuracy"]) == 2
    assert min(probed["probe_accuracy"]) > 0.9
