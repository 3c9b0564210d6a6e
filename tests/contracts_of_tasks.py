"""What every MIM task keeps, whatever its method. A test of a method gives a maker of small tasks.

A task takes images of 16 x 24 px; see `images` in conftest.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from mimzoo.data import ArraySource, Loader
from mimzoo.pretraining import MIMTask

Maker = Callable[[], MIMTask]


class Batches(keras.utils.PyDataset):
    """Images in batches of four, which counts how often each is read."""

    def __init__(self, images: np.ndarray):
        super().__init__()
        self.images, self.reads = images, np.zeros(len(images), int)

    def __len__(self) -> int:
        return len(self.images) // 4

    def __getitem__(self, step: int) -> np.ndarray:
        self.reads[4 * step : 4 * step + 4] += 1
        return self.images[4 * step : 4 * step + 4]


class Counted(ArraySource):
    """A source that counts how often each image is read."""

    def __init__(self, images: np.ndarray):
        super().__init__(images)
        self.reads = np.zeros(len(images), int)

    @property
    def images(self) -> Any:
        counted = super().images
        reads = self.reads

        class Rows:
            shape = counted.shape

            def __getitem__(self, index: np.ndarray) -> np.ndarray:
                np.add.at(reads, index, 1)
                return counted[index]

        return Rows()


def kinds(images: np.ndarray) -> dict[str, Any]:
    """Name -> the same images in batches of four, for three epochs, in each form that is taken."""
    import grain
    import tensorflow as tf
    import torch

    def batches(epochs: int = 3) -> Iterator[np.ndarray]:
        for step in range(epochs * len(images) // 4):
            first = 4 * (step % (len(images) // 4))
            yield images[first : first + 4]

    parts = [images[n : n + 4] for n in range(0, len(images), 4)]
    return {
        "array": images,
        "list of images": list(images),
        "floats in 0..1": images.astype("float32") / 255,
        "tensor": ops.convert_to_tensor(images),
        "source": ArraySource(images),
        "loader": Loader(ArraySource(images), 4, shuffle=False),
        "list of batches": parts,
        "PyDataset": Batches(images),
        "tf.data": tf.data.Dataset.from_tensor_slices(images).batch(4),
        "torch DataLoader": torch.utils.data.DataLoader(torch.from_numpy(images), batch_size=4),
        "Grain": grain.MapDataset.source(images).batch(4),
        "generator": batches(),
    }


class Trained:
    """A task that starts anew for each measurement, compiled once."""

    def __init__(self, make: Maker):
        self.task = make()
        self.task.compile(keras.optimizers.SGD(0.01))
        self.start = self.task.get_weights()

    def anew(self) -> MIMTask:
        self.task.set_weights(self.start)
        self.task.epochs_trained = 0
        return self.task

    def losses(self, x: Any, **options: Any) -> list[float]:
        """Of three epochs."""
        task = self.anew()
        return task.fit(x, batch_size=4, epochs=3, verbose=0, **options).history["loss"]


def check_every_input_gives_the_same_losses(make: Maker, images: np.ndarray) -> None:
    """Read in order, each kind of input gives the losses of the array."""
    expected, trained = None, Trained(make)
    for name, x in kinds(images).items():
        options = {"steps_per_epoch": len(images) // 4} if name == "generator" else {}
        found = trained.losses(x, shuffle=False, **options)
        expected = expected or found
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)


def check_each_image_is_read_once(make: Maker, images: np.ndarray) -> None:
    """An epoch of a PyDataset or a source, shuffled, reads each image once."""
    trained = Trained(make)
    for data in (Batches(images), Counted(images)):
        trained.losses(data)
        np.testing.assert_array_equal(data.reads, 3)


def check_epochs_continue(make: Maker, images: np.ndarray) -> None:
    """Three calls of `fit` do what one does, with and without `initial_epoch`."""
    trained = Trained(make)
    expected = trained.losses(images)
    assert len(set(expected)) == 3
    for first in (lambda epoch: epoch, lambda epoch: 0):
        task, found = trained.anew(), []
        for epoch in range(3):
            start = first(epoch)
            history = task.fit(
                images, batch_size=4, initial_epoch=start, epochs=start + 1, verbose=0
            )
            found += history.history["loss"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def check_validation_loss_is_one_number(make: Maker, images: np.ndarray) -> None:
    """Whatever the batch size, and however often."""
    task = make()
    losses = [task.evaluate(images, batch_size=b, verbose=0) for b in (16, 16, 6, 2)]
    assert losses[0] == losses[1]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


def check_keras_file(make: Maker, images: np.ndarray, tmp_path: Any) -> None:
    """A `.keras` file keeps optimizer, rate and state: training continues as if never saved."""
    task = make()
    task.fit(images, batch_size=4, verbose=0)
    task.optimizer.learning_rate = 3e-4
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    assert type(loaded.optimizer) is type(task.optimizer)
    assert float(ops.convert_to_numpy(loaded.optimizer.learning_rate)) == pytest.approx(3e-4)
    for old, new in zip(task.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(old), ops.convert_to_numpy(new))
    for old, new in zip(task.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(old), ops.convert_to_numpy(new))
    loaded.epochs_trained = 1
    more = [t.fit(images, batch_size=4, verbose=0).history["loss"] for t in (task, loaded)]
    np.testing.assert_allclose(*more, rtol=1e-5)


def check_wrong_masks(make: Maker, images: np.ndarray) -> None:
    """Masks that hide another number of patches are refused, in any batch and by hand."""
    task = make()
    x = task.preprocess(images)
    drawn = task.draw(np.arange(len(images)))
    wrong = drawn["masks"].copy()
    wrong[-4].flat[0] ^= 1
    good = [{"images": x[n : n + 4], "masks": drawn["masks"][n : n + 4]} for n in (0, 4, 8, 12)]
    bad = [*good[:-1], {"images": x[-4:], "masks": wrong[-4:]}]
    assert np.isfinite(task.evaluate(iter(good), verbose=0))
    for act in (
        lambda: task.evaluate({"images": x, "masks": wrong}, verbose=0),
        lambda: task.fit(bad, verbose=0),
        lambda: task.fit(iter(bad), steps_per_epoch=4, verbose=0),
        lambda: task(bad[-1]),
        lambda: task(bad[-1], training=True),
        lambda: task.evaluate({"images": x[:8], "masks": drawn["masks"]}, verbose=0),
    ):
        with pytest.raises(ValueError, match=r"masks must be|give one mask for each image"):
            act()
    with pytest.raises(ValueError, match="takes ready inputs, a dict of images and masks"):
        task.train_on_batch(images)


def check_drop_path_is_on(make: Maker, images: np.ndarray) -> None:
    """Training drops paths, evaluation does not. `make` gives backbones with a high rate."""
    task = make()
    rng = np.random.default_rng(0)
    for weight in task.trainable_variables:  # as they begin, blocks hardly change the loss
        weight.assign(weight + rng.normal(scale=0.2, size=weight.shape))
    ready = {"images": task.preprocess(images), **task.draw(np.arange(len(images)))}
    evaluated = task.evaluate(ready, batch_size=len(images), verbose=0)
    assert task.evaluate(ready, batch_size=len(images), verbose=0) == evaluated
    task.compile(keras.optimizers.SGD(0.0))
    trained = [task.fit(ready, batch_size=len(images), verbose=0).history["loss"] for _ in "ab"]
    assert abs(trained[0][0] - trained[1][0]) > 1e-4
    assert abs(trained[0][0] - evaluated) > 1e-4


def check_preset(make: Maker, images: np.ndarray, tmp_path: Any) -> None:
    """A preset predicts as the task did."""
    task = make()
    task.fit(images, batch_size=4, verbose=0)
    task.save_to_preset(tmp_path / "preset")
    loaded = type(task).from_preset(str(tmp_path / "preset"))
    for old, new in zip(
        *(keras.tree.flatten(t.predict(images, verbose=0)) for t in (task, loaded)), strict=True
    ):
        np.testing.assert_allclose(old, new, atol=1e-5)
