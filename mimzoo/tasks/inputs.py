"""`fit`, `evaluate` and `predict` of every task, over any input: one way in."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np

from mimzoo.backend import keep_weights, sender
from mimzoo.data.feed import Feed, make_feed
from mimzoo.data.inputs import Inputs, Prepare, Weights
from mimzoo.data.loader import Loader
from mimzoo.data.opening import is_named, open_for_use, open_source, open_to_fit
from mimzoo.data.sources import Source
from mimzoo.tasks.arguments import split_off
from mimzoo.tasks.preprocessing import ImageConverter

logger = logging.getLogger("mimzoo")
_FED: ContextVar[bool] = ContextVar("fed", default=False)


@contextlib.contextmanager
def fed(*feeds: Any) -> Iterator[None]:
    """Where a loop of Keras calls a task on batches that were checked as they were made.

    An error that one of the feeds met is raised as it was there, on every backend.
    """
    token = _FED.set(True)
    try:
        with warnings.catch_warnings():
            # Keras' word for the end of data without a length.
            warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
            yield
    except Exception:
        for feed in feeds:
            if getattr(feed, "error", None) is not None:
                raise feed.error from None
        raise
    finally:
        _FED.reset(token)


def is_fed() -> bool:
    """Whether this call of a task comes from `fed`."""
    return _FED.get()


class TaskInputs:
    """Mixin of tasks: Keras' training loops over anything that holds images.

    `x` may be: images, as an array or as a list of images of any size; a source of `mimzoo.data`,
    or what `mimzoo.data.open_source` opens ("photos/"); a `mimzoo.data.Loader`; or anything that
    gives batches: tf.data, a torch DataLoader, a PyDataset, Grain, a generator, a list of batches.
    Images are read as `mimzoo.tasks.preprocessing.ImageConverter` says, the same on all ways.

    Each image is read once an epoch. Images and sources are visited in a new order each epoch;
    order and masks follow from (seed, epoch, example), and epochs continue over repeated calls and
    `initial_epoch`. Evaluation and prediction always see what epoch 0 would.
    """

    # Of which a batch has to have a whole number of images.
    multiple = 1
    # Whether training and evaluation need labels.
    labelled = False
    # The epoch that the next call of `fit` begins with.
    epochs_trained = 0

    def input_rules(self, training: bool, seed: int | None = None) -> Inputs:
        """How this task takes images and whatever else its step needs.

        Args:
            training: whether what is drawn is for training.
            seed: of what is drawn in training; default: the task's.
        """
        options: dict[str, Any] = {
            "image_shape": self.backbone.image_shape,
            "check_labels": self.check_labels,
            "check_ready": self.check_inputs,
            "multiple": self.multiple,
        }
        if type(self).draw is not TaskInputs.draw:
            options["draw"] = lambda index, epoch: self.draw(
                index, epoch if training else 0, seed=seed, training=training
            )
        converter = getattr(self.preprocessor, "image_converter", None)
        if self.preprocessor is None:
            return Inputs(**options, raw=True)
        if not isinstance(converter, ImageConverter):
            return Inputs(**options, convert=self.preprocess)
        return Inputs(
            **options,
            transform=converter.transform,
            normalize=converter.normalize,
            value_range=converter.value_range,
        )

    def draw(
        self, index: np.ndarray, epoch: int = 0, seed: int | None = None, training: bool = False
    ) -> dict[str, np.ndarray]:
        """What a step needs beside images: arrays of B rows by name.

        Args:
            index: (B,) numbers of the examples.
            epoch: counted from 0; evaluation always takes 0.
            seed: in place of the task's own.
            training: whether a training step needs it.
        """
        return {}

    def open(self, name: Any, split: str, holdout: float | None = None) -> Source:
        """Opens a source that is given by name; see `mimzoo.data.open_source`."""
        return open_source(name, split, holdout)

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises ValueError for labels that do not fit the task."""

    def check_inputs(self, inputs: dict) -> None:
        """Raises ValueError for ready inputs {"images", ...} that do not fit the task."""
        if set(inputs) != {"images"}:
            raise ValueError(f"expected the key 'images', got {sorted(inputs)}.")

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        seed: int | None = None,
        **kwargs,
    ) -> keras.callbacks.History:
        """Trains; `keras.Model.fit` over the inputs that the class names.

        Args:
            x: images; of a source given by name its "train" split, all of one without splits.
            y: labels of images in memory, where the task has labels.
            batch_size: of images in memory and sources, default 32.
            epochs: the epoch to end before, as in Keras.
            callbacks: of Keras.
            validation_split: share of images in memory, the last ones, to validate on.
            validation_data: images, (images, labels), (images, labels, weights), or any other
                input; of a source given by name its "validation" split, all of one without splits.
                The same name as `x` without splits: a tenth of it, which is not trained on.
            shuffle: whether images, sources and PyDatasets are read in a new order each epoch.
            class_weight: class -> weight of its examples.
            sample_weight: (N,) weights of images in memory.
            initial_epoch: the epoch to begin with.
            steps_per_epoch: steps in an epoch, of data that does not say its length.
            validation_steps: likewise, of `validation_data`.
            validation_batch_size: default: `batch_size`.
            seed: of order and, in training, of what is drawn. Default: the task's.
            **kwargs: `verbose` and `validation_freq` of `keras.Model.fit`.

        Raises:
            ValueError: before the first step, or at the batch: images or labels that do not fit.
        """
        if epochs <= initial_epoch:  # nothing is left to do, as in Keras
            self.history = keras.callbacks.History()
            return self.history
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_off(
                x, y, sample_weight, validation_split
            )
        x, validation_data = open_to_fit(x, validation_data, self.open)
        x = self.understood(x, y, training=True)
        feed = make_feed(
            self.input_rules(training=True, seed=seed),
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            steps=steps_per_epoch,
            epochs=epochs,
            initial_epoch=initial_epoch,
            trained=self.epochs_trained,
            shuffle=shuffle,
            seed=self.seed if seed is None else seed,
            class_weight=class_weight,
            labelled=self.labelled,
        )
        self._report_left_out(feed)
        if validation_data is not None:
            parts = validation_data if isinstance(validation_data, tuple) else (validation_data,)
            validation_data = self._evaluation_feed(
                *parts,
                batch_size=batch_size if validation_batch_size is None else validation_batch_size,
                steps=validation_steps,
                again=True,
            )
        callbacks = _with(callbacks, _Epochs(self, feed, initial_epoch, epochs))
        _send_ahead(feed, validation_data)
        with fed(feed, validation_data), keep_weights(self, callbacks, fits=True) as callbacks:
            return keras.Model.fit(
                self,
                feed,
                epochs=epochs,
                callbacks=callbacks,
                validation_data=validation_data,
                shuffle=False,
                initial_epoch=initial_epoch,
                **kwargs,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        *,
        batch_size: int | None = None,
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        **kwargs,
    ) -> Any:
        """Loss and metrics; what is drawn is that of epoch 0, whatever the batch size."""
        feed = x
        if not isinstance(x, Feed):
            feed = self._evaluation_feed(x, y, sample_weight, batch_size=batch_size, steps=steps)
        _send_ahead(feed)
        with fed(feed), keep_weights(self, callbacks) as callbacks:
            return keras.Model.evaluate(self, feed, callbacks=callbacks, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs) -> Any:
        """`keras.Model.train_on_batch` of a batch as a data set gives it to `fit`.

        A MIM task takes ready inputs: what it draws follows from the place in an epoch.
        """
        batch = self._one_batch(x, y, sample_weight, training=True)
        return keras.Model.train_on_batch(self, *batch, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs) -> Any:
        """`keras.Model.test_on_batch`, likewise."""
        batch = self._one_batch(x, y, sample_weight, training=False)
        return keras.Model.test_on_batch(self, *batch, **kwargs)

    def _one_batch(self, x: Any, y: Any, sample_weight: Any, training: bool) -> tuple:
        rules = self.input_rules(training)
        if rules.draw is not None and not isinstance(x, dict):
            self.check_inputs(x)  # which says so
        prepare = Prepare(rules, Weights(None), self.labelled)
        batch = prepare((x, y, sample_weight), np.arange(len(x)), 0)
        return batch if isinstance(batch, tuple) else (batch,)

    def predict(
        self,
        x: Any = None,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        callbacks: Any = None,
        **kwargs,
    ) -> Any:
        """Predictions; what is drawn is that of epoch 0, whatever the batch size.

        Raises:
            ValueError: an image that cannot be read, or a Loader that shuffles, so that nobody
                knew whose predictions these are.
        """
        check_in_order(x)
        options = {"batch_size": batch_size, "steps": steps}
        feed = self._evaluation_feed(x, **options, labelled=False, each=True)
        _send_ahead(feed)
        with fed(feed), keep_weights(self, callbacks) as callbacks:
            return keras.Model.predict(self, feed, callbacks=callbacks, **kwargs)

    def _evaluation_feed(self, x: Any, y: Any = None, sample_weight: Any = None, **options) -> Any:
        options = {"labelled": self.labelled, **options}
        if options["labelled"]:
            x = open_for_use(x, "test", self.open) if is_named(x) else x
            x = self.understood(x, y)
        options |= {"epochs": 1, "once": True}
        feed = make_feed(self.input_rules(training=False), x, y, sample_weight, **options)
        self._report_left_out(feed, once=True)
        return feed

    def _report_left_out(self, feed: Any, once: bool = False) -> None:
        loader = getattr(feed, "batches", None)
        given = getattr(loader, "loader", None)  # by the user
        if isinstance(loader, Loader) and loader.count < len(loader.source):
            reason = f"{type(self).__name__} takes {self.multiple} at a time"
        elif once and isinstance(given, Loader) and given.count < len(given.source):
            loader, reason = given, "give the Loader drop_remainder=False"
        else:
            return
        total = len(loader.source)
        logger.warning(
            "%d of the %d images of %s are left out of each epoch: %s",
            total - loader.count,
            total,
            loader.source.name,
            reason,
        )


