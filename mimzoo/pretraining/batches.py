"""From what a user passes to `fit` to batches of {"images", "masks"}."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from mimzoo.data.random import permutation


class MaskedArrays(keras.utils.PyDataset):
    """Images in memory, preprocessed and masked batch by batch.

    Args:
        task: preprocesses images and draws masks.
        images: (N, H, W[, C]) array, or a list of images of any size.
        batch_size: examples per batch; the last may be smaller.
        training: a new order and new masks each epoch; otherwise always those of epoch 0.
        shuffle: whether training visits the images in a new order each epoch.
    """

    def __init__(self, task: Any, images: Any, batch_size: int, training: bool, shuffle: bool):
        super().__init__()
        if len(images) == 0:
            raise ValueError("there are no images.")
        task.check_count(min(batch_size, len(images)))
        task.check_count(len(images) % batch_size)
        self.task = task
        self.images = images
        self.batch_size = batch_size
        self.training = training
        self.shuffle = shuffle and training
        self.epoch = 0
        self._set_order()

    def _set_order(self) -> None:
        count = len(self.images)
        seed = self.task.masking.seed
        self.order = permutation(seed, self.epoch, count) if self.shuffle else np.arange(count)

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, step: int) -> tuple[dict]:
        index = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        if isinstance(self.images, np.ndarray):
            images = self.images[index]
        else:
            images = [self.images[i] for i in index]
        masks = self.task.draw_masks(index, self.epoch)
        return ({"images": self.task.preprocess(images), "masks": masks},)

    def on_epoch_end(self) -> None:
        """The next epoch's order and masks."""
        if self.training:
            self.epoch += 1
            self._set_order()


class MaskedBatches(keras.utils.PyDataset):
    """Any data set of image batches, read in order, with masks by the position of each image.

    Args:
        task: preprocesses images and draws masks.
        data: re-iterable, with a length: tf.data, PyDataset, torch DataLoader, Grain, a list of
            batches; elements are images or tuples that begin with them.
        training: new masks each epoch; otherwise always those of epoch 0.

    Raises:
        ValueError: the data set does not tell its length.
    """

    def __init__(self, task: Any, data: Any, training: bool):
        super().__init__()
        try:
            self.length = len(data)
        except TypeError as error:
            raise ValueError(
                "this data set does not tell its length: limit it (tf.data's `take` and "
                "`assert_cardinality`), or give one that yields {'images', 'masks'}."
            ) from error
        self.task = task
        self.data = data
        self.training = training
        self.epoch = 0
        self.next_step = 0
        self.stream: Iterator | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, step: int) -> tuple[dict]:
        if self.stream is None or step < self.next_step:
            self.stream, self.next_step, self.first = iter(self.data), 0, 0
        while self.next_step <= step:
            batch = next(self.stream)
            self.next_step += 1
            images = np.asarray(batch[0] if isinstance(batch, list | tuple) else batch)
            self.first += len(images)
        index = np.arange(self.first - len(images), self.first)
        masks = self.task.draw_masks(index, self.epoch)
        return ({"images": self.task.preprocess(images), "masks": masks},)

    def on_epoch_end(self) -> None:
        """The next epoch starts the data set again, with new masks in training."""
        self.stream = None
        self.epoch += self.training


def masked_batches(
    task: Any, x: Any, batch_size: int | None, training: bool, shuffle: bool = False
) -> Any:
    """`x` as something that `keras.Model.fit` takes and that yields {"images", "masks"}.

    Args:
        task: the MIM task.
        x: images (array or list); a dict or data set with masks, used as it is; an iterator,
            used as it is; or a data set of image batches.
        batch_size: for arrays, default 32.
        training: whether masks change with the epoch.
        shuffle: for arrays in training.

    Raises:
        ValueError: masks that do not fit, wrong keys, no images.
    """
    if isinstance(x, dict):
        task.check_inputs(x)
        return x
    if isinstance(x, np.ndarray) or (isinstance(x, list) and np.ndim(x[0] if x else x) in (2, 3)):
        return MaskedArrays(task, x, batch_size or 32, training, shuffle)
    if keras.ops.is_tensor(x):
        return MaskedArrays(
            task, keras.ops.convert_to_numpy(x), batch_size or 32, training, shuffle
        )
    if isinstance(x, Iterator):
        return x
    first = x[0] if isinstance(x, keras.utils.PyDataset) else next(iter(x))
    if isinstance(first, list | tuple) and isinstance(first[0], dict):
        first = first[0]
    if isinstance(first, dict):
        task.check_inputs(first)
        return x
    return MaskedBatches(task, x, training)
