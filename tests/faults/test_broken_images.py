"""One image that cannot be read: no prediction of another stands in its row."""

import numpy as np
import pytest
from PIL import Image

from mimzoo.data import Loader, open_source
from mimzoo.models import ImageClassifier, ImageSegmenter, ObjectDetector, ViTBackbone
from mimzoo.pretraining import MAE


@pytest.fixture
def folder(tmp_path):
    """Four images, the third of which is none."""
    for number in range(4):
        pixels = np.full((16, 16, 3), 60 * number, "uint8")
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    return tmp_path


def backbone() -> ViTBackbone:
    return ViTBackbone((16, 16, 3), patch_size=4, embed_dim=8, depth=1, num_heads=2)


@pytest.mark.parametrize(
    "model",
    [
        lambda: ImageClassifier(backbone(), 2),
        lambda: ImageSegmenter(backbone(), 2, head_dim=8),
        lambda: ObjectDetector(backbone(), 2, neck_dim=8, head_dim=8, head_depth=1),
        lambda: MAE(backbone()),
    ],
    ids=["classifier", "segmenter", "detector", "mae"],
)
def test_no_row_is_anothers(folder, model):
    with pytest.raises(ValueError, match=r"2\.png.* repair or remove it"):
        model().predict(str(folder), verbose=0)


@pytest.mark.one_backend
def test_a_share_of_0_is_none_at_all(folder):
    source = open_source(folder, holdout=0)
    assert len(list(Loader(source, 4, shuffle=False))) == 1
    with pytest.raises(ValueError, match=r"2\.png.*max_corrupt=0 allows none"):
        list(Loader(source, 4, shuffle=False, max_corrupt=0.0, num_threads=0))
