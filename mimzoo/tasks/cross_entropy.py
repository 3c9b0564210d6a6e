"""Losses, metrics and labels that fit what a classifier gives: logits or probabilities."""

import copy
import logging
from collections.abc import Callable
from types import FunctionType
from typing import Any

import keras
import numpy as np

logger = logging.getLogger("mimzoo")
_OF_NUMBERS = keras.losses.SparseCategoricalCrossentropy
_OF_SHARES = keras.losses.CategoricalCrossentropy, keras.losses.CategoricalFocalCrossentropy
_OF_EACH = keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy
# Without `from_logits`.
_OF_PROBABILITIES = (
    *("CategoricalGeneralizedCrossEntropy", "Dice", "KLDivergence", "Tversky"),
    *("PrecisionAtRecall", "RecallAtPrecision"),
    *("SensitivityAtSpecificity", "SpecificityAtSensitivity"),
)
# Metrics that take more than a half for a yes.
_OF_HALVES = (
    *("BinaryAccuracy", "BinaryIoU", "Precision", "Recall"),
    *("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives"),
    *("F1Score", "FBetaScore"),
)
_FUNCTIONS = {
    "binary_crossentropy": "BinaryCrossentropy",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "dice": "Dice",
    "kl_divergence": "KLDivergence",
    "kld": "KLDivergence",
    "tversky": "Tversky",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
}
# Metrics of shares of the classes; with "sparse" in front, of class numbers.
_OF_CATEGORIES = ("categoricalaccuracy", "categoricalcrossentropy", "topkcategoricalaccuracy")
_BINARY = ("binary_accuracy", "BinaryAccuracy")
_ACCURACIES = ("acc", "accuracy", *_BINARY)


def default_loss(num_classes: int, from_logits: bool) -> keras.losses.Loss:
    """Cross-entropy of integer labels; with one output, of labels 0 and 1."""
    if num_classes == 1:
        return keras.losses.BinaryCrossentropy(from_logits=from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def default_metrics(
    num_classes: int, from_logits: bool, loss: Any = None
) -> list[keras.metrics.Metric]:
    """Accuracy, of the labels that a loss takes."""
    if num_classes == 1:
        threshold = 0.0 if from_logits else 0.5
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]
    if isinstance(loss, _OF_EACH):
        return [keras.metrics.BinaryAccuracy(threshold=0.0 if from_logits else 0.5)]
    if isinstance(loss, _OF_SHARES):
        return [keras.metrics.CategoricalAccuracy()]
    if isinstance(loss, _OF_NUMBERS):
        return [keras.metrics.SparseCategoricalAccuracy()]
    return ["accuracy"]  # Keras goes by the labels' shape


def fitted_loss(loss: Any, from_logits: bool) -> Any:
    """A loss in any form that Keras takes, its `from_logits` as the classifier's output is.

    Keras' own default, `from_logits=False`, would take logits for probabilities.

    Raises:
        ValueError: a loss of logits, and the classifier gives probabilities, or the reverse.
    """
    return _mapped(loss, lambda one: _fitted(one, keras.losses, from_logits))


def fitted_metrics(metrics: Any, num_classes: int, from_logits: bool, loss: Any = None) -> Any:
    """Metrics in any form that Keras takes, likewise; a half of a probability is the logit 0.

    Args:
        metrics: see above.
        num_classes: of the outputs.
        from_logits: whether they are logits.
        loss: the fitted one, which says whether the classes exclude each other.

    Raises:
        ValueError: a metric of probabilities that cannot be had from logits.
    """
    exclusive = num_classes > 1 and isinstance(loss, (_OF_NUMBERS, *_OF_SHARES))
    accuracies = _ACCURACIES if num_classes == 1 else _BINARY

    def fitted(one: Any) -> Any:
        _check_labels_of(one, loss)
        if not from_logits:
            return _fitted(one, keras.metrics, from_logits)
        named = isinstance(one, str) and one in accuracies
        metric = keras.metrics.BinaryAccuracy(name=one) if named else one
        found = _at_zero(_fitted(metric, keras.metrics, from_logits), exclusive)
        if isinstance(one, keras.metrics.Metric) and found is not one:
            logger.warning(
                "the metric %s is made anew, for logits: its value is in what fit and evaluate "
                "return, not in the object that was given",
                one.name,
            )
        return found

    return _mapped(metrics, fitted)


def summed(loss: Any) -> Any:
    """A loss with `reduction="sum"`.

    Raises:
        ValueError: a function of the user's own, whose values Keras would average.
    """
    found = keras.losses.get(loss)
    if isinstance(found, FunctionType):
        name = "".join(part.title() for part in found.__name__.split("_"))
        if getattr(keras.losses, found.__name__, None) is not found:
            raise ValueError(
                f"the loss {found.__name__} is a function, whose values Keras would average: give "
                'a keras.losses.Loss with reduction="sum".'
            )
        return getattr(keras.losses, name)(reduction="sum")
    found = copy.copy(found)
    found.reduction = "sum"
    return found


