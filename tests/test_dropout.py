"""Dropout: what it drops, the same on one device and on many, and files of Keras' own layer."""

import keras
import numpy as np
import pytest
from contracts import SHAPE, VIT

from mimzoo.backend import set_part
from mimzoo.layers import Dropout
from mimzoo.models import ImageClassifier, ImageSegmenter, ViTBackbone
from mimzoo.tasks import image_classifier
from mimzoo.tasks.segmentation import heads
from mimzoo.tasks.segmentation.confusion import MeanIoU

CHANNELS = (None, 1, 1, None)


def drop(layer, x, training=True):
    return keras.ops.convert_to_numpy(layer(x, training=training))


@pytest.mark.parametrize("noise_shape", [None, CHANNELS])
def test_it_drops_its_share_and_scales_the_rest_up(noise_shape):
    layer, x = Dropout(0.25, noise_shape, seed=1), np.ones((64, 3, 3, 32), "float32")
    first, second = drop(layer, x), drop(layer, x)
    np.testing.assert_allclose(np.unique(first), [0, 1 / 0.75], rtol=1e-6)
    assert (first != second).any()
    assert abs((first[:, 0, 0] == 0).mean() - 0.25) < 5 * (0.25 * 0.75 / 2048) ** 0.5
    whole = (first == first[:, :1, :1]).all()
    assert whole == (noise_shape is not None)
    np.testing.assert_array_equal(drop(layer, x, training=False), x)
    assert not drop(Dropout(1.0), x).any()


@pytest.mark.skipif(keras.config.backend() != "torch", reason="processes have parts on torch only")
def test_a_process_draws_for_its_rows():
    x = np.ones((4, 8), "float32")
    whole = drop(Dropout(0.5, seed=1), x)
    try:
        set_part(1, 2)
        part = drop(Dropout(0.5, seed=1), x[2:])
    finally:
        set_part(0, 1)
    np.testing.assert_array_equal(part, whole[2:])


@pytest.mark.one_backend
@pytest.mark.parametrize("task", [ImageClassifier, ImageSegmenter])
def test_files_of_tasks_with_dropout_of_keras_load(task, tmp_path, monkeypatch):
    """Those of mimzoo 0.1: a .keras file, a preset, weights."""
    own = {"head_dim": 8, "auxiliary_dim": 4} if task is ImageSegmenter else {}
    x, cls = np.ones((1, *SHAPE), "float32"), task.for_backbone(ViTBackbone)
    with monkeypatch.context() as old:
        old.setattr(image_classifier, "Dropout", keras.layers.Dropout)
        old.setattr(
            heads, "Dropout", lambda rate, _, **kw: keras.layers.SpatialDropout2D(rate, **kw)
        )
        stored = cls(ViTBackbone(SHAPE, **VIT), 3, dropout=0.5, preprocessor=None, **own)
    layers = [type(layer).__name__ for layer in stored._flatten_layers()]
    assert {"Dropout", "SpatialDropout2D"} & set(layers)
    assert not [layer for layer in stored._flatten_layers() if isinstance(layer, Dropout)]
    expected = keras.ops.convert_to_numpy(stored(x))
    stored.save(tmp_path / "task.keras")
    stored.save_to_preset(tmp_path / "preset")
    stored.save_weights(tmp_path / "task.weights.h5")
    again = keras.saving.load_model(tmp_path / "task.keras")
    assert [layer for layer in again._flatten_layers() if isinstance(layer, Dropout)]
    weights = cls.from_config(stored.get_config())
    weights.load_weights(tmp_path / "task.weights.h5")
    for one in (again, task.from_preset(str(tmp_path / "preset")), weights):
        found = keras.ops.convert_to_numpy(one(x))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_iou_is_that_of_keras(weighted):
    rng = np.random.default_rng(0)
    labels, logits = rng.choice([0, 1, 2, 255], (2, 2, 5, 6)), rng.normal(size=(2, 2, 5, 6, 4))
    weights = rng.random((2, 2, 5, 6)).astype("float32") if weighted else [None] * 2
    args = {"num_classes": 4, "ignore_class": 255, "sparse_y_pred": False, "dtype": "float32"}
    found = []
    for metric in (keras.metrics.MeanIoU(**args), MeanIoU(**args)):
        for batch in zip(labels.astype("int32"), logits.astype("float32"), weights, strict=True):
            metric.update_state(*batch)
        found.append((float(metric.result()), keras.ops.convert_to_numpy(metric.total_cm)))
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-5)
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
