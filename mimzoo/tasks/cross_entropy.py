"""Losses, metrics and labels that fit what a classifier gives: logits or probabilities."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import keras
import numpy as np

_OF_NUMBERS = keras.losses.SparseCategoricalCrossentropy
_OF_SHARES = keras.losses.CategoricalCrossentropy, keras.losses.CategoricalFocalCrossentropy
_FUNCTIONS = {
    "binary_crossentropy": "BinaryCrossentropy",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
}
_ACCURACIES = ("acc", "accuracy", "binary_accuracy", "BinaryAccuracy")


def default_loss(num_classes: int, from_logits: bool) -> keras.losses.Loss:
    """Cross-entropy of integer labels; with one output, of labels 0 and 1."""
    if num_classes == 1:
        return keras.losses.BinaryCrossentropy(from_logits=from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def default_metrics(num_classes: int, from_logits: bool) -> list[keras.metrics.Metric]:
    """Accuracy."""
    if num_classes == 1:
        threshold = 0.0 if from_logits else 0.5
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]
    return [keras.metrics.SparseCategoricalAccuracy()]


def fitted_loss(loss: Any, from_logits: bool) -> Any:
    """A loss in any form that Keras takes, its `from_logits` as the classifier's output is.

    Keras' own default, `from_logits=False`, would take logits for probabilities.

    Raises:
        ValueError: a loss of logits, and the classifier gives probabilities.
    """
    return _mapped(loss, lambda one: _fitted(one, keras.losses, from_logits))


def fitted_metrics(metrics: Any, num_classes: int, from_logits: bool) -> Any:
    """Metrics in any form that Keras takes, likewise; the threshold of a binary logit is 0."""
    binary_logit = num_classes == 1 and from_logits

    def fitted(one: Any) -> Any:
        if binary_logit and isinstance(one, str) and one in _ACCURACIES:
            return keras.metrics.BinaryAccuracy(name=one, threshold=0.0)
        if binary_logit and isinstance(one, keras.metrics.BinaryAccuracy) and one.threshold == 0.5:
            return _changed(one, threshold=0.0)
        return _fitted(one, keras.metrics, from_logits)

    return _mapped(metrics, fitted)


def check_labels(labels: np.ndarray, num_classes: int, loss: Any = None) -> None:
    """Raises ValueError for labels that are no class, or that do not fit the loss.

    Args:
        labels: (N,) or (N, 1) class numbers, or (N, num_classes) shares of the classes.
        num_classes: of the logits; 1 for labels 0 and 1.
        loss: the compiled one.
    """
    shares = labels.ndim == 2 and labels.shape[1] == num_classes > 1
    if not shares and (labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[1] != 1)):
        raise ValueError(
            f"labels must be (N,) integers or (N, {num_classes}) shares, got the shape "
            f"{labels.shape}."
        )
    if isinstance(loss, _OF_NUMBERS if shares else _OF_SHARES):
        remedy = "labels.argmax(-1)" if shares else f"to_categorical(labels, {num_classes})"
        raise ValueError(
            f"labels of the shape {labels.shape} do not fit the loss {type(loss).__name__}: give "
            f"{remedy}, or compile another loss."
        )
    if shares:
        return
    flat, count = labels.reshape(-1), max(num_classes, 2)
    whole = flat.dtype.kind in "iub" or (
        flat.dtype.kind == "f" and (num_classes == 1 or (flat == np.round(flat)).all())
    )
    bad = np.flatnonzero(~((flat >= 0) & (flat < count))) if whole else np.arange(1)
    if len(bad):
        raise ValueError(
            f"label {flat.tolist()[bad[0]]!r} of image {bad[0]} is no class: {count} classes are "
            f"numbered 0 to {count - 1}."
        )


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict) and "class_name" not in value:
        return {name: _mapped(one, change) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(one, change) for one in value]
    return value if value is None else change(value)


def _fitted(one: Any, module: Any, from_logits: bool) -> Any:
    name = one.__name__ if isinstance(one, FunctionType) else one
    if isinstance(name, str):
        name = _FUNCTIONS.get(name, name)
        if not isinstance(getattr(module, name, None), type):
            return one  # "accuracy", or a function of the user's own
        one = name
    found = module.get(one)
    config = found.get_config() if hasattr(found, "get_config") else {}
    if config.get("from_logits", from_logits) == from_logits:
        return found
    if not from_logits:
        raise ValueError(
            f"{type(found).__name__} is to get logits, and this classifier has an activation: give "
            "from_logits=False, or the classifier no activation."
        )
    return _changed(found, from_logits=True)


def _changed(thing: Any, **changes: Any) -> Any:
    return type(thing).from_config({**thing.get_config(), **changes})
