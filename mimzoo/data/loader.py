"""The loader: batches as a pure function of the step, fed to `fit` through grain."""

import functools
import itertools
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mimzoo.data.loader_check import check_loader
from mimzoo.data.normalize import Normalize
from mimzoo.data.objects import Objects, padded
from mimzoo.data.random import MAX_SORTED, permutation, shuffled, uniform
from mimzoo.data.reader import Reader
from mimzoo.data.sources import Source
from mimzoo.data.transform import Transform

Draw = Callable[[np.ndarray, int], dict[str, np.ndarray]]
BatchTransform = Callable[[dict[str, np.ndarray], int], dict[str, np.ndarray]]

# Of a batch in memory, about a millisecond of work.
THREAD_PIXELS = 2**16
# Images that are mixed among each other, at most.
MAX_MIXED = 64


class Loader:
    """Batches for `keras.Model.fit`, the same on every machine and backend.

    Batch k follows from `seed` and k alone: the order from (seed, epoch), an example's
    augmentation and mask from (seed, epoch, example index). So a run that is started again at
    step k, with `start_step=k`, sees what it would have seen. A batch is made by: read, transform,
    stack, `batch_transform` (float32 images of 0..255), `normalize`.

    Pass `loader.dataset()` to `fit`. Keras starts a data set anew each epoch unless it knows how
    long an epoch is, so train, and evaluate within `fit`, with `epochs=None` here and
    `fit(loader.dataset(), steps_per_epoch=loader.steps_per_epoch, epochs=...)`, likewise
    `validation_steps`. Tasks and classifiers of mimzoo take the loader itself: `fit(loader)`.

    What comes out: with `draw` a dict {"images": (B, H, W, 3) float32, ...} of the images and what
    is drawn; with `labels` a tuple (images, labels), labels (B,) int32 or what `batch_transform`
    makes of them; else the images alone. With `pad_remainder` or `sample_weight` also weights (B,)
    float32, as the dict's "weights" or the tuple's third.

    Args:
        source: the examples.
        batch_size: examples in a batch, over all devices.
        transform: from `mimzoo.data.transforms` or alike, applied to each uint8 image.
        normalize: applied to each batch, usually `Normalize`; by default images stay 0..255.
        seed: of order, augmentation and `batch_transform`.
        shuffle: whether each epoch has a new order and new augmentation. If not, every epoch is
            epoch 0 in the order of the source, as evaluation wants it, but for what is drawn. Up to
            two million examples are sorted by hashes; of more, each batch computes its own part
            of the order (`mimzoo.data.random.shuffled`), so an epoch costs no memory and no time
            in advance.
        epochs: how often the source is passed through; None: without end.
        drop_remainder: leaves out the examples that do not fill a batch (with `shuffle`, others
            each epoch). If not, the last batch of an epoch is smaller.
        draw: what a step needs beside images, such as `task.draw`: called with (example indices
            (B,), epoch), returns arrays of B rows by name, such as {"masks": (B, N) uint8}.
        labels: whether the source's labels are wanted, or labels (N, ...) of one's own. Label maps
            of a source that has them always come, (B, H, W) int32, as do boxes: {"boxes": (B, M,
            4) float32, "labels": (B, M) int32}, x1, y1, x2, y2 in pixels of the batch's images, M
            that of the image with most objects, filled up with boxes 0 and labels -1.
        sample_weight: (N,) weights of the examples, or None.
        batch_transform: callables on a batch {"images", and with `labels` "labels"} and a seed
            that follows from (seed, epoch, place in the epoch); each returns such a dict. For
            mixup and the like. They see at most 64 neighbours at a time, so that each of many
            processes reads its own rows only.
        start_step: the global step to begin with.
        num_threads: that prepare batches ahead; default: one for each CPU, 16 at most, and of
            images in memory one for each 65,536 pixels of a batch: a smaller batch takes less
            time than to hand it over. 0 prepares them in the calling thread. Threads, not
            processes: Pillow decodes and resizes outside of Python's lock, and batches are not
            copied.
        max_corrupt: the greatest share of unreadable files. Each is logged by name and replaced
            by the next readable one of the source; with 0 the first is an error. Of shards, also
            the greatest share that may be damaged or missing from the beginning.
        pad_remainder: needs `labels` or `draw` and no `drop_remainder`: fills the last batch
            up with copies of its last examples, whose weight is 0. All other examples weigh the
            same, a little more than 1, so that the mean is 1 and the loss of `evaluate` exact.
            Give Keras accuracy and the like as `weighted_metrics`.
        multiple: of which every batch has to have a whole number of examples (2 for MixMIM); the
            last examples of an epoch that do not make one are left out.
        shard: (number, count): only this of `count` equal parts of each batch, for one of so many
            processes. Together they are the batch that one process would have.

    Attributes:
        steps_per_epoch: batches in an epoch.
        count: examples in an epoch, without those left out.
        local_batch_size: examples in this part of a batch.

    Raises:
        ValueError: arguments that contradict each other, or a source smaller than a batch.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        transform: Transform | None = None,
        normalize: Normalize | Callable[[np.ndarray], np.ndarray] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = 1,
        drop_remainder: bool = True,
        draw: Draw | None = None,
        labels: bool | np.ndarray = False,
        sample_weight: np.ndarray | None = None,
        batch_transform: Sequence[BatchTransform] | None = None,
        start_step: int = 0,
        num_threads: int | None = None,
        max_corrupt: float = 0.01,
        pad_remainder: bool = False,
        multiple: int = 1,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.source = source
        self.batch_size = batch_size
        self.transform = transform
        self.normalize = normalize
        self.seed = seed
        self.shuffle = shuffle
        self.epochs = epochs
        self.drop_remainder = drop_remainder
        self.draw = draw
        # Pretraining has no use for label maps, so its transforms need no rule for them.
        self.dense = source.dense and draw is None
        self.batch_transform = tuple(batch_transform or ())
        self.start_step = start_step
        self.pad_remainder = pad_remainder
        self.shard = shard
        self.local_batch_size = batch_size // shard[1]
        self.in_memory = hasattr(source, "images")
        if num_threads is None:
            num_threads = min(16, os.cpu_count() or 1)
            if self.in_memory:
                pixels = batch_size * math.prod(source.images.shape[1:3])
                num_threads = min(num_threads, pixels // THREAD_PIXELS)
        self.num_threads = num_threads
        self.labels = labels
        if isinstance(labels, bool):
            self.labels = source.labels if labels else None
        self.sample_weight = sample_weight
        check_loader(self, max_corrupt, multiple)
        self.count = len(source) // (batch_size if drop_remainder else multiple)
        self.count *= batch_size if drop_remainder else multiple
        self.steps_per_epoch = -(-self.count // batch_size)
        if epochs is not None and start_step > epochs * self.steps_per_epoch:
            raise ValueError(
                f"start_step {start_step} lies beyond the end, "
                f"{epochs} epochs of {self.steps_per_epoch} steps"
            )
        self._reader = Reader(source, max_corrupt, transform, self.dense)
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)
        self._order_lock = threading.Lock()

    # === Steps ===

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, batch in this epoch) of a global step, both counted from 0."""
        return divmod(step, self.steps_per_epoch)

    def __len__(self) -> int:
        """Batches from `start_step` to the end; TypeError if there is no end."""
        if self.epochs is None:
            raise TypeError("a loader with epochs=None has no length; see steps_per_epoch")
        return self.epochs * self.steps_per_epoch - self.start_step

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint written after `step` global steps keeps, to resume exactly."""
        return {
            "step": int(step),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "num_examples": len(self.source),
            "shuffle": self.shuffle,
            "drop_remainder": self.drop_remainder,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Begins at the step of `state`.

        Raises:
            ValueError: this loader would not continue with the same batches.
        """
        for name, value in self.state(state["step"]).items():
            if state[name] != value:
                raise ValueError(f"cannot resume: {name} was {state[name]!r} and is {value!r} now")
        self.start_step = state["step"]

    # === Batches ===

    def batch(self, step: int) -> Any:
        """The batch of a global step, as `fit` takes it."""
        epoch, number = self.position(step)
        indices = self.indices(step)
        padding = self.batch_size - len(indices) if self.pad_remainder else 0
        if padding:
            # Two by two, since MixMIM mixes neighbours.
            indices = np.concatenate([indices, np.resize(indices[-2:], padding)])
        rows = self._rows(len(indices))
        batch = self._transformed(indices, rows, epoch if self.shuffle else 0, number)
        images = batch["images"]
        if self.normalize is not None:
            images = self.normalize(images)
        images = np.asarray(images, np.float32)
        weights = self._weights(indices, padding)[rows] if self._weighted else None
        if self.draw is not None:
            # For the whole batch: MixMIM may share one mask across it.
            drawn = {name: rows_of[rows] for name, rows_of in self.draw(indices, epoch).items()}
            if weights is not None:
                drawn["weights"] = weights
            return {"images": images, **drawn}
        if "labels" not in batch:
            return images
        labelled = images, batch["labels"]
        return labelled if weights is None else (*labelled, weights)

    def indices(self, step: int) -> np.ndarray:
        """Numbers of the examples in the batch of a global step, without padding."""
        epoch, number = self.position(step)
        first = number * self.batch_size
        last = min(first + self.batch_size, self.count)
        return self._indices(epoch if self.shuffle else 0, first, last)

    def _rows(self, count: int) -> slice:
        """Which rows of a batch of `count` are this process'."""
        if self.shard[1] == 1:
            return slice(0, count)
        first = self.shard[0] * self.local_batch_size
        return slice(first, first + self.local_batch_size)

    def _transformed(
        self, indices: np.ndarray, rows: slice, epoch: int, number: int
    ) -> dict[str, np.ndarray]:
        """Images, and labels if they are wanted, of these rows of a batch."""
        if not self.batch_transform:
            return self._read(indices[rows], epoch)
        count = -(-self.batch_size // MAX_MIXED)
        edges = [n * self.batch_size // count for n in range(count + 1)]
        groups = [
            (first, last)
            for first, last in itertools.pairwise(edges)
            if first < rows.stop and last > rows.start
        ]
        mixed = [self._mixed(indices[slice(*group)], group[0], epoch, number) for group in groups]
        begin = groups[0][0]
        mine = slice(rows.start - begin, rows.stop - begin)
        return {name: np.concatenate([part[name] for part in mixed])[mine] for name in mixed[0]}

    def _mixed(
        self, indices: np.ndarray, first: int, epoch: int, number: int
    ) -> dict[str, np.ndarray]:
        """These examples, the first of which is at the place `first` of a batch."""
        batch = self._read(indices, epoch)
        batch["images"] = batch["images"].astype(np.float32)
        place = np.array([number * self.batch_size + first])
        draws = uniform(self.seed, epoch, place, 2, stream="finish")[0]
        seed = int(draws[0] * 2**24) * 2**7 + int(draws[1] * 2**7)
        for transform in self.batch_transform:
            batch = transform(batch, seed)
        return {name: np.asarray(values) for name, values in batch.items()}

    def _read(self, indices: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        images, ids, objects = self._images(indices, epoch)
        if self.source.boxed:
            return {"images": images, "labels": padded(objects, self.source.max_objects)}
        if self.dense:
            return {"images": images[..., :3], "labels": images[..., 3].astype(np.int32)}
        return {"images": images} | ({} if self.labels is None else {"labels": self.labels[ids]})

    @property
    def _weighted(self) -> bool:
        return self.pad_remainder or self.sample_weight is not None

    def _weights(self, indices: np.ndarray, padding: int) -> np.ndarray:
        """(B,) float32, 0 for the last `padding` examples of the batch."""
        if self.sample_weight is not None:
            return np.asarray(self.sample_weight, np.float32)[indices]
        # Keras divides a weighted loss by the number of rows, so the weights' mean has to be 1.
        mean_one = self.steps_per_epoch * self.batch_size / self.count
        weights = np.full(self.batch_size, mean_one, np.float32)
        weights[self.batch_size - padding :] = 0
        return weights

    def _images(
        self, indices: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray, Sequence[Objects]]:
        """(B, H, W, 3) uint8, the numbers of the examples that were read, and their objects."""
        transform = self.transform
        draws = transform.draws if transform is not None else 0
        u = uniform(self.seed, epoch, indices, draws, stream="augment")
        if self.in_memory:
            images = self.source.images[indices]
            return (images if transform is None else transform.batch(images, u)), indices, ()
        ids, images = zip(*self._reader.fetch(indices, u), strict=True)
        objects: Sequence[Objects] = ()
        if self.source.boxed:
            images, objects = zip(*images, strict=True)
        odd = next((i for i, image in enumerate(images) if image.shape != images[0].shape), None)
        if odd is not None:
            names = [self.source.example_name(ids[i]) for i in (0, odd)]
            raise ValueError(
                f"images of a batch differ in size: {names[0]} is {images[0].shape[:2]}, "
                f"{names[1]} is {images[odd].shape[:2]}; "
                "give a transform that ends in one size, such as ResizeCrop(224)"
            )
        return np.stack(images), np.array(ids), objects

    def _indices(self, epoch: int, first: int, last: int) -> np.ndarray:
        """The examples at these places of the epoch's order."""
        count = len(self.source)
        if not self.shuffle:
            return np.arange(first, last)
        if count > MAX_SORTED:
            return shuffled(self.seed, epoch, count, np.arange(first, last))
        with self._order_lock:
            return self._order(epoch)[first:last]

    def _draw_order(self, epoch: int) -> np.ndarray:
        return permutation(self.seed, epoch, len(self.source))

    @property
    def corrupt(self) -> dict[int, str]:
        """The unreadable examples met so far: number -> name and reason."""
        return dict(self._reader.corrupt)

    # === Grain ===

    def dataset(
        self, start_step: int | None = None, end_step: int | None = None
    ) -> "grain.IterDataset":  # noqa: F821
        """A `grain.IterDataset` of batches, prepared ahead in order.

        Args:
            start_step: the first; default: the loader's.
            end_step: the one after the last; default: the end of all epochs.
        """
        import grain

        threads = self.num_threads
        start = self.start_step if start_step is None else start_step
        if end_step is None and self.epochs is not None:
            end_step = self.epochs * self.steps_per_epoch
        return grain.MapDataset.source(_Steps(self, start, end_step)).to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, threads))
        )

    def read(self, start: int, end: int | None) -> Iterator[Any]:
        """The batches of the global steps from `start` to `end` (exclusive), or without end."""
        return iter(self.dataset(start, end))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.dataset())


class _Steps:
    """The loader as a random-access sequence of batches, which is what grain takes."""

    def __init__(self, loader: Loader, start: int, end: int | None) -> None:
        self.loader = loader
        self.start = start
        self.end = end

    def __len__(self) -> int:
        return sys.maxsize if self.end is None else self.end - self.start

    def __getitem__(self, number: int) -> Any:
        return self.loader.batch(self.start + number)
