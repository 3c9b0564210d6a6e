"""What Keras' loops read: any input of `fit`, `evaluate` or `predict`, each batch once an epoch."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from mimzoo.data.in_memory import ListSource, ReadySource
from mimzoo.data.inputs import Inputs, Prepare, Weights, check_labelled
from mimzoo.data.loader import Loader
from mimzoo.data.opening import is_named, open_for_use, open_source
from mimzoo.data.pixels import rgb_images
from mimzoo.data.sources import ArraySource, Source
from mimzoo.data.stream import Stream, counted, to_numpy

logger = logging.getLogger("mimzoo")
DEFAULT_BATCH_SIZE = 32


class Feed(keras.utils.PyDataset):
    """A loader or stream as Keras' loops read it, in order.

    Keras may look at the first batches before it starts (TensorFlow, for their shapes); they are
    kept, so that nothing is read twice.

    Args:
        batches: a `Loader`, or a `Stream`.
        steps: in an epoch.
        epochs: after which nothing is read ahead; None: not known.
    """

    def __init__(self, batches: Loader | Stream, steps: int, epochs: int | None = None) -> None:
        super().__init__()
        self.batches = batches
        self.steps = steps
        self.end = epochs and epochs * steps
        self.epoch = 0
        self._iterator: Iterator[Any] = iter(())
        self._next: int | None = None
        self._first: dict[int, Any] = {}
        # Moves a batch to the device for Keras' loops; None: they do so themselves.
        self.send: Callable[[Any], Any] | None = None
        # What went wrong here: TensorFlow wraps it into an error of its own.
        self.error: Exception | None = None

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return self.steps

    def begin(self, epoch: int, end: int) -> None:
        """Continues with this epoch; `end` is the one after the last."""
        self.epoch, self.end = epoch, end * self.steps

    def __getitem__(self, step: int) -> Any:
        try:
            batch = self._batch(step)
            return batch if self.send is None else self.send(batch)
        except Exception as error:
            self.error = error
            raise

    def _batch(self, step: int) -> Any:
        place = self.epoch * self.steps + step
        if place in self._first:
            return self._first[place]
        if place != self._next:
            self._first.clear()
            self._iterator = iter(self.batches.read(place, self.end))
        try:
            batch = next(self._iterator)
        except StopIteration:
            raise ValueError(
                f"the data ended at step {step} of {self.steps} in epoch {self.epoch + 1}: give a "
                "smaller steps_per_epoch, or data that can be read again."
            ) from None
        batch = batch if isinstance(batch, tuple) else (batch,)
        self._next = place + 1
        if step < 2:
            self._first[place] = batch
        else:
            self._first.clear()
        return batch

    def __iter__(self) -> Iterator[Any]:
        return (self[step] for step in range(self.steps))


def make_feed(
    inputs: Inputs,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    initial_epoch: int = 0,
    trained: int = 0,
    shuffle: bool = False,
    seed: int = 0,
    class_weight: dict[int, float] | None = None,
    labelled: bool = False,
    once: bool = False,
    again: bool = False,
    each: bool = False,
) -> Any:
    """A Feed of anything that users pass to `fit`, `evaluate` or `predict`.

    Args:
        inputs: how the task takes them.
        x: images (an array, or a list of images of any size); a source of `mimzoo.data`, or its
            name or path (all of one without splits, else its "test"); a dict of ready inputs; a
            `Loader`; or anything that gives batches: tf.data, torch DataLoader, PyDataset, Grain,
            a generator, a list of batches.
        y: labels of images in memory.
        sample_weight: (N,) weights of images in memory.
        batch_size: of images in memory and of sources, default 32.
        steps: in an epoch; needed where batches come from something without a length.
        epochs: the epoch to end before.
        initial_epoch: the epoch to begin with.
        trained: epochs that the task has seen before, after which its own are counted.
        shuffle: a new order each epoch, of what can be read in any order.
        seed: of that order.
        class_weight: class -> weight of its examples.
        labelled: whether labels are needed.
        once: whether an epoch, an evaluation, takes no image twice, however large `steps` is.
        again: whether it is read from its beginning several times; data that does not say its
            length is counted.
        each: whether an image that cannot be read is an error, as where results are one for each.

    Returns:
        A Feed; of data without a length, a generator.

    Raises:
        ValueError: no images, labels that do not fit, data that cannot be read.
    """
    if isinstance(x, Feed):
        return x
    if steps is not None and steps < 1:
        raise ValueError(f"an epoch has at least one step, got {steps}.")
    if class_weight is not None and not labelled:
        raise ValueError("class_weight is for tasks with labels.")
    weigh = Weights(class_weight)
    if is_named(x):
        x = open_for_use(x, "test", open_source)
    if isinstance(x, list | tuple) and x and is_named(x[0]):
        raise ValueError(f"these are names, such as {x[0]}: give their folder, or a list of arrays")
    if isinstance(x, Loader):
        _refuse_beside(y, sample_weight)
        prepare = Prepare(inputs, weigh, labelled, ready=x.normalize is not None)
        return Feed(_Prepared(x, prepare), _steps(steps, x.steps_per_epoch, once), epochs)
    if batch_size is None:
        batch_size = DEFAULT_BATCH_SIZE
    if batch_size != int(batch_size) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size}")
    options = {"batch_size": int(batch_size), "shuffle": shuffle, "seed": seed}
    options |= {"max_corrupt": 0} if each else {}
    # Label maps and boxes come with their images.
    complete = isinstance(x, Source) and (x.dense or x.boxed)
    if isinstance(x, Source) and labelled and y is None and not complete:
        y = x.labels
    in_memory = isinstance(x, dict | Source) or _is_images(x)
    if in_memory and not complete:
        check_labelled(y, labelled)
    if isinstance(x, dict):
        loader = _of_ready(inputs, x, y, sample_weight, weigh, options)
    elif in_memory:
        source = x if isinstance(x, Source) else _in_memory(inputs, x)
        loader = _of_source(inputs, source, y, sample_weight, weigh, options)
    else:
        _refuse_beside(y, sample_weight)
        if again and steps is None:
            steps = counted(x)
        stream = Stream(x, Prepare(inputs, weigh, labelled), steps, shuffle, seed, again)
        if stream.steps is None:
            if epochs is not None and epochs - initial_epoch > 1:
                raise ValueError(
                    "this data set does not say its length, which is needed for several epochs: "
                    "give steps_per_epoch, or one that says it (tf.data: `assert_cardinality`)."
                )
            return _until_the_end(stream, max(trained, initial_epoch))
        return Feed(stream, _steps(steps, stream.length, once), epochs)
    return Feed(loader, _steps(steps, loader.steps_per_epoch, once), epochs)


def _refuse_beside(y: Any, sample_weight: Any) -> None:
    if y is not None or sample_weight is not None:
        raise ValueError(
            "labels and sample weights belong into the batches of a data set, as (images, "
            "labels) or (images, labels, weights): leave out y and sample_weight."
        )


def _steps(asked: int | None, there: int | None, once: bool) -> int:
    if asked is None or there is None:
        return asked or there
    if once and asked > there:
        logger.warning("the data has %d batches, not %d: each is read once", there, asked)
        return there
    return asked


def _until_the_end(stream: Stream, epoch: int) -> Iterator[Any]:
    return (batch if isinstance(batch, tuple) else (batch,) for batch in stream.read(epoch, None))


def _is_images(x: Any) -> bool:
    if isinstance(x, np.ndarray) or keras.ops.is_tensor(x):
        return True
    if type(x).__name__ in ("EagerTensor", "Tensor", "ArrayImpl"):  # of another backend
        return True
    return isinstance(x, list | tuple) and (
        not x or (not isinstance(x[0], tuple | list | dict | str) and np.ndim(x[0]) in (2, 3))
    )


def _in_memory(inputs: Inputs, x: Any) -> Source:
    if len(x) == 0:
        raise ValueError("there are no images.")
    if inputs.raw:
        return ReadySource(inputs.ready(to_numpy(x)))
    if inputs.convert is not None and not isinstance(x, list | tuple):
        return ReadySource(to_numpy(x))  # what converts them knows their range
    if isinstance(x, list | tuple):
        return ListSource(x, inputs.value_range)
    return ArraySource(rgb_images(to_numpy(x), inputs.value_range))


def _of_source(
    inputs: Inputs, source: Source, y: Any, sample_weight: Any, weigh: "Weights", options: dict
) -> Loader:
    if inputs.raw and not isinstance(source, ReadySource):
        raise ValueError(
            f"without a preprocessor, images have to come as the backbone takes them, which "
            f"{source.name} does not give: keep the preprocessor."
        )
    if y is not None:
        y = to_numpy(y)
        inputs.check_labels(y)
    sample_weight = weigh(y, sample_weight)
    return Loader(
        source,
        **options,
        transform=inputs.transform,
        normalize=_then_checked(inputs),
        epochs=None,
        drop_remainder=False,
        draw=inputs.draw,
        labels=False if y is None else y,
        sample_weight=None if sample_weight is None else to_numpy(sample_weight),
        multiple=inputs.multiple,
    )


def _then_checked(inputs: Inputs) -> Callable[[np.ndarray], np.ndarray]:
    if inputs.convert is not None:
        return lambda images: inputs.checked(inputs.convert(images))
    if inputs.normalize is None:
        return inputs.checked
    return lambda images: inputs.checked(inputs.normalize(images))


def _of_ready(
    inputs: Inputs, x: dict, y: Any, sample_weight: Any, weigh: "Weights", options: dict
) -> Loader:
    """A loader over arrays that are all there: images as the backbone takes them, and the rest."""
    arrays = {name: to_numpy(values) for name, values in x.items()}
    inputs.check_ready(arrays)
    inputs.ready(arrays["images"])
    source = ReadySource(arrays.pop("images"))
    if y is not None:
        y = to_numpy(y)
        inputs.check_labels(y)
    sample_weight = weigh(y, sample_weight)
    return Loader(
        source,
        **options,
        normalize=inputs.checked,
        epochs=None,
        drop_remainder=False,
        draw=(lambda index, epoch: {k: v[index] for k, v in arrays.items()}) if arrays else None,
        labels=False if y is None else y,
        sample_weight=None if sample_weight is None else to_numpy(sample_weight),
        multiple=inputs.multiple,
    )


class _Prepared:
    """Batches of the user's own loader, which a task still has to look at."""

    def __init__(self, loader: Loader, prepare: "Prepare") -> None:
        self.loader, self.prepare = loader, prepare

    def read(self, start: int, end: int | None) -> Iterator[Any]:
        """The batches of these global steps, counted from where the loader begins."""
        first = self.loader.start_step
        batches = self.loader.dataset(first + start, None if end is None else first + end)
        for step, batch in enumerate(batches, first + start):
            yield self.prepare(batch, self.loader.indices(step), self.loader.position(step)[0])
