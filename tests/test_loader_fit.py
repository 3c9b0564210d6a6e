"""Keras' own models over a loader's batches."""

import warnings

import numpy as np
import pytest
from test_data_loader import draw, numbered, write_images

from mimzoo.data import ArraySource, Loader, Normalize, ResizeCrop
from mimzoo.data.reader import TooManyCorruptError


def classifier():
    import keras

    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, weighted_metrics=["accuracy"])
    return model


def test_fit_and_evaluate():
    rng = np.random.default_rng(0)
    source = ArraySource(rng.integers(0, 256, (23, 8, 8, 3), np.uint8), np.arange(23) % 3)
    asked = []

    class Spy(Loader):
        def batch(self, step):
            asked.append(step)
            return super().batch(step)

    options = {"normalize": Normalize(), "labels": True, "epochs": None}
    train = Spy(source, 5, num_threads=0, **options)
    held = Loader(source, 5, shuffle=False, drop_remainder=False, pad_remainder=True, **options)
    partial = Loader(source, 5, shuffle=False, drop_remainder=False, **{**options, "epochs": 1})
    model = classifier()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(
            train.dataset(),
            steps_per_epoch=train.steps_per_epoch,
            epochs=3,
            shuffle=False,
            validation_data=held.dataset(),
            validation_steps=held.steps_per_epoch,
            verbose=0,
        ).history
    assert not [w for w in caught if "ran out of data" in str(w.message)]
    # Keras reads a few batches for their shapes; then each epoch continues the one before.
    start = max(i for i, step in enumerate(asked) if step == 0)
    assert start < 6
    assert asked[start : start + 12] == list(range(12))
    images, labels = Normalize()(source.images), source.labels
    loss, accuracy = model.evaluate(images, labels, batch_size=23, verbose=0)
    np.testing.assert_allclose(history["val_loss"], [loss] * 3, rtol=1e-5)
    np.testing.assert_allclose(history["val_accuracy"], [accuracy] * 3, rtol=1e-4)
    result = model.evaluate(partial.dataset(), steps=len(partial), verbose=0)
    np.testing.assert_allclose(result, [loss, accuracy], rtol=1e-4)


def test_fit_on_masks_and_predict_on_bare_images():
    import keras

    class Task(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            masks = keras.ops.cast(inputs["masks"], "float32")
            return self.dense(keras.ops.mean(inputs["images"], (1, 2))) * masks[:, :1]

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(y_pred**2)

    model = Task()
    model.compile("sgd")
    loader = Loader(numbered(), 5, normalize=Normalize(), draw=draw, epochs=None)
    model.fit(loader.dataset(), steps_per_epoch=4, epochs=2, shuffle=False, verbose=0)
    bare = Loader(numbered(), 5, normalize=Normalize(), shuffle=False, drop_remainder=False)
    scores = classifier().predict(bare.dataset(), steps=len(bare), verbose=0)
    assert scores.shape == (23, 3)


def test_fit_tells_clearly_what_is_wrong_with_the_data(tmp_path):
    source = write_images(tmp_path / "a", broken=range(12))
    loader = Loader(source, 4, epochs=None, transform=ResizeCrop(8))
    with pytest.raises(TooManyCorruptError, match="none of the") as caught:
        classifier().fit(loader.dataset(), steps_per_epoch=2, shuffle=False, verbose=0)
    assert "\n" not in str(caught.value)
