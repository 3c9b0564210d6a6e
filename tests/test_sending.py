"""torch: batches that are sent to a GPU ahead of their steps, seen on a CPU."""

import contextlib

import keras
import numpy as np
import pytest
from mimzoo_training.distribution import base
from test_compiled_step import make

from mimzoo.backend import sender, sending
from mimzoo.data import ArraySource, Loader
from mimzoo.tasks import inputs

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.skipif(keras.config.backend() != "torch", reason="Keras sends batches there"),
]


class FakeStream:
    """A stream that writes down what it is asked for."""

    def __init__(self, log):
        self.log, self.events = log, 0

    def record_event(self):
        self.events += 1
        number, log = self.events, self.log
        log.append(f"record {number}")
        return type("Event", (), {"synchronize": lambda _: log.append(f"wait for {number}")})()

    def wait_stream(self, other):
        self.log.append("compute waits")


@pytest.fixture
def fake(monkeypatch):
    """A Sender whose CUDA is this CPU, and what it does."""
    log = []
    current = FakeStream(log)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: FakeStream(log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: (log.append("copy"), self)[1])
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, _: None)
    return sending.Sender(torch.device("cpu")), log


def test_batches_are_at_most_two_steps_ahead(fake):
    send, log = fake
    batch = {"images": np.ones((2, 3), "float32"), "masks": np.ones((2, 4), "uint8")}
    for _ in range(3):
        sent = send((batch, None))
    assert str(sent[0]["images"].dtype) == "torch.float32"
    assert str(sent[0]["masks"].dtype) == "torch.uint8"
    assert sent[1] is None
    copied = ["copy", "copy", "compute waits"]
    first = ["record 1", *copied]
    assert log == [*first, "wait for 1", "record 2", *copied, "wait for 2", "record 3", *copied]


def test_a_cpu_sends_nothing():
    assert sender() is None


def test_fits_are_the_same(fake, monkeypatch):
    send, log = fake
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype("uint8")
    found = []
    for sends in (None, send):
        monkeypatch.setattr(inputs, "sender", lambda sends=sends: sends)
        monkeypatch.setattr(base, "sender", lambda sends=sends: sends)
        task = make("finetune")
        task.compile("adam", "sparse_categorical_crossentropy", [])
        of_loader = Loader(ArraySource(images, np.arange(8) % 3), 4, labels=True)
        arrays = images.astype("float32") / 255, np.arange(8) % 3
        losses = task.fit(*arrays, batch_size=4, epochs=2, verbose=0).history["loss"]
        keras.Model.fit(task, base.Devices().dataset(of_loader), steps_per_epoch=2, verbose=0)
        losses.append(task.evaluate(*arrays, verbose=0))
        found.append((losses, task.get_weights()))
    np.testing.assert_array_equal(found[1][0], found[0][0])
    for one, other in zip(found[1][1], found[0][1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert log.count("copy") >= 2 * (4 + 2 + 1)
