"""kNN on frozen features."""

from typing import Any

import numpy as np
from keras import ops

from mimzoo.downstream.linear_probe import check_features

# Similarities of so many test and training images are held at once: 256 MiB of float32.
CHUNK = 1024
TRAIN_CHUNK = 65_536


def knn_accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    num_classes: int | None = None,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Accuracy of a weighted vote of the nearest neighbours, in memory that does not grow with N.

    Features are made unit vectors; each of the `k` training images with the greatest cosine
    similarity s votes for its class with weight exp(s / temperature). The rule and both defaults
    are those of Wu et al., *Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination*, section 3.4, with DINO's k of 20 (facebookresearch/dino, eval_knn.py). Of
    classes with the same votes the first wins.

    Args:
        train_features: (N, D).
        train_labels: (N,) integers.
        test_features: (M, D).
        test_labels: (M,) integers.
        num_classes: default: one more than the greatest training label.
        k: number of neighbours; with fewer training images all of them vote.
        temperature: greater than 0; the smaller, the more the nearest weigh.

    Returns:
        Share of the test labels that are right, in [0, 1].

    Raises:
        ValueError: shapes that do not fit, labels out of range, or k below 1.
    """
    train_labels, test_labels, num_classes = check_features(
        (train_features, train_labels), (test_features, test_labels), num_classes
    )
    if k < 1 or not temperature > 0:
        raise ValueError(f"k must be at least 1 and temperature above 0, got {k}, {temperature}.")
    k = min(k, len(train_labels))
    right = 0
    for start in range(0, len(test_labels), CHUNK):
        part = slice(start, start + CHUNK)
        nearest, labels = _nearest(_unit(test_features[part]), train_features, train_labels, k)
        # Weights over the greatest: the same winner, and no overflow.
        weights = np.exp((nearest - nearest[:, :1]) / temperature)
        votes = np.zeros((len(nearest), num_classes), "float32")
        np.add.at(votes, (np.arange(len(nearest))[:, None], labels), weights)
        right += int((votes.argmax(1) == test_labels[part]).sum())
    return right / len(test_labels)


def _nearest(
    test: Any, train_features: np.ndarray, train_labels: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Similarities (M, k) of the nearest training images, greatest first, and their labels."""
    nearest, labels = [], []
    for start in range(0, len(train_labels), TRAIN_CHUNK):
        part = slice(start, start + TRAIN_CHUNK)
        similarity = ops.matmul(test, ops.transpose(_unit(train_features[part])))
        best, index = ops.top_k(similarity, min(k, similarity.shape[1]))
        nearest.append(ops.convert_to_numpy(best))
        labels.append(train_labels[part][ops.convert_to_numpy(index)])
    merged, names = np.concatenate(nearest, 1), np.concatenate(labels, 1)
    order = np.argsort(-merged, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(merged, order, 1), np.take_along_axis(names, order, 1)


def _unit(features: np.ndarray) -> Any:
    features = np.asarray(features, "float32")
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return ops.convert_to_tensor(features / np.maximum(norms, 1e-12))
