"""What Keras' loops read: any input of `fit`, `evaluate` or `predict`, each batch once an epoch."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from mimzoo.data.in_memory import ListSource, ReadySource
from mimzoo.data.loader import Loader
from mimzoo.data.opening import open_source
from mimzoo.data.pixels import ValueRange, infer_range, rgb_images
from mimzoo.data.sources import ArraySource, Source
from mimzoo.data.stream import Stream, to_numpy

DEFAULT_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Inputs:
    """How a task takes its images, labels and whatever else its step needs.

    Attributes:
        image_shape: (H, W, C) of the backbone.
        check_labels: raises ValueError for labels (B, ...) that do not fit.
        check_ready: raises ValueError for a dict of inputs that does not fit.
        transform, normalize: of the loader; see `mimzoo.data.Loader`.
        value_range: of images of floats; None: inferred.
        convert: in place of the three: a batch as users have it -> (B, H, W, C) float32.
        raw: whether images come as the backbone wants them.
        draw: what a step needs beside images, from (indices, epoch); None for nothing.
        multiple: of which a batch has to have a whole number of images.
    """

    image_shape: tuple[int, int, int]
    check_labels: Callable[[Any], None]
    check_ready: Callable[[dict], None]
    transform: Callable | None = None
    normalize: Callable | None = None
    value_range: ValueRange | None = None
    convert: Callable | None = None
    raw: bool = False
    draw: Callable[[np.ndarray, int], dict[str, np.ndarray]] | None = None
    multiple: int = 1

    def checked(self, images: np.ndarray) -> np.ndarray:
        """(B, H, W, C) float32; raises ValueError for images of another shape."""
        images = np.asarray(images, np.float32)
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images have the shape {images.shape}, the backbone takes "
                f"(N, {', '.join(map(str, self.image_shape))}): resize them, or load the backbone "
                "with another image_shape."
            )
        return images


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

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return self.steps

    def begin(self, epoch: int, end: int) -> None:
        """Continues with this epoch; `end` is the one after the last."""
        self.epoch, self.end = epoch, end * self.steps

    def __getitem__(self, step: int) -> Any:
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
    shuffle: bool = False,
    seed: int = 0,
    class_weight: dict[int, float] | None = None,
    split: str = "train",
    labelled: bool = False,
) -> Any:
    """A Feed of anything that users pass to `fit`, `evaluate` or `predict`.

    Args:
        inputs: how the task takes them.
        x: images (an array, or a list of images of any size); a source of `mimzoo.data`, or its
            name or path; a dict of ready inputs; a `Loader`; or anything that gives batches:
            tf.data, torch DataLoader, PyDataset, Grain, a generator, a list of batches.
        y: labels of images in memory.
        sample_weight: (N,) weights of images in memory.
        batch_size: of images in memory and of sources, default 32.
        steps: in an epoch; needed where batches come from something without a length.
        epochs: that will be read at most.
        shuffle: a new order each epoch, of what can be read in any order.
        seed: of that order.
        class_weight: class -> weight of its examples.
        split: of a source given by name.
        labelled: whether labels are needed.

    Returns:
        A Feed; of data without a length, a generator.

    Raises:
        ValueError: no images, labels that do not fit, data that cannot be read.
    """
    if isinstance(x, Feed):
        return x
    weigh = _Weights(class_weight)
    if isinstance(x, str | os.PathLike):
        x = _open(x, split)
    if isinstance(x, Loader):
        prepare = _Batches(inputs, weigh, labelled, ready=x.normalize is not None)
        return Feed(_Prepared(x, prepare), steps or x.steps_per_epoch, epochs)
    options = {"batch_size": batch_size or DEFAULT_BATCH_SIZE, "shuffle": shuffle, "seed": seed}
    if isinstance(x, Source) and labelled and y is None:
        y = x.labels
    in_memory = isinstance(x, dict | Source) or _is_images(x)
    if in_memory:
        _check_labelled(y, labelled)
    if isinstance(x, dict):
        loader = _of_ready(inputs, x, y, sample_weight, weigh, options)
    elif in_memory:
        source = x if isinstance(x, Source) else _in_memory(inputs, x)
        loader = _of_source(inputs, source, y, sample_weight, weigh, options)
    else:
        if y is not None or sample_weight is not None:
            raise ValueError(
                "labels and sample weights belong into the batches of a data set, as (images, "
                "labels) or (images, labels, weights): leave out y and sample_weight."
            )
        stream = Stream(x, _Batches(inputs, weigh, labelled), steps, shuffle, seed)
        if stream.steps is None:
            return _until_the_end(stream, epochs)
        return Feed(stream, stream.steps, epochs)
    return Feed(loader, steps or loader.steps_per_epoch, epochs)


def _check_labelled(y: Any, labelled: bool) -> None:
    if labelled and y is None:
        raise ValueError(
            "labels are missing: give y, (images, labels) batches, or a source with labels."
        )


def _open(name: str | os.PathLike, split: str) -> Source:
    """The split of a source; all of one that has none, where images are only looked at."""
    if split == "any":
        try:
            return open_source(name, "all")
        except ValueError:
            return open_source(name, "test")
    return open_source(name, split)


def _until_the_end(stream: Stream, epochs: int | None) -> Iterator[Any]:
    if epochs is not None and epochs > 1:
        raise ValueError(
            "this data set does not say its length, which is needed for several epochs: give "
            "steps_per_epoch, or one that says it (tf.data: `assert_cardinality`)."
        )
    return (batch if isinstance(batch, tuple) else (batch,) for batch in stream.read(0, None))


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
        return ReadySource(inputs.checked(to_numpy(x)))
    if isinstance(x, list | tuple):
        return ListSource(x, inputs.value_range)
    return ArraySource(rgb_images(to_numpy(x), inputs.value_range))


def _of_source(
    inputs: Inputs, source: Source, y: Any, sample_weight: Any, weigh: "_Weights", options: dict
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
    inputs: Inputs, x: dict, y: Any, sample_weight: Any, weigh: "_Weights", options: dict
) -> Loader:
    """A loader over arrays that are all there: images as the backbone takes them, and the rest."""
    arrays = {name: to_numpy(values) for name, values in x.items()}
    inputs.check_ready(arrays)
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

    def __init__(self, loader: Loader, prepare: "_Batches") -> None:
        self.loader, self.prepare = loader, prepare

    def read(self, start: int, end: int | None) -> Iterator[Any]:
        """The batches of these global steps, counted from where the loader begins."""
        first = self.loader.start_step
        batches = self.loader.dataset(first + start, None if end is None else first + end)
        for step, batch in enumerate(batches, first + start):
            yield self.prepare(batch, self.loader.indices(step), self.loader.position(step)[0])


class _Weights:
    """Weights of examples by their class."""

    def __init__(self, class_weight: dict[int, float] | None) -> None:
        self.class_weight = class_weight

    def __call__(self, labels: np.ndarray, sample_weight: Any) -> Any:
        if self.class_weight is None:
            return sample_weight
        if sample_weight is not None:
            raise ValueError("give class_weight or sample_weight, not both.")
        classes = labels.argmax(-1) if labels.ndim > 1 and labels.shape[-1] > 1 else labels
        classes = classes.reshape(len(labels))
        missing = sorted(set(np.unique(classes).tolist()) - set(self.class_weight))
        if missing:
            raise ValueError(f"class_weight has no weight of class {missing[0]}.")
        return np.array([self.class_weight[c] for c in classes.tolist()], np.float32)


class _Batches:
    """A batch as a data set gives it -> a batch as the model takes it."""

    def __init__(
        self, inputs: Inputs, weigh: _Weights, labelled: bool, ready: bool = False
    ) -> None:
        self.inputs, self.weigh, self.labelled = inputs, weigh, labelled
        self.ready = ready or inputs.raw
        self.value_range = inputs.value_range

    def __call__(self, batch: Any, index: np.ndarray, epoch: int) -> Any:
        """Checks and prepares a batch of the examples `index` (B,)."""
        x, y, weight = _unpacked(batch)
        if isinstance(x, dict):
            x = {name: to_numpy(values) for name, values in x.items()}
            self.inputs.check_ready(x)
            self.inputs.checked(x["images"])
        else:
            x = self._images(x)
            if self.inputs.multiple > 1 and len(x) % self.inputs.multiple:
                raise ValueError(
                    f"a batch of {len(x)} images, and {self.inputs.multiple} are needed at a time: "
                    "give batches of a multiple of that."
                )
            if self.inputs.draw is not None:
                x = {"images": x, **self.inputs.draw(index, epoch)}
        _check_labelled(y, self.labelled)
        if self.inputs.draw is not None or y is None:
            return x
        y = to_numpy(y)
        self.inputs.check_labels(y)
        weight = self.weigh(y, weight)
        return (x, y) if weight is None else (x, y, to_numpy(weight).astype(np.float32))

    def _images(self, images: Any) -> np.ndarray:
        inputs = self.inputs
        if self.ready:
            return inputs.checked(to_numpy(images))
        images = images if isinstance(images, list) else to_numpy(images)
        if inputs.convert is not None:
            return inputs.checked(inputs.convert(images))
        if self.value_range is None:
            self.value_range = infer_range([np.asarray(image) for image in images])
        images = rgb_images(images, self.value_range)
        if inputs.transform is not None:
            images = [inputs.transform(image) for image in images]
        return inputs.checked(inputs.normalize(np.stack(images)))


def _unpacked(batch: Any) -> tuple[Any, Any, Any]:
    if isinstance(batch, list | tuple) and not _is_list_of_images(batch):
        if not 1 <= len(batch) <= 3:
            raise ValueError(
                f"a batch must be images, (images, labels) or (images, labels, weights), got "
                f"{len(batch)} parts."
            )
        return tuple(batch) + (None,) * (3 - len(batch))
    return batch, None, None


def _is_list_of_images(batch: Any) -> bool:
    return isinstance(batch, list) and all(np.ndim(x) in (2, 3) for x in batch)
