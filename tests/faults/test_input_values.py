"""Images, weights and arguments that were silently misread."""

import keras
import numpy as np
import pytest

from mimzoo.data import ArraySource, Loader
from mimzoo.data.keras_augment import KerasAugment
from mimzoo.models import ImageClassifier, ViTBackbone
from mimzoo.pretraining import MAE

pytestmark = pytest.mark.one_backend

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), "uint8")
LABELS = np.arange(8) % 3


def backbone(**options) -> ViTBackbone:
    sizes = {"patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2, **options}
    return ViTBackbone((16, 16, 3), **sizes)


def test_grey_images_come_in_any_number():
    grey = IMAGES[..., 0]
    model = ImageClassifier(backbone(), 3)
    whole = model.predict(grey, verbose=0)
    for count in (1, 2, 3):
        np.testing.assert_allclose(model.predict(grey[:count], verbose=0), whole[:count], atol=1e-5)
    model.fit([(grey[:5], LABELS[:5]), (grey[5:], LABELS[5:])], verbose=0)
    with pytest.raises(ValueError, match="have their channels first"):
        model.predict(IMAGES.transpose(0, 3, 1, 2), verbose=0)
    with pytest.raises(ValueError, match=r"batches of grey images have the shape \(N, H, W, 1\)"):
        MAE(backbone()).fit([grey[:4], grey[4:]], verbose=0)


def test_a_generator_is_the_next_epoch(monkeypatch):
    task = MAE(backbone())
    epochs = []
    draw = task.draw

    def spied(index, epoch=0, *rest, **options):
        epochs.append(epoch)
        return draw(index, epoch, *rest, **options)

    monkeypatch.setattr(task, "draw", spied)

    def batches():
        return (IMAGES[i : i + 4] for i in (0, 4))

    for _ in range(2):
        task.fit(batches(), verbose=0)
    task.fit(batches(), initial_epoch=3, epochs=4, verbose=0)
    assert list(dict.fromkeys(epochs[-6:])) == [0, 1, 3]
    assert task.epochs_trained == 4
    with pytest.raises(ValueError, match="needed for several epochs"):
        task.fit(batches(), epochs=6, initial_epoch=4, verbose=0)


@pytest.mark.parametrize("weight", [-1.0, np.nan])
def test_weights_that_are_none_are_refused(weight):
    task = MAE(backbone())
    with pytest.raises(ValueError, match="negative or not finite"):
        task.fit(IMAGES, sample_weight=np.full(8, weight), verbose=0)
    with pytest.raises(ValueError, match="negative or not finite"):
        Loader(ArraySource(IMAGES, LABELS), 8, labels=True, sample_weight=np.full(8, weight))
    ready = {"images": task.preprocess(IMAGES), **task.draw(np.arange(8))}
    with pytest.raises(ValueError, match="negative or not finite"):
        task.evaluate({**ready, "weights": np.full(8, weight)}, verbose=0)
    with pytest.raises(ValueError, match="weights have the shape"):
        task.evaluate({**ready, "weights": np.ones(9)}, verbose=0)


def test_weights_of_another_network_are_refused(tmp_path):
    backbone(num_heads=4).save_to_preset(tmp_path)
    for options in ({"num_heads": 2}, {"depth": 1}, {"layer_norm_epsilon": 1.0}):
        (name,) = options
        with pytest.raises(ValueError, match=f"trained with another {name}"):
            ViTBackbone.from_preset(str(tmp_path), **options)
    assert ViTBackbone.from_preset(str(tmp_path), load_weights=False, depth=1).depth == 1
    assert ViTBackbone.from_preset(str(tmp_path), num_heads=4, depth=2).depth == 2


def test_layers_and_images_share_a_range():
    with pytest.raises(ValueError, match=r"takes images of \(0, 1\), and these are of \(0, 255\)"):
        KerasAugment([keras.layers.RandomBrightness(0.2, value_range=(0, 1))])
