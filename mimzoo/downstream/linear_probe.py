"""A linear probe: multinomial logistic regression on frozen features."""

import logging
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from mimzoo.data.loader import Loader
from mimzoo.data.sources import check_labels
from mimzoo.data.stream import to_numpy

logger = logging.getLogger("mimzoo")

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
    backbone: keras.Model, batches: Iterable[Any], pooling: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """One vector for each image, the backbone frozen.

    Args:
        backbone: a mimzoo backbone, or what `feature_model` made of it, to be used again.
        batches: of images as the backbone takes them, (B, H, W, C) float32, or of
            (images, labels (B,)) or (images, labels, weights), such as a `mimzoo.data.Loader` of
            one epoch gives, with `normalize`. Images of weight 0 are left out.
        pooling: "avg", the mean over patches, which is the default, or "token", the class token.
            What `feature_model` made has its own.

    Returns:
        Features (N, embed_dim) float32 and labels (N,), or None where there are none.

    Raises:
        ValueError: an unknown pooling, no class token for "token", no batches, a task in place of
            its backbone, images that are not normalised, or a Loader that shuffles images without
            labels.
    """
    if hasattr(backbone, "backbone"):
        raise ValueError(f"this is a {type(backbone).__name__}: give its `.backbone`.")
    made = not hasattr(backbone, "feature_map")
    if made and pooling is not None:
        raise ValueError("this model pools already: leave out pooling.")
    model = backbone if made else feature_model(backbone, pooling or "avg")
    check_loader(batches)
    features, labels = [], []
    for batch in batches:
        images, known, weights = (*_parts(batch), None, None)[:3]
        images = to_numpy(images)
        if images.dtype.kind in "iub":
            raise ValueError(_RAW)
        found = np.asarray(model.predict_on_batch(images))
        kept = slice(None) if weights is None else np.asarray(weights) != 0
        features.append(found[kept])
        if known is not None:
            labels.append(np.asarray(known)[kept])
    if not features:
        raise ValueError("no batches given.")
    return np.concatenate(features), np.concatenate(labels) if labels else None


_RAW = (
    "these images are pixels of 0..255, which no backbone takes: use task.preprocess(images), or "
    "give the Loader normalize=task.preprocessor.image_converter.normalize."
)


def _parts(batch: Any) -> tuple:
    return tuple(batch) if isinstance(batch, list | tuple) else (batch,)


def check_loader(batches: Any) -> None:
    """Raises ValueError for a Loader of images that are not normalised, in another order or many
    times; warns of images that it leaves out.
    """
    if not isinstance(batches, Loader):
        return
    if batches.normalize is None and not batches.batch_transform:
        raise ValueError(_RAW)
    if batches.epochs != 1:
        raise ValueError("features are taken of each image once: give the Loader epochs=1.")
    if batches.drop_remainder and (left := len(batches.source) % batches.batch_size):
        logger.warning(
            "%d of the %d images of %s are left out: give the Loader drop_remainder=False",
            left,
            len(batches.source),
            batches.source.name,
        )
    if batches.shuffle and batches.labels is None:
        raise ValueError(
            "this Loader shuffles, so features would not be in the order of its source: give "
            "shuffle=False and drop_remainder=False."
        )


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

    Features are standardised with the training features' mean and standard deviation, as the
    BatchNorm without affine of MAE's linear probe does (He et al., arXiv 2111.06377, appendix A.1;
    facebookresearch/mae, main_linprobe.py), and weight decay is 0 as there. The rest is ours:
    AdamW on all features at once, the learning rate falling along half a cosine, from weights of
    0, so that the result follows from the features alone. Beside the features, it needs memory for
    one part of them.

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
    train_features, test_features = np.asarray(train_features), np.asarray(test_features)
    mean, std = _statistics(train_features)

    def standard(features: np.ndarray) -> np.ndarray:
        return ((features - mean) / std).astype("float32")

    parts = -(-len(train_features) // FULL_BATCH)
    head = keras.Sequential(
        [
            keras.Input((train_features.shape[1],)),
            keras.layers.Dense(num_classes, kernel_initializer="zeros", dtype="float32"),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps * parts)
    head.compile(
        keras.optimizers.AdamW(rate, weight_decay=weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    # `fit` would draw from the random state of a training that runs around this.
    whole = standard(train_features) if parts == 1 else None
    for step in range(steps * parts):
        rows = slice(step % parts, None, parts)
        part = standard(train_features[rows]) if whole is None else whole
        head.train_on_batch(part, train_labels[rows])
    right = 0
    for start in range(0, len(test_features), FULL_BATCH):
        part = slice(start, start + FULL_BATCH)
        logits = head.predict_on_batch(standard(test_features[part]))
        right += int((logits.argmax(1) == test_labels[part]).sum())
    return right / len(test_labels)


def _statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) float32, summed in float64 over parts of the rows."""
    parts = [features[n : n + 8192] for n in range(0, len(features), 8192)]
    mean = sum(part.sum(0, dtype="float64") for part in parts) / len(features)
    squares = sum(np.square(part - mean).sum(0) for part in parts)
    std = np.sqrt(squares / len(features)) + 1e-6
    return mean.astype("float32"), std.astype("float32")


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
        if not np.isfinite(features).all():
            raise ValueError(f"{name}: features are not finite (NaN or infinity).")
    if np.shape(train[0])[1] != np.shape(test[0])[1]:
        raise ValueError(
            f"train has features of {np.shape(train[0])[1]} numbers, test of "
            f"{np.shape(test[0])[1]}."
        )
    train_labels, test_labels = np.asarray(train[1]), np.asarray(test[1])
    if num_classes is None:
        num_classes = int(train_labels.max()) + 1
    check_labels(train_labels, num_classes)
    check_labels(test_labels, num_classes)
    return train_labels, test_labels, num_classes