def check_in_order(x: Any) -> None:
    """Raises ValueError for a Loader that gives its source's images in another order."""
    if isinstance(x, Loader) and x.shuffle:
        raise ValueError(
            "this Loader shuffles, so predictions would not be in the order of its source: give "
            "Loader(…, shuffle=False, drop_remainder=False), or the source."
        )


def _send_ahead(*feeds: Any) -> None:
    for feed in feeds:
        if isinstance(feed, Feed):
            feed.send = sender()


class _Epochs(keras.callbacks.Callback):
    """Says to the feed which epoch begins, wherever Keras begins (`BackupAndRestore`)."""

    def __init__(self, task: Any, feed: Any, initial_epoch: int, epochs: int) -> None:
        super().__init__()
        self.task, self.feed, self.epochs = task, feed, epochs
        self.trained_before = task.epochs_trained
        self.first: int | None = None
        self._begin(initial_epoch)  # Keras may look at the first batch before it starts

    def _begin(self, epoch: int) -> int:
        first = epoch if self.first is None else self.first
        shift = max(0, self.trained_before - first)
        if isinstance(self.feed, Feed):  # others have one epoch
            self.feed.begin(epoch + shift, self.epochs + shift)
        return epoch + shift

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.first = epoch if self.first is None else self.first
        self.epoch = self._begin(epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.task.epochs_trained = self.epoch + 1


def _with(callbacks: Any, callback: keras.callbacks.Callback) -> Any:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(callback)
        return callbacks
    own = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks or ())
    return [callback, *own]
