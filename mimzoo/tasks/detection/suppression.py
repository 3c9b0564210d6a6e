"""From a detector's numbers for every anchor to the objects of an image."""

import math

import numpy as np

# Of an image, the boxes with the highest scores that are looked at.
CANDIDATES = 1000
# detectron2's limit: a box is at most 1000 / 16 times as large as its anchor.
MAX_LOG_FACTOR = math.log(1000 / 16)


def moved(anchors: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) of anchors (N, 4) and what a detector learned of them; see `Anchors.targets`."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sides / 2 + deltas[:, :2] * sides
    halves = sides * np.exp(np.minimum(deltas[:, 2:], MAX_LOG_FACTOR)) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


def overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of a box (4,) and boxes (N, 4)."""
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (one[2:] - one[:2]).prod() - shared
    return shared / np.maximum(areas, 1e-9)


def suppressed(
    boxes: np.ndarray, labels: np.ndarray, threshold: float, max_detections: int
) -> np.ndarray:
    """Numbers of the boxes that stay.

    Non-maximum suppression: of two boxes of a class whose intersection over union exceeds
    `threshold`, the later one goes.

    Args:
        boxes: (N, 4), the highest score first.
        labels: (N,) classes.
        threshold: in 0..1.
        max_detections: after as many, it stops.
    """
    left, kept = np.arange(len(boxes)), []
    while len(left) and len(kept) < max_detections:
        first, left = left[0], left[1:]
        kept.append(first)
        same = labels[left] == labels[first]
        left = left[~(same & (overlap(boxes[first], boxes[left]) > threshold))]
    return np.array(kept, np.int64)


def detections(
    deltas: np.ndarray,
    logits: np.ndarray,
    anchors: np.ndarray,
    size: tuple[int, int],
    threshold: float,
    iou_threshold: float,
    max_detections: int,
) -> dict[str, np.ndarray]:
    """The objects of an image.

    Args:
        deltas, logits: (A, 4) and (A, num_classes), as a detector gives them.
        anchors: (A, 4) corners.
        size: (height, width) of the detector's input, to which boxes are clipped.
        threshold: objects of a lower confidence are left out.
        iou_threshold, max_detections: see `suppressed`.

    Returns:
        {"boxes": (N, 4) float32 corners, "labels": (N,) int32, "confidence": (N,) float32}, the
        highest first.
    """
    limit = -math.inf if threshold <= 0 else math.log(threshold / (1 - threshold))
    places, labels = np.nonzero(logits >= limit)
    found = logits[places, labels]
    order = np.argsort(-found, kind="stable")[:CANDIDATES]
    places, labels, found = places[order], labels[order], found[order]
    height, width = size
    limits = np.array([width, height] * 2, np.float32)
    boxes = np.clip(moved(anchors[places], deltas[places]), 0, limits)
    kept = suppressed(boxes, labels, iou_threshold, max_detections)
    return {
        "boxes": boxes[kept].astype(np.float32),
        "labels": labels[kept].astype(np.int32),
        "confidence": (1 / (1 + np.exp(-found[kept].astype(np.float64)))).astype(np.float32),
    }
