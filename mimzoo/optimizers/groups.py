"""Which variable gets which share of the learning rate, and which is not decayed.

The rules are lists of (regex, number) over `variable.path`, read from the top: the first regex
that matches wins. They are data, so an optimizer can be saved with them.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

Scales = Sequence[tuple[str, float]]


def multipliers(
    variables: Iterable[Any], scales: Scales, frozen: Sequence[str] = ()
) -> list[float]:
    """The learning-rate multiplier of each variable.

    Args:
        variables: Keras variables.
        scales: pairs (regex, multiplier); the first regex found in `variable.path` wins.
        frozen: regexes of `scales` that may match none.

    Returns:
        One float for each variable.

    Raises:
        ValueError: a variable that no regex matches, or a regex that matches no variable.
    """
    variables = list(variables)
    rules = [(re.compile(regex), float(scale)) for regex, scale in scales]
    result = []
    for variable in variables:
        scale = next((scale for rule, scale in rules if rule.search(variable.path)), None)
        if scale is None:
            raise ValueError(
                f"No regex in scales matches the variable '{variable.path}'; add a pair for it, "
                "or end scales with ('.*', 1.0)."
            )
        result.append(scale)
    check_each_matches((r for r, _ in scales if r not in frozen), variables, "scales")
    return result


def no_weight_decay(model: Any, regexes: Sequence[str] = ()) -> list[Any]:
    """The trainable variables that weight decay leaves alone.

    They are those with at most one axis (norm scales, biases), those whose path ends in "bias",
    and those that a regex matches. A class token or mask token of shape (1, 1, D) is decayed.
    Source: MAE through timm's `add_weight_decay` (main_pretrain.py); SimMIM also spares
    the tokens and position tables: name them in `regexes`.

    Args:
        model: a built Keras model or layer, or a list of variables.
        regexes: more variables to leave alone, searched for in `variable.path`.

    Returns:
        Variables, ready for `keras.optimizers.Optimizer.exclude_from_weight_decay(var_list=...)`.

    Raises:
        ValueError: a regex that matches no variable.
    """
    variables = list(getattr(model, "trainable_variables", model))
    check_each_matches(regexes, variables, "no_weight_decay")
    return [v for v in variables if is_vector(v) or matches_any(v, regexes)]


def is_vector(variable: Any) -> bool:
    """Whether timm's rule spares the variable: at most one axis, or a bias."""
    return len(variable.shape) <= 1 or variable.path.endswith("bias")


def matches_any(variable: Any, regexes: Iterable[str]) -> bool:
    """Whether one of the regexes is found in `variable.path`."""
    return any(re.search(regex, variable.path) for regex in regexes)


def check_each_matches(regexes: Iterable[str], variables: Sequence[Any], where: str) -> None:
    """Raise a ValueError for the first regex that matches no variable."""
    for regex in regexes:
        if not any(re.search(regex, v.path) for v in variables):
            raise ValueError(
                f"The regex {regex!r} in {where} matches no trainable variable; correct or remove "
                f"it. The variables are named like '{variables[0].path if variables else ''}'."
            )
