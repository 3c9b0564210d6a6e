"""Keras objects as a recipe names them, before Keras is there to make them."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What `keras.saving.serialize_keras_object` gives, less what has its default.
Spec = dict[str, Any]
_OF_LAYERS = ("name", "trainable", "dtype")


def keras_object(name: str, **config: Any) -> Spec:
    """A registered class and its configuration: "MAE" is mimzoo's, others are "package>Name".

    A backbone may have `size` in place of its dimensions: it is then made by `from_size`.
    """
    return {"class_name": name if ">" in name else f"mimzoo>{name}", "config": config}


def build(spec: Spec, dtype: str = "float32", **more: Any) -> Any:
    """Makes the object, and those in its configuration.

    Args:
        spec: of `keras_object`.
        dtype: Keras' policy for all of them.
        **more: arguments that replace those of the configuration, as objects.

    Raises:
        ValueError: no such class, or arguments that make no object.
    """
    import keras

    import mimzoo.pretraining  # noqa: F401 (registers the classes)

    with _policy(dtype):
        return _build(keras, spec, more)


def _build(keras: Any, spec: Spec, more: dict[str, Any]) -> Any:
    cls = keras.saving.get_registered_object(spec["class_name"])
    if cls is None:
        raise ValueError(
            f"there is no class {spec['class_name']!r}: import the package that registers it."
        )
    config = {
        name: _build(keras, value, {}) if is_spec(value) else copy.deepcopy(value)
        for name, value in spec["config"].items()
    }
    config |= more
    try:
        return cls.from_size(config.pop("size"), **config) if "size" in config else cls(**config)
    except TypeError as error:
        raise ValueError(f"{spec['class_name']}: {error}.") from error


def spec_of(made: Any) -> Spec:
    """The inverse of `build`, of an object that is registered with Keras."""
    import keras

    return _plain(keras.saving.serialize_keras_object(made))


def _plain(value: Any) -> Any:
    if not is_spec(value):
        return value
    # `build` gives all of an object's parts their dtype, and the task their names.
    config = {k: _plain(v) for k, v in value["config"].items() if k not in _OF_LAYERS}
    return keras_object(value["registered_name"], **config)


@contextmanager
def _policy(dtype: str) -> Iterator[None]:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def is_spec(value: Any) -> bool:
    """Whether a value names an object."""
    return isinstance(value, dict) and set(value) >= {"class_name", "config"}


def merged(spec: Spec, changes: dict[str, Any]) -> Spec:
    """A spec with other arguments.

    Args:
        spec: of `keras_object`.
        changes: argument -> value. Of an object a dict of arguments changes some of it, another
            spec takes its place: {"masking": {"mask_ratio": 0.6}}.
    """
    config = dict(spec["config"])
    for name, value in changes.items():
        old = config.get(name)
        if is_spec(old) and isinstance(value, dict) and not is_spec(value):
            config[name] = merged(old, value)
        else:
            config[name] = value
    return {**spec, "config": config}
