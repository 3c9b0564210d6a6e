"""Errors and Ctrl-C inside of Keras' loops: the model keeps its weights, on every backend."""

import signal

import keras
import numpy as np
import pytest

from mimzoo.backend import keep_weights
from mimzoo.models import ImageClassifier, ViTBackbone
from mimzoo.models.vit import VIT_SIZES
from mimzoo.pretraining import MAE, MAEDecoder

# A step on JAX uses up the weights that it was given; on the others one loop shows it all.
LOOPS = ("fit", "evaluate", "predict") if keras.config.backend() == "jax" else ("fit",)


@pytest.fixture(autouse=True)
def _pico(monkeypatch):
    monkeypatch.setitem(VIT_SIZES, "pico", (16, 2, 2, 4))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype("uint8")


def task(kind: str):
    backbone = ViTBackbone.from_size("pico", image_shape=(8, 8, 3), patch_size=4)
    if kind == "mim":
        return MAE(backbone, decoder=MAEDecoder(16, 1, 2))
    return ImageClassifier.for_backbone(ViTBackbone)(backbone, num_classes=2)


def run(model, how: str, batches, **options):
    return getattr(model, how)(batches, verbose=0, **options)


def batches(model, images, how: str, bad=None):
    """Batches of 4, of which number `bad` raises."""
    for number, start in enumerate(range(0, len(images), 4)):
        if number == bad:
            raise OSError("the disk went away")
        batch = images[start : start + 4]
        yield (batch, np.arange(4) % 2) if model.labelled and how != "predict" else batch


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C while a step is computed: between the beginning and the end of a batch."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def begin(self, batch, logs=None):
        if batch == self.step:
            signal.raise_signal(signal.SIGINT)

    on_train_batch_begin = on_test_batch_begin = on_predict_batch_begin = begin


def assert_usable(model, before, images, how):
    after = model.get_weights()
    assert all(np.isfinite(value).all() for value in after)
    if how != "fit":
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
    run(model, how, batches(model, images, how))


@pytest.mark.parametrize(("kind", "bad"), [("mim", 0), ("classifier", 1)])
@pytest.mark.parametrize("how", LOOPS)
def test_an_error_in_the_data_leaves_the_weights(kind, how, bad, images):
    model = task(kind)
    before = model.get_weights()
    with pytest.raises(OSError, match="went away"):
        run(model, how, batches(model, images, how, bad))
    assert_usable(model, before, images, how)


@pytest.mark.parametrize(("how", "trained"), [*((how, True) for how in LOOPS), ("fit", False)])
def test_an_error_in_the_first_step_leaves_what_was_there(how, trained, images, monkeypatch):
    model = task("mim")
    if trained:
        run(model, "fit", batches(model, images, "fit"))
        model.set_weights([value + 1 for value in model.get_weights()])
    before = model.get_weights()

    def fail(*_, **__):
        raise RuntimeError("no such step")

    with monkeypatch.context() as patch:
        patch.setattr(model, "call", fail)
        for name in ("train", "test", "predict"):
            getattr(model, f"make_{name}_function")(force=True)
        with pytest.raises(RuntimeError, match="no such step"):
            run(model, how, batches(model, images, how))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("train", "test", "predict"):
        getattr(model, f"make_{name}_function")(force=True)
    assert_usable(model, before, images, how)


@pytest.mark.parametrize(("how", "step"), [*((how, 1) for how in LOOPS), ("fit", 0)])
def test_ctrl_c_leaves_the_weights(how, step, images):
    """On JAX a step uses up the old weights, so it is finished first."""
    model = task("classifier")
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        run(model, how, batches(model, images, how), callbacks=[Interrupt(step)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_usable(model, before, images, how)


def test_ctrl_c_in_the_validation_of_a_fit_keeps_what_was_trained(images):
    model, labels = task("classifier"), np.arange(12) % 2

    class InValidation(keras.callbacks.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            if batch == 1:
                signal.raise_signal(signal.SIGINT)

    data = {"validation_data": (images, labels), "batch_size": 4, "verbose": 0}
    with pytest.raises(KeyboardInterrupt):
        model.fit(images, labels, callbacks=InValidation(), **data)
    assert int(model.optimizer.iterations) == 3
    assert all(np.isfinite(value).all() for value in model.get_weights())
    model.fit(images, labels, **data)
    assert int(model.optimizer.iterations) == 6
    assert model.predict(images, verbose=0).shape == (12, 2)


def test_a_second_ctrl_c_does_not_wait(images):
    model = task("classifier")

    class Twice(keras.callbacks.Callback):
        def on_predict_batch_begin(self, batch, logs=None):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("it has to stop before")

    with pytest.raises(KeyboardInterrupt):
        model.predict(images, callbacks=[Twice()], verbose=0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_backbone_keeps_its_weights(images):
    backbone = task("mim").backbone
    before = backbone.get_weights()
    floats = images.astype("float32")
    with pytest.raises(KeyboardInterrupt):
        backbone.predict(floats, batch_size=4, verbose=0, callbacks=[Interrupt(1)])
    for one, other in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert backbone.predict(floats, verbose=0).shape[0] == 12


@pytest.mark.skipif(keras.config.backend() != "jax", reason="the others keep weights anyway")
def test_what_keeps_the_weights_waits_for_no_loss():
    """Keras reads each step's loss from the device unless all callbacks are safe in threads."""
    with keep_weights(task("mim")) as callbacks:
        found = keras.callbacks.CallbackList(callbacks, add_history=True, add_progbar=True)
        assert found._async_train
        assert found._async_test
        assert found._async_predict
