"""Which backend the command line runs on, decided before Keras is imported."""

import importlib.util
import json
import os
from pathlib import Path

# In the order in which they are taken where Keras' own choice is not installed.
MODULES = {"jax": "jax", "torch": "torch", "tensorflow": "tensorflow"}
KERAS_DEFAULT = "tensorflow"


def installed() -> list[str]:
    """The backends that can be imported here."""
    return [name for name, module in MODULES.items() if importlib.util.find_spec(module)]


def choose(wanted: str | None) -> str | None:
    """Sets KERAS_BACKEND.

    `wanted`, else the variable KERAS_BACKEND, else the backend of keras.json (tensorflow if there
    is none), else the first one that is installed.

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
    return f"using the {present[0]} backend: {configured}, which Keras is set to, is not installed."


def _configured() -> str:
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return json.loads((home / "keras.json").read_text(encoding="utf-8"))["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return KERAS_DEFAULT  # what Keras does with a missing or broken file
