"""Batches of data sets that are read from front to end."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from mimzoo.data.random import permutation

# Batches that are prepared while the model is busy.
AHEAD = 2
NO_BATCHES = "there are no images: the data set has no batches."


class Stream:
    """Prepared batches of a data set, each read once an epoch.

    A PyDataset is read in a new order each epoch if `shuffle`, as Keras does. All else comes in its
    own order. An epoch of the data is a pass through it, whatever `steps` is; where the length is
    not known it is `steps`, and the data continues over epochs until it ends and begins again.

    Args:
        data: tf.data, torch DataLoader, PyDataset, Grain, a generator, or any iterable of batches.
        prepare: (batch, numbers (B,) of its examples, epoch) -> batch.
        steps: in an epoch of Keras; default: the data set's length.
        shuffle: see above.
        seed: of the order.
        again: whether each reading from step 0 begins at the data's beginning, if it has one.

    Attributes:
        length: batches of the data set; None where nobody knows.
        steps: in an epoch of Keras; None where nobody knows.

    Raises:
        ValueError: something that cannot be iterated, or of length 0.
    """

    def __init__(
        self,
        data: Any,
        prepare: Callable[[Any, np.ndarray, int], Any],
        steps: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        again: bool = False,
    ) -> None:
        if not isinstance(data, Iterable | keras.utils.PyDataset):
            raise ValueError(
                f"{type(data).__name__} is no data: give images, a source of mimzoo.data or its "
                "path, or a data set of batches."
            )
        self.data, self.prepare = data, prepare
        self.length = _length(data)
        self.steps = steps or self.length
        if self.length == 0:
            raise ValueError(NO_BATCHES)
        self.shuffle, self.seed = shuffle, seed
        continued = self.length is None and steps and not (again and not is_read_once(data))
        self._continued = self._again_and_again() if continued else None

    def read(self, start: int, end: int | None) -> Iterator[Any]:
        """The batches from the global step `start` to `end` (exclusive), or without end.

        Of data without a length `start` is the epoch, and there is one.
        """
        per_epoch = self.length or self.steps
        if per_epoch is None:
            yield from self._epoch(start, 0, None)
            return
        epoch, skipped = divmod(start, per_epoch)
        if self._continued is not None:
            skipped = 0  # what was read is behind us
        while end is None or epoch * per_epoch < end:
            left = per_epoch if end is None else min(per_epoch, end - epoch * per_epoch)
            yield from self._epoch(epoch, skipped, left)
            epoch, skipped = epoch + 1, 0

    def _again_and_again(self) -> Iterator[Any]:
        """The batches of data without a length, from the beginning where it ends."""
        while True:
            number = -1
            for number, batch in enumerate(self.data):  # noqa: B007
                yield batch
            if number < 0 or is_read_once(self.data):
                return

    def _epoch(self, epoch: int, skipped: int, count: int | None) -> Iterator[Any]:
        waiting: collections.deque = collections.deque()
        with ThreadPoolExecutor(1, thread_name_prefix="stream") as thread:
            places = _Places(self._raw(epoch), self.prepare, epoch, skipped, count)
            try:
                while True:
                    while len(waiting) < AHEAD:
                        waiting.append(thread.submit(places.next))
                    batch = waiting.popleft().result()
                    if batch is _END:
                        return
                    yield batch
            finally:
                for future in waiting:
                    future.cancel()

    def _raw(self, epoch: int) -> Iterator[Any]:
        if self._continued is not None:
            return self._continued
        if isinstance(self.data, keras.utils.PyDataset):
            return _of_pydataset(self.data, self.length, epoch, self.shuffle, self.seed)
        return iter(self.data)


_END = object()


class _Places:
    """Counts what was read, so that each example has its number."""

    def __init__(
        self, raw: Iterator[Any], prepare: Callable, epoch: int, skipped: int, count: int | None
    ) -> None:
        self.raw, self.prepare, self.epoch = raw, prepare, epoch
        self.skipped, self.count, self.read, self.first = skipped, count, 0, 0

    def next(self) -> Any:
        """The next batch, or `_END`."""
        while True:
            if self.count is not None and self.read >= self.count:
                return _END
            try:
                batch = next(self.raw)
            except StopIteration:
                return _END
            if isinstance(batch, _At):
                batch, self.first = batch
            index = np.arange(self.first, self.first + rows(batch))
            self.first += len(index)
            self.read += 1
            if self.read > self.skipped:
                return self.prepare(batch, index, self.epoch)


_At = collections.namedtuple("_At", ("batch", "first"))


def _of_pydataset(
    data: keras.utils.PyDataset, steps: int, epoch: int, shuffle: bool, seed: int
) -> Iterator[_At]:
    """Each batch once, read by as many threads as the data set has workers."""
    order = permutation(seed, epoch, steps) if shuffle else np.arange(steps)
    data.on_epoch_begin()
    size, waiting = 0, collections.deque()
    with ThreadPoolExecutor(max(1, data.workers), thread_name_prefix="pydataset") as threads:
        for place in [*order.tolist(), None]:
            if place is not None:
                waiting.append((place, threads.submit(data.__getitem__, place)))
            # Of two batches one at least is not the last, which may be smaller.
            while len(waiting) > max(1, data.workers) or (place is None and waiting):
                size = size or max(rows(batch.result()) for _, batch in list(waiting)[:2])
                number, batch = waiting.popleft()
                batch = batch.result()
                if place is None and not waiting:
                    data.on_epoch_end()  # nobody asks for what follows the last batch
                yield _At(batch, number * size)


def is_read_once(data: Any) -> bool:
    """Whether data is gone once it was read, as a generator's is."""
    return isinstance(data, Iterator)


def counted(data: Any) -> int:
    """Batches of a data set: its length, or what is counted by reading it.

    Raises:
        ValueError: it can be read only once, has no end, or no batches.
    """
    found = _length(data)
    if found is None:
        cardinality = getattr(data, "cardinality", None)  # of tf.data: -1 without an end
        endless = isinstance(data, keras.utils.PyDataset)
        endless |= cardinality is not None and int(cardinality()) == -1
        if endless or is_read_once(data):
            raise ValueError(
                "validation data that has no end, or can be read only once, needs validation_steps "
                "(or give data that can be read again and ends)."
            )
        found = sum(1 for _ in data)
    if found == 0:
        raise ValueError(NO_BATCHES)
    return found


def _length(data: Any) -> int | None:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches
    try:
        return len(data)
    except TypeError:
        return None


def rows(batch: Any) -> int:
    """How many examples a batch has."""
    while isinstance(batch, list | tuple | dict):
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return int(np.shape(batch)[0])


def to_numpy(x: Any) -> Any:
    """An array or tensor of any backend as a NumPy array; a dict of them as one of arrays."""
    if isinstance(x, dict):
        return {name: to_numpy(values) for name, values in x.items()}
    if keras.ops.is_tensor(x):
        return keras.ops.convert_to_numpy(x)
    if hasattr(x, "detach"):  # torch's, on another backend
        x = x.detach().cpu()
    return np.asarray(x)
