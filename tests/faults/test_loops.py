"""Faults of what Keras' loops read: validation data, steps, data sets with hooks of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimzoo.data import ArraySource, Loader
from mimzoo.models import ImageClassifier, ImageSegmenter, ViTBackbone

COUNT = 10
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), "uint8")
LABELS = np.arange(COUNT) % 2
MAPS = np.random.default_rng(1).integers(0, 2, (COUNT, 16, 16)).astype("uint8")


def backbone() -> ViTBackbone:
    return ViTBackbone((16, 16, 3), patch_size=4, embed_dim=8, depth=1, num_heads=2)


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    model = ImageClassifier(backbone(), 2)
    model.compile(keras.optimizers.SGD(0.01))
    return model


def parts(targets):
    return [(IMAGES[n : n + 2], targets[n : n + 2]) for n in range(0, COUNT, 2)]


class Again:
    """Batches that can be read again, without a length."""

    def __init__(self, targets):
        self.targets = targets

    def __iter__(self):
        return iter(parts(self.targets))


class Batches(keras.callbacks.Callback):
    """Counts those of each evaluation."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def on_test_begin(self, logs=None):
        self.counts.append(0)

    def on_test_batch_end(self, batch, logs=None):
        self.counts[-1] += 1


def unsized():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2).filter(lambda x, y: True)


@pytest.mark.parametrize("make", [unsized, lambda: Again(LABELS)], ids=["tf.data", "iterable"])
def test_validation_data_without_a_length_is_read_whole_each_time(model, make):
    seen = Batches()
    history = model.fit(
        IMAGES, LABELS, validation_data=make(), epochs=3, callbacks=[seen], verbose=0
    ).history
    assert seen.counts == [5, 5, 5]
    whole = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)["loss"]
    assert history["val_loss"][-1] == pytest.approx(whole, rel=1e-5)
    # Three of five steps are the same three each time.
    model.compile(keras.optimizers.SGD(0.0))
    first = model.fit(
        IMAGES, LABELS, validation_data=make(), validation_steps=3, epochs=3, verbose=0
    )
    assert np.ptp(first.history["val_loss"]) < 1e-6


@pytest.mark.one_backend
def test_validation_data_that_would_end_early_is_refused(model):
    endless = unsized().repeat()
    for data in (iter(parts(LABELS)), endless):
        with pytest.raises(ValueError, match="needs validation_steps"):
            model.fit(IMAGES, LABELS, validation_data=data, epochs=2, verbose=0)
    seen = Batches()
    options = {"validation_steps": 2, "epochs": 2, "callbacks": [seen], "verbose": 0}
    model.fit(IMAGES, LABELS, validation_data=iter(parts(LABELS)), **options)
    model.fit(IMAGES, LABELS, validation_data=endless, **options)
    assert seen.counts == [2, 2, 2, 2]


@pytest.mark.one_backend
def test_a_segmenter_is_validated_on_any_data():
    model = ImageSegmenter(backbone(), 2, head_dim=8)
    seen = Batches()
    history = model.fit(
        IMAGES, MAPS, validation_data=Again(MAPS), epochs=2, callbacks=[seen], verbose=0
    ).history
    found = model.evaluate(IMAGES, MAPS, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(found["loss"], rel=1e-5)
    assert seen.counts == [5, 5]
    with pytest.raises(ValueError, match="has no batches"):
        model.evaluate(iter(()))
    with pytest.raises(TypeError, match="stpes"):
        model.evaluate(IMAGES, MAPS, stpes=1)


@pytest.mark.one_backend
def test_steps_beyond_the_data_read_no_image_twice(model, caplog):
    assert len(model.predict(IMAGES, batch_size=2, steps=9, verbose=0)) == COUNT
    assert "the data has 5 batches, not 9" in caplog.text
    expected = model.evaluate(IMAGES[:6], LABELS[:6], verbose=0, return_dict=True)["loss"]
    found = model.evaluate(IMAGES[:6], LABELS[:6], batch_size=4, steps=4, verbose=0)
    assert found[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.one_backend
def test_a_pydataset_hears_of_each_epoch(model):
    class Hooked(keras.utils.PyDataset):
        ended = 0

        def __len__(self):
            return 5

        def __getitem__(self, step):
            return parts(LABELS)[step]

        def on_epoch_end(self):
            self.ended += 1

    data = Hooked()
    model.fit(data, epochs=3, verbose=0)
    assert data.ended == 3


@pytest.mark.one_backend
def test_what_a_loader_does_not_take(model):
    shuffled = Loader(ArraySource(IMAGES), 4, labels=LABELS, epochs=None)
    for options in ({"y": LABELS}, {"sample_weight": np.ones(COUNT)}):
        with pytest.raises(ValueError, match="leave out y and sample_weight"):
            model.fit(shuffled, **options, verbose=0)
    with pytest.raises(ValueError, match="this Loader shuffles, so predictions"):
        model.predict(shuffled, verbose=0)
    with pytest.raises(ValueError, match="give their folder, or a list of arrays"):
        model.predict(["a.jpg", "b.jpg"], verbose=0)
