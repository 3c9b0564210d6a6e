"""The images of a run: to train, to validate and to test on."""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mimzoo.data import Source, open_source, take_subset
from mimzoo.data.opening import is_named, open_for_use, open_to_fit, same_source
from mimzoo_training.files import RunError, read_json


def open_parts(
    source: Any,
    validation: Any = None,
    opener: Callable[..., Source] = open_source,
    then: Callable[[Any], Callable[..., Source]] | None = None,
) -> tuple[Source, Source | None]:
    """The images to train and to validate on: sources, or opened by name.

    Args:
        source: to train on. A named one without splits is used whole if `validation` is another.
        validation: default: the "validation" of a named source, a held-out part of one without.
        opener, then: see `mimzoo.data.opening.open_to_fit`.
    """
    return open_to_fit(source, _or_source(validation, source), opener, then)


def open_test(source: Any, validation: Any, test: Any, held_out: Source | None) -> Source | None:
    """The images to test on.

    Args:
        source, validation: as in `open_parts`.
        test: default: the "test" of a named source, else what is validated on.
        held_out: what is validated on.
    """
    if is_named(test) and not same_source(test, source):
        return open_for_use(test, "test", open_source)
    if test is not None and not is_named(test):
        return test
    if is_named(source):
        one = same_source(source, _or_source(validation, source))
        with contextlib.suppress(ValueError):  # it has no such split
            return open_source(source, "test", holdout=None if one else 0.0)
    return held_out


def open_asked(
    name: str, split: str | None, folder: str | Path, opener: Callable[..., Source] = open_source
) -> Source:
    """The split that a command names.

    By default all of a source without splits, but of one that the run held a part of back from that
    part; else "test". Warns of images that the run was trained on.

    Args:
        name: of the source.
        split: what is asked for, or None.
        folder: of the preset, with a `recipe.json` of its run.
        opener: such as `open_source`.
    """
    if split is not None:
        return opener(name, split)
    asked = open_for_use(name, "test", opener)
    path = Path(folder) / "recipe.json"
    run = read_json(path, "run")["run"] if path.is_file() else {}
    if not isinstance(run, dict):
        raise RunError(f"{path} is damaged (its run is no object): make the preset anew.")
    # The folder may have moved, so it is known by its files; earlier runs recorded its place alone.
    trained, described = run.get("fingerprint"), asked.describe()
    whole, here = described["fingerprint"], run.get("root") == described["root"]
    if trained is None and not here:
        return asked
    part = "these images"
    if trained != whole:
        held, rest = _divided(name, opener)
        if held is None or held.fingerprint() == whole:
            return asked  # a split of its own
        if trained in (None, rest.fingerprint()):
            return held
        if run.get("validation_fingerprint") == held.fingerprint():
            return held
        if not here:
            return asked
        part = "a part of these images"
    warnings.warn(
        f"{asked.name}: the run was trained on {part}, so the result says little of other ones",
        stacklevel=2,
    )
    return asked


def _divided(name: str, opener: Callable[..., Source]) -> tuple[Source | None, Source | None]:
    """What a run holds back of a source by default, and what it then trains on."""
    with contextlib.suppress(ValueError):  # it cannot be divided
        return opener(name, "test"), opener(name, "train")
    return None, None


def at_most(source: Source, count: int | None, seed: int) -> Source:
    """So many images of a source to measure on: evenly by class, or else of each its share."""
    if count is None or count >= len(source):
        return source
    try:
        return take_subset(source, count=count, seed=seed)
    except ValueError:  # a class has too few
        return take_subset(source, share=count / len(source), seed=seed)


def _or_source(validation: Any, source: Any) -> Any:
    return source if validation is None and is_named(source) else validation