def ignoring(loss: Any, label: int) -> Any:
    """A loss that leaves this label out, if it is Keras' cross-entropy of class numbers."""
    if not isinstance(loss, _OF_NUMBERS) or loss.ignore_class == label:
        return loss
    if loss.ignore_class is not None:
        raise ValueError(
            f"with ignore_class={loss.ignore_class} pixels of no class, {label}, would be learned: "
            f"give the segmenter ignore_index={loss.ignore_class}, and leave ignore_class out."
        )
    return _changed(loss, ignore_class=label)


def of_each(loss: Any) -> bool:
    """Whether a loss takes each class for itself, so that several may be right."""
    return isinstance(loss, _OF_EACH)


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
    if not shares and num_classes > 1 and _of_keras(loss) and not isinstance(loss, _OF_NUMBERS):
        raise ValueError(
            f"labels are class numbers, which the loss {_name_of(loss)} would take for values: "
            f"give to_categorical(labels, {num_classes}), or compile SparseCategoricalCrossentropy."
        )
    if shares:
        wrong = ~((labels >= 0) & (labels <= 1))
        if wrong.any():
            raise ValueError(
                f"labels of the shape {labels.shape} are shares of the classes, and one is "
                f"{labels[wrong][0]}: they lie in 0..1."
            )
        return
    flat, count = labels.reshape(-1), max(num_classes, 2)
    whole = flat.dtype.kind in "iub" or (
        flat.dtype.kind == "f" and (num_classes == 1 or (flat == np.round(flat)).all())
    )
    # With one output, labels may be smoothed.
    bad = np.flatnonzero(~((flat >= 0) & (flat <= count - 1))) if whole else np.arange(1)
    if len(bad):
        raise ValueError(
            f"label {flat.tolist()[bad[0]]!r} of image {bad[0]} is no class: {count} classes are "
            f"numbered 0 to {count - 1}."
        )


def _of_keras(loss: Any) -> bool:
    if isinstance(loss, str):
        return True
    thing = loss if isinstance(loss, FunctionType) else type(loss)
    return isinstance(loss, FunctionType | keras.losses.Loss) and thing.__module__.startswith(
        "keras."
    )


def _name_of(thing: Any) -> str:
    return thing if isinstance(thing, str) else getattr(thing, "__name__", type(thing).__name__)


def _check_labels_of(metric: Any, loss: Any) -> None:
    """Raises ValueError for a metric of other labels than the loss takes."""
    name = _name_of(metric).replace("_", "").lower()
    sparse = name.startswith("sparse")
    if name.removeprefix("sparse") not in _OF_CATEGORIES:
        return
    if isinstance(loss, _OF_SHARES if sparse else _OF_NUMBERS):
        kinds = ("class numbers", "shares of the classes")
        raise ValueError(
            f"the metric {_name_of(metric)} takes {kinds[not sparse]}, and the loss "
            f"{type(loss).__name__} {kinds[sparse]}: give the metric "
            f"{'without' if sparse else 'with'} `sparse` in front."
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
    if from_logits and type(found).__name__ in _OF_PROBABILITIES:
        raise _of_probabilities(found)
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
    own = [c for c in type(thing).__mro__ if not c.__module__.startswith("keras.")]
    if len(own) > 1 and not any("get_config" in vars(c) for c in own):  # the last is `object`
        wanted = ", ".join(f"{name}={value!r}" for name, value in changes.items())
        raise ValueError(
            f"{type(thing).__name__} is a class of your own without get_config, so it cannot be "
            f"made anew with {wanted}: give it that yourself."
        )
    return type(thing).from_config({**thing.get_config(), **changes})


def _at_zero(metric: Any, exclusive: bool) -> Any:
    """A metric that compares with a half, for logits."""
    if exclusive and type(metric).__name__ == "AUC":  # which knows sigmoids only
        raise _of_probabilities(metric)
    if type(metric).__name__ not in _OF_HALVES:
        return metric
    config = metric.get_config()
    name = "thresholds" if "thresholds" in config else "threshold"
    best = config.get("top_k") is not None or type(metric).__name__.endswith("Score")
    if config[name] in (0, 0.0) or (config[name] is None and best):
        return metric
    if exclusive or config[name] not in (None, 0.5) or type(metric).__name__.endswith("Score"):
        raise _of_probabilities(metric)
    return _changed(metric, **{name: 0.0})


def _of_probabilities(thing: Any) -> ValueError:
    return ValueError(
        f"{type(thing).__name__} is of probabilities, and the model gives logits: load a "
        "classifier with an activation, or give one of your own that begins with softmax or "
        "sigmoid."
    )
