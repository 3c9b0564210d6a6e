"""How well the nearest neighbours among frozen features classify."""

import keras
import numpy as np
from keras import ops

from mimzoo.downstream.linear_probe import check_features

# Similarities of so many test images to all training images are held at once.
CHUNK = 1024


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
    """Accuracy of a weighted vote of the nearest neighbours.

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
        k: neighbours; with fewer training images all of them vote.
        temperature: greater than 0; the smaller, the more the nearest count.

    Returns:
        Share of the test labels that are right, in [0, 1].

    Raises:
        ValueError: shapes that do not fit, labels out of range, or no neighbours.
    """
    train_labels, test_labels, num_classes = check_features(
        (train_features, train_labels), (test_features, test_labels), num_classes
    )
    if k < 1 or not temperature > 0:
        raise ValueError(f"k must be at least 1 and temperature above 0, got {k}, {temperature}.")
    k = min(k, len(train_labels))
    train = ops.transpose(_unit(train_features))
    classes = ops.convert_to_tensor(np.eye(num_classes, dtype="float32")[train_labels])
    right = 0
    for start in range(0, len(test_labels), CHUNK):
        part = slice(start, start + CHUNK)
        similarity = ops.matmul(_unit(test_features[part]), train)
        nearest, index = ops.top_k(similarity, k)
        # Weights over the greatest: the same winner, and no overflow.
        weight = ops.exp((nearest - nearest[:, :1]) / temperature)
        votes = ops.sum(weight[..., None] * ops.take(classes, index, axis=0), axis=1)
        chosen = keras.ops.convert_to_numpy(ops.argmax(votes, axis=-1))
        right += int((chosen == test_labels[part]).sum())
    return right / len(test_labels)


def _unit(features: np.ndarray) -> object:
    features = np.asarray(features, "float32")
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return ops.convert_to_tensor(features / np.maximum(norms, 1e-12))
