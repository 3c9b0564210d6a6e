"""Which backend the command line runs on, decided before Keras is imported."""

import importlib.util
import json
import os
from pathlib import Path

# In the order in which they are taken: TensorFlow last, as KerasHub brings it along.
MODULES = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}
# What Keras writes into keras.json by itself, when it is first imported and there is none.
UNTOUCHED = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}


def installed() -> list[str]:
    """The backends that can be imported here."""
    return [name for name, module in MODULES.items() if importlib.util.find_spec(module)]


def choose(wanted: str | None) -> str | None:
    """Sets KERAS_BACKEND.

    `wanted`, else the variable KERAS_BACKEND, else the backend of a keras.json that somebody
    edited, else the first one that is installed of torch, jax and tensorflow.

    Returns:
        A line to print if nobody asked for the backend that is taken, else None.

    Raises:
        ValueError: the backend asked for, or all of them, are not installed.
    """
    present = installed()
    if not present:
        raise ValueError(
            "Keras has no backend here: `pip install mimzoo[jax]` "
            "(or mimzoo[torch], mimzoo[tensorflow])."
        )
    asked = wanted or os.environ.get("KERAS_BACKEND")
    if asked:
        if asked not in MODULES:
            raise ValueError(f"unknown backend {asked!r}: choose one of {', '.join(MODULES)}.")
        if asked not in present:
            raise ValueError(
                f"the backend {asked} is not installed: `pip install mimzoo[{asked}]`, "
                f"or choose {' or '.join(present)} with --backend."
            )
        os.environ["KERAS_BACKEND"] = asked
        return None
    configured = _configured()
    if configured in present:
        os.environ["KERAS_BACKEND"] = configured
        return None
    os.environ["KERAS_BACKEND"] = present[0]
    why = f"{configured}, which Keras is set to, is not installed"
    if configured is None:
        why = "choose another with --backend or KERAS_BACKEND"
    return f"using the {present[0]} backend: {why}." if configured or present[1:] else None


def _configured() -> str | None:
    """The backend that keras.json names; None if nobody edited it, or it is missing or broken."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        settings = json.loads((home / "keras.json").read_text(encoding="utf-8"))
        return None if settings == UNTOUCHED else settings["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
