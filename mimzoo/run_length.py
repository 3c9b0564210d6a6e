"""Lengths of a run in any unit, and the learning rate of a batch. Plain numbers, without Keras."""

import math
import re
from typing import Any


def scaled_learning_rate(base: float, batch_size: int, per: int = 256) -> float:
    """The linear scaling rule: `base * batch_size / per`.

    Args:
        base: rate at a batch of `per` images.
        batch_size: images in a step, over all devices.
        per: 256 in MAE and MixMIM (main_pretrain.py), 512 in SimMIM (main_simmim.py).

    Returns:
        The rate to train at.
    """
    if base <= 0 or batch_size < 1 or per < 1:
        raise ValueError(
            f"base, batch_size and per must be positive, got {base!r}, {batch_size!r}, {per!r}."
        )
    return base * batch_size / per


_UNITS = {"it": "it", "step": "it", "steps": "it", "ep": "ep", "epoch": "ep", "epochs": "ep"}
_UNITS |= {"img": "img", "image": "img", "images": "img"}
_LENGTH = re.compile(r"\s*([0-9.]+(?:e[+]?[0-9]+)?)\s*([a-z]+)\s*", re.IGNORECASE)


def steps(
    length: str | int | tuple[float, str],
    batch_size: int | None = None,
    num_examples: int | None = None,
) -> int:
    """A length in steps, given in steps, epochs or images.

    An epoch is `num_examples // batch_size` steps: the last, incomplete batch is dropped, as the
    official code does (ImageNet-1K at 2048: 625 steps). Images and parts of an epoch are
    rounded down to whole steps.

    ```python
    steps("800ep", batch_size=2048, num_examples=1_281_167)  # 500000
    steps((1e9, "img"), batch_size=4096)  # 244140
    steps("500000it") == steps(500_000)
    ```

    Args:
        length: a number and a unit, as text or as a pair; an int alone is in steps. Units:
            "it" or "steps", "k" for thousand steps, "ep" or "epochs", "img" or "images".
        batch_size: images in a step, over all devices; needed for epochs and images.
        num_examples: images in the data set; needed for epochs.

    Returns:
        A whole number of steps, at least 0.

    Raises:
        ValueError: text that is no length, an unknown unit, a negative or non-finite number, a
            part of a step, or a missing `batch_size` or `num_examples`.
    """
    value, unit = _parse(length)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"A length must be a finite number, at least 0, got {length!r}.")
    if unit == "it":
        if value != int(value):
            raise ValueError(f"A number of steps must be whole, got {length!r}.")
        return int(value)
    if not batch_size or batch_size < 1:
        raise ValueError(f"The length {length!r} needs a positive batch_size, got {batch_size!r}.")
    if unit == "img":
        return int(value // batch_size)
    if not num_examples or num_examples < batch_size:
        raise ValueError(
            f"The length {length!r} needs num_examples of at least one batch ({batch_size}), got "
            f"{num_examples!r}."
        )
    # A small slack keeps 0.1 * 10 = 1 from falling to 0.
    return int(value * (num_examples // batch_size) + 1e-6)


def length_unit(length: str) -> str:
    """The unit of a length: "it", "ep" or "img"."""
    return _parse(length)[1]


def _parse(length: Any) -> tuple[float, str]:
    if isinstance(length, int) and not isinstance(length, bool):
        return length, "it"
    number = unit = None
    if isinstance(length, str) and (match := _LENGTH.fullmatch(length)):
        number, unit = match.groups()
    elif isinstance(length, tuple) and len(length) == 2:
        number, unit = length
    thousand = isinstance(unit, str) and unit.lower() == "k"
    unit = "it" if thousand else _UNITS.get(unit.lower()) if isinstance(unit, str) else None
    try:
        if unit is None:
            raise ValueError
        return float(number) * (1000 if thousand else 1), unit
    except (TypeError, ValueError):
        raise ValueError(
            f"{length!r} is no length: write '800ep', '500000it', '1e9img', a pair such as "
            "(800, 'ep'), or a number of steps."
        ) from None
