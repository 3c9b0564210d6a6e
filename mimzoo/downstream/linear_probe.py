"""How well a linear layer on frozen features classifies."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.data.sources import check_labels

POOLINGS = ("avg", "token")
# More rows than this are taken in parts, in the order in which they come.
FULL_BATCH = 65_536


def feature_model(backbone: keras.Model, pooling: str = "avg") -> keras.Model:
    """A model of one float32 vector (B, embed_dim) for each image; see `extract_features`."""
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}.")
    if pooling == "token" and not getattr(backbone, "class_token", False):
        raise ValueError("pooling='token' needs a backbone with class_token=True; use 'avg'.")
    tokens = backbone.output
    if pooling == "token":
        pooled = tokens[:, 0]
    else:
        pooled = ops.mean(backbone.feature_map(tokens), axis=(1, 2))
    return keras.Model(backbone.input, ops.cast(pooled, "float32"))


def extract_features(
    backbone: keras.Model, batches: Iterable[Any], pooling: str = "avg"
) -> tuple[np.ndarray, np.ndarray | None]:
    """One vector for each image, the backbone frozen.

    Args:
        backbone: a mimzoo backbone, or what `feature_model` made of it, to be used again.
        batches: of images as the backbone takes them, (B, H, W, C) float32, or of
            (images, labels (B,)), such as a `mimzoo.data.Loader` of one epoch gives.
        pooling: "avg", the mean over patches, or "token", the class token.

    Returns:
        Features (N, embed_dim) float32 and labels (N,), or None where there are none.

    Raises:
        ValueError: an unknown pooling, no class token for "token", or no batches.
    """
    made = not hasattr(backbone, "feature_map")
    model = backbone if made else feature_model(backbone, pooling)
    features, labels = [], []
    for batch in batches:
        images = batch
        if isinstance(batch, list | tuple):
            images = batch[0]
            labels.append(np.asarray(batch[1]))
        features.append(np.asarray(model.predict_on_batch(images)))
    if not features:
        raise ValueError("there are no batches to take features of.")
    return np.concatenate(features), np.concatenate(labels) if labels else None


def linear_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    num_classes: int | None = None,
    steps: int = 500,
    learning_rate: float = 0.01,
    weight_decay: float = 0.0,
) -> float:
    """Accuracy of multinomial logistic regression on features.

    Features are standardised with the mean and deviation of the training ones, which is what the
    BatchNorm without affine of MAE's linear probe does (papers.md section 3), and weight decay is
    0 as there. The rest is ours: AdamW on all features at once with the learning rate falling
    along half a cosine, from weights of 0, so that the result follows from the features alone.

    Args:
        train_features: (N, D).
        train_labels: (N,) integers.
        test_features: (M, D).
        test_labels: (M,) integers.
        num_classes: default: one more than the greatest training label.
        steps: of AdamW; with more than 65,536 features, passes over parts of at most that size.
        learning_rate: at the beginning.
        weight_decay: of AdamW.

    Returns:
        Share of the test labels that are right, in [0, 1].

    Raises:
        ValueError: shapes that do not fit, or labels out of range.
    """
    train_labels, test_labels, num_classes = check_features(
        (train_features, train_labels), (test_features, test_labels), num_classes
    )
    mean = train_features.mean(0, dtype="float64")
    deviation = train_features.std(0, dtype="float64") + 1e-6
    train, test = (
        ((features - mean) / deviation).astype("float32")
        for features in (train_features, test_features)
    )
    parts = -(-len(train) // FULL_BATCH)
    head = keras.Sequential(
        [
            keras.Input((train.shape[1],)),
            keras.layers.Dense(num_classes, kernel_initializer="zeros", dtype="float32"),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps * parts)
    head.compile(
        keras.optimizers.AdamW(rate, weight_decay=weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    # `fit` would draw from the random state of a training that goes on around this.
    for step in range(steps * parts):
        rows = slice(step % parts, None, parts)
        head.train_on_batch(train[rows], train_labels[rows])
    chunks = range(0, len(test), FULL_BATCH)
    logits = np.concatenate([head.predict_on_batch(test[n : n + FULL_BATCH]) for n in chunks])
    return float((logits.argmax(1) == test_labels).mean())


def check_features(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    num_classes: int | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels as arrays and the number of classes, once features and labels are found to fit.

    Raises:
        ValueError: shapes that do not fit, or labels out of range.
    """
    for name, (features, labels) in (("train", train), ("test", test)):
        if np.ndim(features) != 2 or np.shape(labels) != (len(features),) or len(features) == 0:
            raise ValueError(
                f"{name}: features must be (N, D) and labels (N,) with N > 0, got "
                f"{np.shape(features)} and {np.shape(labels)}."
            )
    train_labels, test_labels = np.asarray(train[1]), np.asarray(test[1])
    if num_classes is None:
        num_classes = int(train_labels.max()) + 1
    check_labels(train_labels, num_classes)
    check_labels(test_labels, num_classes)
    return train_labels, test_labels, num_classes
