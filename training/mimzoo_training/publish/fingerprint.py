"""Fingerprint of a preset's outputs: the same on every backend and machine.

The input is two images of noise, the same bits everywhere (`mimzoo.data.random`), passed to the
backbone without resizing or normalisation. The fingerprint is the mean, the standard deviation and
the first numbers of the backbone's features and of its head's or decoder's outputs.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

# Of a float32 forward pass, in standard deviations of the output: backends sum in another order.
TOLERANCE = 1e-3
_FIRST = 8


def fingerprint(folder: Path) -> dict[str, Any]:
    """Loads a preset and computes its fingerprint.

    Args:
        folder: of the preset.

    Returns:
        JSON: "features" of the backbone and "outputs" of the task, if there is one, each with
        "shape", "mean", "std" and "first"; "tensors", their number in each file of weights.

    Raises:
        ValueError: it cannot be loaded, or gives numbers that are not finite.
    """
    import keras

    from mimzoo.models import Backbone
    from mimzoo.tasks import ImageClassifier, ImageSegmenter, ObjectDetector

    path = folder / "task.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    cls = _registered(stored["registered_name"]) if stored else Backbone
    model = cls.from_preset(str(folder), dtype="float32")
    backbone = getattr(model, "backbone", model)
    images = noise(2, backbone.image_shape)
    found = {"features": _statistics(backbone(images), "features")}
    if isinstance(model, ImageClassifier | ImageSegmenter):
        found["outputs"] = _statistics(model(images), "logits")
    elif isinstance(model, ObjectDetector):
        found["outputs"] = _statistics(model(images)["cls_logits"], "logits")
    elif model is not backbone:
        inputs = {"images": images, **model.draw(np.arange(2))}
        predicted = keras.tree.flatten(keras.Model.__call__(model, inputs))[0]
        found["outputs"] = _statistics(predicted, "predictions")
    return {**found, "tensors": tensors(folder)}


def noise(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Images (count, *shape) float32 in [-2, 2), multiples of 2^-22."""
    from mimzoo.data.random import uniform

    numbers = uniform(0, 0, np.arange(count), int(np.prod(shape)), "probe")
    return numbers.reshape(count, *shape) * np.float32(4) - np.float32(2)


def tensors(folder: Path) -> dict[str, int]:
    """The number of tensors in each file of weights of a folder."""
    import h5py

    counted = {}
    for path in sorted(folder.glob("*.weights.h5")):
        found: list[str] = []

        def visit(name: str, item: Any, found: list[str] = found) -> None:
            if isinstance(item, h5py.Dataset):
                found.append(name)

        with h5py.File(path) as file:
            file.visititems(visit)
        counted[path.name] = len(found)
    return counted


def compare(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compares two fingerprints, perhaps of two backends.

    Raises:
        ValueError: they are of two models; the message says where they differ.
    """
    for name in sorted({*found, *wanted} - {"tensors"}):
        ours, theirs = found.get(name), wanted.get(name)
        if ours is None or theirs is None or ours["shape"] != theirs["shape"]:
            raise ValueError(f"the {name} of the fingerprints differ in shape.")
        differences = [abs(ours["mean"] - theirs["mean"]), abs(ours["std"] - theirs["std"])]
        differences += [abs(a - b) for a, b in zip(ours["first"], theirs["first"], strict=True)]
        allowed = TOLERANCE * max(theirs["std"], 1e-6)
        most = np.max(differences)
        if not most <= allowed:  # also of NaN
            raise ValueError(
                f"the {name} of the fingerprints differ by {most:.3g}, more than the "
                f"{allowed:.3g} allowed between backends."
            )
    if found["tensors"] != wanted["tensors"]:
        raise ValueError(f"the files have {found['tensors']} tensors, not {wanted['tensors']}.")


def _registered(name: str) -> Any:
    import keras

    import mimzoo.pretraining  # noqa: F401 (registers the methods)

    found = keras.saving.get_registered_object(name)
    if found is None:
        raise ValueError(f"it holds a {name}, which this version of mimzoo does not have.")
    return found


def _statistics(output: Any, what: str) -> dict[str, Any]:
    import keras

    values = keras.ops.convert_to_numpy(output).astype("float64")
    if not np.isfinite(values).all():
        raise ValueError(f"its {what} are not finite: the weights are damaged.")
    return {
        "shape": list(values.shape),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "first": [float(np.float32(value)) for value in values.ravel()[:_FIRST]],
    }
