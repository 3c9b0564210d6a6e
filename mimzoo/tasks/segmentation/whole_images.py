"""A segmenter's inputs: windows of images in training, whole images in all else."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.data.feed import Feed
from mimzoo.data.inputs import Inputs
from mimzoo.data.label_map_files import check_learnable, has_label_maps, open_label_maps
from mimzoo.data.label_maps import IGNORED, LabelledPictures, check_label_maps
from mimzoo.data.label_transforms import RandomScaleCrop
from mimzoo.data.loader import Loader
from mimzoo.data.opening import is_named, open_for_use, open_to_fit
from mimzoo.data.sources import Source
from mimzoo.data.stream import NO_BATCHES
from mimzoo.tasks.arguments import refuse, split_off
from mimzoo.tasks.inputs import TaskInputs, check_in_order, fed
from mimzoo.tasks.segmentation.confusion import Confusion
from mimzoo.tasks.segmentation.sliding import bands, upscaled

WINDOWS = 8  # in a forward pass of a prediction


class WholeImages(TaskInputs):
    """Mixin of segmenters: `fit` over windows, `evaluate` and `predict` over images of any size.

    A segmenter has `backbone`, `preprocessor`, `num_classes`, `ignore_index`, `first_class`,
    `shorter_side`, and `learned`, which sets all pixels of label maps that are not learned to 255.
    """

    labelled = True
    # Of the order of images, and of the windows that are cut out.
    seed = 0

    def input_rules(self, training: bool, seed: int | None = None) -> Inputs:
        """As in TaskInputs; training cuts out windows, all else takes images as they are."""
        rules = super().input_rules(training, seed)
        if not training:
            return dataclasses.replace(rules, transform=None, image_shape=None)
        if rules.raw:
            return rules
        size = self.backbone.image_shape[:2]
        window = RandomScaleCrop(size, (1.0, 1.0), self.shorter_side, max_share=1.0)
        return dataclasses.replace(rules, transform=window)

    @property
    def ignored(self) -> int:
        """`ignore_index` in label maps that number classes from 0."""
        named = self.ignore_index < IGNORED
        return self.ignore_index - self.first_class if named else self.ignore_index

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises ValueError for label maps with a number that is no class."""
        check_label_maps(labels, self.num_classes, self.ignored)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        validation_split: float = 0.0,
        validation_data: Any = None,
        **kwargs,
    ) -> Any:
        """Trains; `keras.Model.fit` over images and label maps.

        Args:
            x: images, as an array or a list of images of any size; what
                `mimzoo.data.open_label_maps` opens, or its result; a `mimzoo.data.Loader`; or
                anything that gives batches (images, label maps) of the backbone's size.
            y: label maps of images in memory: (N, H, W) integers, or a list of (H, W).
            validation_split: share of images in memory, the last ones, to validate on.
            validation_data: (images, label maps), or what `x` may be; measured as `evaluate` does.
            **kwargs: as for classifiers; see TaskInputs.fit.

        Raises:
            ValueError: before the first step, or at the batch: images or label maps that do not
                fit; pixels of a single class; weights of examples or classes, which are not
                supported.
        """
        refuse(kwargs, "image segmenters", "sample_weight", "class_weight")
        if validation_split and validation_data is None:
            (x, y, _), (*validation_data, _) = split_off(x, y, None, validation_split)
            validation_data = tuple(validation_data)
        x, validation_data = open_to_fit(x, validation_data, self.open)
        if validation_data is not None:
            parts = validation_data if isinstance(validation_data, tuple) else (validation_data,)
            steps = kwargs.pop("validation_steps", None)
            validation_data = self._whole_images(*parts, steps=steps, again=True)
        x, y = self._joined(x, y)
        source = x.source if isinstance(x, Loader) else x
        if isinstance(source, Source) and source.dense:
            check_learnable(source)
        return super().fit(x, y, validation_data=validation_data, **kwargs)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        *,
        stride: int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        steps: int | None = None,
        return_dict: bool = False,
        confusion: Confusion | None = None,
        callbacks: Any = None,
        sample_weight: Any = None,
        verbose: Any = 0,
        _use_cached_eval_dataset: bool = False,
    ) -> Any:
        """Loss and metrics over whole images, predicted as `predict` does.

        Args:
            x: as in `fit`.
            y: label maps of images in memory.
            stride, batch_size, steps: as in `predict`.
            return_dict: whether to name the results.
            confusion: counts what is taken for what, for results by class.
            callbacks: of Keras.
            sample_weight: has to be None.
            verbose, _use_cached_eval_dataset: of Keras; there is no progress bar, and no need.

        Returns:
            [loss, mean IoU], or with `return_dict` {"loss", "mean_iou"}; other metrics if compiled.

        Raises:
            ValueError: images or label maps that do not fit, or none.
        """
        refuse({"sample_weight": sample_weight}, "image segmenters", "sample_weight")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(callbacks, model=self)
        feed = x if isinstance(x, Feed) else self._whole_images(x, y, steps=steps)
        self.reset_metrics()
        total, pixels, values, step = 0.0, 0, {}, -1
        callbacks.on_test_begin()
        with fed(feed):
            for step, (images, maps) in enumerate(feed):
                callbacks.on_test_batch_begin(step)
                maps = np.asarray(ops.convert_to_numpy(self.learned(maps)))
                for first, logits in self._bands(images, stride, batch_size):
                    part = maps[:, first : first + logits.shape[1]]
                    count = int((part != IGNORED).sum())
                    loss = self.compute_loss(y=part, y_pred=logits, training=False)
                    total += float(ops.convert_to_numpy(loss)) * count
                    pixels += count
                    values = self.compute_metrics(None, part, logits)
                    if confusion is not None:
                        confusion.add(part, logits.argmax(-1))
                callbacks.on_test_batch_end(step)
        if step < 0:
            raise ValueError(NO_BATCHES)
        values = {name: float(ops.convert_to_numpy(value)) for name, value in values.items()}
        values["loss"] = total / max(pixels, 1)
        callbacks.on_test_end(values)
        return values if return_dict else list(values.values())

    def predict(
        self,
        x: Any = None,
        *,
        stride: int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        steps: int | None = None,
        verbose: Any = 0,
    ) -> np.ndarray | list[np.ndarray]:
        """The class of each pixel, whatever the images' sizes.

        The backbone's window slides over the image; logits are averaged where windows overlap. Only
        the logits of one row of windows are in memory at a time; with `shorter_side` those of the
        scaled image, which are resized to its own size.

        Args:
            x: as in `fit`, with or without label maps.
            stride: between two windows in pixels, or (rows, columns); default: half a window.
            batch_size: windows in a forward pass, default 8.
            steps: batches to read, of data without a length.
            verbose: as in `keras.Model.predict`; there is no progress bar.

        Returns:
            (N, H, W) uint8; a list of (H, W) where sizes differ.

        Raises:
            ValueError: a stride of more than a window, or images that cannot be read.
        """
        check_in_order(x)
        feed = self._whole_images(x, steps=steps, labelled=False, each=True)
        found: list[np.ndarray] = []
        with fed(feed):
            for images, *_ in feed:
                rows = [
                    logits.argmax(-1).astype(np.uint8)
                    for _, logits in self._bands(images, stride, batch_size)
                ]
                found += list(np.concatenate(rows, axis=1))
        return np.stack(found) if len({one.shape for one in found}) == 1 else found

    def _bands(
        self, images: np.ndarray, stride: Any, batch_size: int | None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, logits (B, rows, W, classes)) of normalised images, from top to bottom."""
        window = self.backbone.image_shape[:2]
        stride = tuple(side // 2 or 1 for side in window) if stride is None else stride
        stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
        if not all(1 <= step <= side for step, side in zip(stride, window, strict=True)):
            raise ValueError(f"stride {stride} must lie in 1..{window}, the sides of a window.")
        size = images.shape[1:3]
        scaled = images
        if self.shorter_side is not None and min(size) != self.shorter_side:
            sides = [max(1, round(side * self.shorter_side / min(size))) for side in size]
            scaled = ops.image.resize(
                ops.convert_to_tensor(images), sides, antialias=True, data_format="channels_last"
            )
            scaled = ops.convert_to_numpy(scaled)

        def forward(windows: np.ndarray) -> np.ndarray:
            # KerasHub's own would preprocess once more.
            return keras.Model.predict_on_batch(self, windows)

        found = bands(scaled, forward, window, stride, batch_size or WINDOWS)
        if scaled is images:
            return found
        return upscaled(np.concatenate([logits for _, logits in found], axis=1), size)

    def open(self, name: Any, split: str, holdout: float | None = None) -> Source:
        """Opens images with label maps that are given by name."""
        meaning = {"ignore_index": self.ignore_index, "first_class": self.first_class}
        return open_label_maps(name, split, self.num_classes, **meaning, holdout=holdout)

    def _joined(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Images and label maps as a source of both, where they lie in memory or are named."""
        if is_named(x):
            return open_for_use(x, "test", self.open), None
        source = x.source if isinstance(x, Loader) else x
        if isinstance(source, Source) and source.dense and source.num_classes > self.num_classes:
            raise ValueError(
                f"{source.name} has {source.num_classes} classes, the model {self.num_classes}: "
                "open it with the model's num_classes, or load a model of more."
            )
        if y is None or self.preprocessor is None:
            return x, y
        converter = getattr(self.preprocessor, "image_converter", None)
        value_range = getattr(converter, "value_range", None)
        return LabelledPictures(x, y, self.num_classes, self.ignored, value_range), None

    def _whole_images(self, x: Any, y: Any = None, *, labelled: bool = True, **how: Any) -> Any:
        """A feed of images of their own size, one by one unless all have the same."""
        if labelled or has_label_maps(x):
            x, y = self._joined(x, y)
        same = isinstance(x, np.ndarray) or hasattr(x, "images") or getattr(x, "same_size", False)
        size = WINDOWS if same else 1
        return self._evaluation_feed(x, y, batch_size=size, labelled=labelled, **how)
