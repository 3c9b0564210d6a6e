"""A detector's inputs: images of any size, resized to fit, and boxes in their pixels."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from mimzoo.data.box_files import open_boxes
from mimzoo.data.box_transforms import ResizePad
from mimzoo.data.boxed_pictures import BoxedPictures
from mimzoo.data.boxes import BoxError
from mimzoo.data.feed import make_feed
from mimzoo.data.inputs import Inputs
from mimzoo.data.loader import Loader
from mimzoo.data.opening import is_named, open_for_use, open_to_fit
from mimzoo.data.sources import Source
from mimzoo.tasks.arguments import refuse, split_off
from mimzoo.tasks.detection.suppression import detections
from mimzoo.tasks.inputs import TaskInputs, fed

BATCH_SIZE = 8  # images in a forward pass of a prediction


class ReadyBatch(ResizePad):
    """ResizePad, but for batches of a data set, whose boxes are elsewhere: they must be ready."""

    def __call__(self, image: np.ndarray, u: np.ndarray | None = None) -> np.ndarray:
        """(H, W, 3) uint8 -> (height, width, 3) uint8."""
        if u is None and image.shape[:2] != self.size:
            raise ValueError(
                f"a batch has images of {image.shape[:2]}, the model takes {self.size}: resize "
                "images and boxes alike, or give them in memory or as a folder"
            )
        return super().__call__(image, u)


class BoxInputs(TaskInputs):
    """Mixin of detectors: `fit` and `evaluate` over images and boxes, `predict` over images.

    A detector has `backbone`, `preprocessor`, `num_classes`, `class_names` and `anchors`.
    """

    labelled = True
    # Of the order of images.
    seed = 0

    def input_rules(self, training: bool, seed: int | None = None) -> Inputs:
        """As in TaskInputs; images are resized to fit, and filled up at the right and bottom."""
        rules = super().input_rules(training, seed)
        if rules.convert is not None:
            raise ValueError(
                "this preprocessor does not say where it moves boxes: give one with mimzoo's "
                'ImageConverter, or preprocessor="auto".'
            )
        if rules.raw:
            return rules
        return dataclasses.replace(rules, transform=ReadyBatch(self.backbone.image_shape[:2]))

    def check_labels(self, labels: Any) -> None:
        """Raises ValueError for targets of a batch that do not fit; see `fit`."""
        check_targets(labels, self.num_classes, self.backbone.image_shape)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        validation_split: float = 0.0,
        validation_data: Any = None,
        **kwargs,
    ) -> Any:
        """Trains; `keras.Model.fit` over images and boxes.

        Boxes are Keras' "xyxy": x1, y1, x2, y2 in pixels of their image.

        Args:
            x: images, as an array or a list of images of any size; what `mimzoo.data.open_boxes`
                opens, or its result; a `mimzoo.data.Loader`; or anything that gives batches
                (images, targets) of the backbone's size (on TensorFlow with one N).
            y: targets of images in memory, or of a batch: {"boxes": (B, N, 4), "labels": (B, N)},
                filled up with boxes 0 and labels -1; or a list with a dict of (N, 4) and (N,) for
                each image.
            validation_split: share of images in memory, the last ones, to validate on.
            validation_data: (images, targets), or what `x` may be.
            **kwargs: as for classifiers; see TaskInputs.fit.

        Raises:
            ValueError: before the first step, or at the batch: images or targets that do not fit;
                weights of examples or classes, which are not supported.
        """
        refuse(kwargs, "object detectors", "sample_weight", "class_weight")
        if validation_split and validation_data is None:
            (x, y, _), (*validation_data, _) = split_off(x, y, None, validation_split)
            validation_data = tuple(validation_data)
        x, validation_data = open_to_fit(x, validation_data, self.open, self._like)
        if validation_data is not None:
            parts = validation_data if isinstance(validation_data, tuple) else (validation_data,)
            validation_data = self._joined(*parts)
        return super().fit(self._joined(x, y), validation_data=validation_data, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, **kwargs) -> Any:
        """The loss, and its parts for boxes and classes; `x` and `y` as in `fit`.

        For the average precision of what `predict` finds, see
        `mimzoo.tasks.detection.AveragePrecision`.
        """
        refuse(kwargs, "object detectors", "sample_weight")
        return super().evaluate(self._joined(x, y), **kwargs)

    def predict(
        self,
        x: Any = None,
        *,
        confidence_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        batch_size: int = BATCH_SIZE,
        steps: int | None = None,
        verbose: Any = 0,
    ) -> list[dict[str, np.ndarray]]:
        """The objects of each image, in pixels of the image as it was given.

        Of the anchors of an image the 1,000 most confident are looked at; non-maximum
        suppression is class by class. The thresholds are those of detectron2's RetinaNet.

        Args:
            x: as in `fit`, with or without boxes; of a Loader, its source as it is.
            confidence_threshold: in 0..1; objects of a lower confidence are left out.
            iou_threshold: of two objects of a class that overlap more, the one of the lower
                confidence is left out.
            max_detections: in an image at most.
            batch_size: images in a forward pass.
            steps: batches to read, of data without a length.
            verbose: as in `keras.Model.predict`; there is no progress bar.

        Returns:
            For each image {"boxes": (N, 4) float32 x1, y1, x2, y2, "labels": (N,) int32,
            "confidence": (N,) float32}, the highest confidence first.

        Raises:
            ValueError: a threshold outside 0..1, or images that cannot be read.
        """
        thresholds = {"confidence_threshold": confidence_threshold, "iou_threshold": iou_threshold}
        for name, value in thresholds.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in 0..1, got {value}.")
        size = self.backbone.image_shape[:2]
        found: list[dict[str, np.ndarray]] = []
        for images, sizes in self._batches(x, batch_size, steps):
            outputs = keras.Model.predict_on_batch(self, images)  # KerasHub's would preprocess
            for deltas, logits, (height, width) in zip(
                outputs["bbox_regression"], outputs["cls_logits"], sizes, strict=True
            ):
                one = detections(
                    *(deltas, logits, self.anchors.boxes, size),
                    *(confidence_threshold, iou_threshold, max_detections),
                )
                boxes = ResizePad(size).undo(one["boxes"], height, width)
                seen = (boxes[:, 2:] > boxes[:, :2]).all(1)  # not only what was filled up
                found.append({k: v[seen] for k, v in {**one, "boxes": boxes}.items()})
        return found

    def _batches(
        self, x: Any, batch_size: int, steps: int | None
    ) -> Iterator[tuple[np.ndarray, list[tuple[int, int]]]]:
        """(images as the backbone takes them, their sizes before) of any input."""
        rules, fit = self.input_rules(training=False), None
        normalize = rules.normalize or np.asarray
        if not rules.raw:
            fit = rules.transform
            rules = dataclasses.replace(
                rules, transform=None, normalize=np.asarray, image_shape=None
            )
        x = x.source if isinstance(x, Loader) else x
        same = isinstance(x, np.ndarray) or hasattr(x, "images")
        size = batch_size if same else 1
        feed = make_feed(rules, x, batch_size=size, steps=steps, epochs=1, once=True, each=True)
        waiting: list[np.ndarray] = []
        sizes: list[tuple[int, int]] = []
        with fed(feed):
            for images, *_ in feed:
                for image in images:
                    sizes.append(image.shape[:2])
                    waiting.append(image if fit is None else fit(image.astype(np.uint8), ()))
                    if len(waiting) == batch_size:
                        yield normalize(np.stack(waiting)), sizes
                        waiting, sizes = [], []
        if waiting:
            yield normalize(np.stack(waiting)), sizes

    def open(self, name: Any, split: str, holdout: float | None = None) -> Source:
        """Opens images with boxes that are given by name."""
        return open_boxes(name, split, class_names=self.class_names, holdout=holdout)

    def _like(self, x: Any) -> Callable[..., Source]:
        """Opens boxes with the classes of a source, or else of this model."""
        names = getattr(x, "class_names", None) or self.class_names
        return functools.partial(open_boxes, class_names=names)

    def _joined(self, x: Any, y: Any = None) -> Any:
        """Images and boxes as a source of both, where they lie in memory or are named."""
        if is_named(x):
            x = open_for_use(x, "test", self.open)
        source = x.source if isinstance(x, Loader) else x
        if isinstance(source, Source):
            if not source.boxed:
                raise ValueError(
                    f"{source.name} has no boxes: open it with mimzoo.data.open_boxes, or give y."
                )
            if source.num_classes > self.num_classes:
                raise ValueError(
                    f"{source.name} has {source.num_classes} classes, the model "
                    f"{self.num_classes}: load a model of more, or leave classes out."
                )
        if y is None:
            return x
        if self.preprocessor is None:
            raise ValueError(
                "without a preprocessor, give batches (images, targets) instead of x and y."
            )
        if not isinstance(y, dict) and not all(isinstance(one, dict) for one in y):
            raise BoxError(
                'targets must be {"boxes": …, "labels": …}, or a list of such a dict for each image'
            )
        converter = getattr(self.preprocessor, "image_converter", None)
        value_range = getattr(converter, "value_range", None)
        return BoxedPictures(x, y, self.num_classes, value_range=value_range)


def check_targets(targets: Any, num_classes: int, image_shape: tuple[int, ...]) -> None:
    """Raises ValueError unless these are the targets of a batch; see `BoxInputs.fit`.

    Args:
        targets: {"boxes": (B, N, 4), "labels": (B, N)}.
        num_classes: labels are smaller; -1 is no object.
        image_shape: (H, W, ...) in pixels; no object lies outside.
    """
    if not isinstance(targets, dict) or set(targets) != {"boxes", "labels"}:
        found = sorted(targets) if isinstance(targets, dict) else type(targets).__name__
        raise BoxError(f'targets must be {{"boxes": …, "labels": …}}, got {found}')
    boxes, labels = (np.asarray(targets[name]) for name in ("boxes", "labels"))
    if labels.ndim != 2 or boxes.shape != (*labels.shape, 4):
        raise BoxError(
            f"boxes must be (B, N, 4) and labels (B, N), got {boxes.shape} and {labels.shape}"
        )
    wrong = (labels < -1) | (labels >= num_classes) | (labels != np.round(labels))
    if wrong.any():
        image = np.argwhere(wrong)[0][0]
        raise BoxError(
            f"image {image} of a batch has the label {labels[wrong][0]}, which is no class: "
            f"{num_classes} classes are numbered 0 to {num_classes - 1}, and -1 is no object"
        )
    if (labels >= 0).any() and np.abs(boxes[labels >= 0]).max() <= 1:
        raise BoxError("all boxes of a batch lie within 0..1: give them in pixels")
    height, width = image_shape[:2]
    inside = np.clip(boxes, 0, [width, height] * 2)
    wrong = ~(np.isfinite(boxes).all(-1) & (inside[..., 2:] > inside[..., :2]).all(-1))
    wrong &= labels >= 0
    if wrong.any():
        image = np.argwhere(wrong)[0][0]
        raise BoxError(
            f"image {image} of a batch has the box {boxes[wrong][0].tolist()}, which is empty or "
            f"outside of {width} x {height} pixels: boxes are x1, y1, x2, y2"
        )
