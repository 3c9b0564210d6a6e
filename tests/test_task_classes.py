"""Tasks made from their base class: of the backbone's own class, which files can name."""

import keras
import numpy as np
import pytest
from contracts import SHAPE, VIT

from mimzoo.models import ImageClassifier, ImageSegmenter, ObjectDetector, ViTBackbone

pytestmark = pytest.mark.one_backend

SMALL = {
    ImageClassifier: {},
    ImageSegmenter: {"head_dim": 8, "auxiliary_dim": 4},
    ObjectDetector: {"neck_dim": 8, "head_dim": 8, "head_depth": 1},
}


@pytest.mark.parametrize("task", SMALL, ids=lambda cls: cls.__name__)
def test_a_task_of_the_base_class_is_saved_and_loaded(task, tmp_path):
    model = task(ViTBackbone(SHAPE, **VIT), num_classes=3, compile=False, **SMALL[task])
    assert type(model) is task.for_backbone(ViTBackbone)
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), "uint8")
    expected = model(model.preprocess(images))
    model.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    found = loaded(loaded.preprocess(images))
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        one, other = map(keras.ops.convert_to_numpy, (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_a_backbone_that_no_task_is_for_is_named():
    class Other(ViTBackbone):
        pass

    with pytest.raises(ValueError, match="mimzoo has no ImageClassifier on Other"):
        ImageClassifier(Other(SHAPE, **VIT), 3)
