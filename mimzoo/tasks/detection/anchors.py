"""Anchors: boxes at every place of a pyramid, and what a detector is to learn of each."""

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.backend import Constant, Tensor

# RetinaNet (Lin et al., arXiv 1708.02002, section 4): at each place three sizes, the smallest four
# strides wide, in three shapes.
SIZE, SCALES, RATIOS = 4, 3, (0.5, 1.0, 2.0)
AT_A_PLACE = SCALES * len(RATIOS)
POSITIVE, NEGATIVE = 0.5, 0.4
BACKGROUND, IGNORED = -1, -2


def anchor_boxes(image_shape: tuple[int, ...], levels: range) -> np.ndarray:
    """(A, 4) float32 corners of all anchors, level by level, row by row.

    Those of KerasHub's `AnchorGenerator`, at strides of exactly 2^level: it would move them where
    the stride does not divide the image.

    Args:
        image_shape: (H, W, ...) in pixels.
        levels: of the pyramid; a map has a place every 2^level pixels, rounded up.
    """
    generator = keras_hub.layers.AnchorGenerator(
        "xyxy",
        min_level=levels[0],
        max_level=levels[-1],
        num_scales=SCALES,
        aspect_ratios=list(RATIOS),
        anchor_size=SIZE,
    )
    counts = [-(-side // 2 ** levels[-1]) for side in image_shape[:2]]
    whole = generator(np.zeros((1, *(n * 2 ** levels[-1] for n in counts), 1), "float32"))
    found = []
    for level in levels:
        rows, cols = (-(-side // 2**level) for side in image_shape[:2])
        boxes = ops.convert_to_numpy(whole[f"P{level}"])
        places = [n * 2 ** (levels[-1] - level) for n in counts]
        found.append(boxes.reshape(*places, AT_A_PLACE, 4)[:rows, :cols].reshape(-1, 4))
    return np.concatenate(found).astype("float32")


class Anchors:
    """The anchors of a detector.

    Args:
        boxes: (A, 4) float32 corners.

    Attributes:
        boxes: the same.
    """

    def __init__(self, boxes: np.ndarray) -> None:
        self.boxes = boxes
        self._constant = Constant(boxes)

    def targets(self, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be learned of each anchor.

        An anchor belongs to the object that it overlaps most, if their intersection over union is
        at least 0.5, or if no anchor overlaps that object more (detectron2 and torchvision:
        `allow_low_quality_matches`); below 0.4 it is background; between, it is not learned.

        Args:
            boxes: (B, N, 4) corners in pixels; N may be 0.
            labels: (B, N) classes, -1 where there is no object.

        Returns:
            (B, A, 4) float32 offsets of the centre and logarithms of the factors of the sides, 0
            without an object; (B, A) int32 classes, -1 for background, -2 for what is not learned.
        """
        # One row more, so that no image is without one.
        boxes = ops.pad(ops.cast(boxes, "float32"), ((0, 0), (0, 1), (0, 0)))
        labels = ops.pad(ops.cast(labels, "int32"), ((0, 0), (0, 1)), constant_values=-1)
        anchors = self._constant(boxes)
        # Image by image: of a batch, pairs of anchors and objects would take too much memory.
        return ops.map(lambda image: _targets(anchors, *image), (boxes, labels))


def _targets(anchors: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(A, 4) and (A,) of an image with boxes (N, 4) and labels (N,); see `Anchors.targets`."""
    overlaps = keras.utils.bounding_boxes.compute_iou(anchors, boxes, "xyxy")
    overlaps = ops.where(labels >= 0, overlaps, 0.0)
    best, most = ops.argmax(overlaps, axis=1), ops.max(overlaps, axis=1)
    closest = ops.any((overlaps == ops.max(overlaps, axis=0)) & (overlaps > 0), axis=1)
    positive = (most >= POSITIVE) | closest
    others = ops.where(most < NEGATIVE, BACKGROUND, IGNORED)
    deltas = keras.utils.bounding_boxes.encode_box_to_deltas(
        anchors,
        ops.take(boxes, best, axis=0),
        anchor_format="xyxy",
        box_format="xyxy",
        encoding_format="center_xywh",
    )
    classes = ops.where(positive, ops.take(labels, best), others)
    return ops.where(positive[:, None], deltas, 0.0), ops.cast(classes, "int32")
