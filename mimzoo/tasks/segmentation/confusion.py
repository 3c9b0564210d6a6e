"""What a segmenter takes for what: counts of pixels, and the shares that follow from them."""

import keras
import numpy as np
from keras import ops

from mimzoo.backend import Tensor
from mimzoo.data.label_maps import IGNORED


class Confusion:
    """Pixels of each class by the class that was predicted, exact for any number of images.

    Args:
        num_classes: C.

    Attributes:
        counts: (C, C) int64, true classes in rows, predictions in columns.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def add(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Counts the pixels of label maps (..., H, W), but for the number 255."""
        learned = labels != IGNORED
        count = len(self.counts)
        places = labels[learned].astype(np.int64) * count + predictions[learned]
        self.counts += np.bincount(places, minlength=count**2).reshape(count, count)

    @property
    def pixels(self) -> np.ndarray:
        """(C,) pixels of each class."""
        return self.counts.sum(1)

    @property
    def iou(self) -> np.ndarray:
        """(C,) of each class: pixels that label map and prediction share, over those of either.

        NaN for a class that neither has.
        """
        shared = np.diag(self.counts)
        either = self.counts.sum(0) + self.counts.sum(1) - shared
        return np.divide(shared, either, out=np.full(len(shared), np.nan), where=either > 0)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur; NaN if none does."""
        found = self.iou[~np.isnan(self.iou)]
        return float(found.mean()) if len(found) else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of the pixels whose class was predicted."""
        return float(np.diag(self.counts).sum() / max(self.counts.sum(), 1))


@keras.saving.register_keras_serializable(package="mimzoo")
class MeanIoU(keras.metrics.MeanIoU):
    """`keras.metrics.MeanIoU`, counted on the device.

    On torch Keras' own takes one pixel after the other, and reads each from the device. Arguments
    are the same; as `dtype`, which counts are summed up in, float32 holds any number of pixels.
    """

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Counts pixels.

        Args:
            y_true: classes (...), or (..., C) with `sparse_y_true=False`.
            y_pred: classes (...), or (..., C) with `sparse_y_pred=False`.
            sample_weight: what a pixel counts, of a shape that fits (...); default: 1.
        """
        y_true = y_true if self.sparse_y_true else ops.argmax(y_true, axis=self.axis)
        y_pred = y_pred if self.sparse_y_pred else ops.argmax(y_pred, axis=self.axis)
        y_true, y_pred = (ops.cast(ops.convert_to_tensor(y), "int32") for y in (y_true, y_pred))
        y_pred = ops.reshape(y_pred, ops.shape(y_true))
        inside = (y_true >= 0) & (y_true < self.num_classes)
        inside &= (y_pred >= 0) & (y_pred < self.num_classes)
        if self.ignore_class is not None:
            inside &= y_true != self.ignore_class
        counts = ops.cast(inside, "int32")
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            counts = ops.cast(inside, sample_weight.dtype) * sample_weight
        cells = ops.stack([ops.where(inside, y, 0) for y in (y_true, y_pred)], axis=-1)
        found = ops.scatter_update(
            ops.zeros((self.num_classes, self.num_classes), counts.dtype),
            ops.reshape(cells, (-1, 2)),
            ops.reshape(counts, (-1,)),
            reduction="add",
        )
        self.total_cm.assign_add(ops.cast(found, self.total_cm.dtype))
