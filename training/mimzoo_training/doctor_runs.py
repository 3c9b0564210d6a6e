"""`mimzoo doctor` of a preset's folder and of a run's work directory."""

import argparse
import importlib
from pathlib import Path
from typing import Any

from rich.text import Text

from mimzoo_training import output
from mimzoo_training.files import RunError, read_json
from mimzoo_training.findings import Findings, report, table_of

_PRESET = ("config.json", "task.json", "model.weights.h5")


def is_workdir(path: str) -> bool:
    """Whether a run was begun in a folder."""
    return (Path(path) / "recipe.json").is_file() and (Path(path) / "checkpoints").is_dir()


def is_preset(path: str) -> bool:
    """Whether a folder holds a part of a preset."""
    return any((Path(path) / name).is_file() for name in _PRESET)


def check_preset(args: argparse.Namespace) -> int:
    """Prints what a preset is, its files, and what is missing or damaged."""
    _ready(args)
    folder, findings = Path(args.path), Findings()
    _print_preset(folder, findings)
    return report(findings)


def _print_preset(folder: Path, findings: Findings) -> None:
    from mimzoo.hub import preset_class
    from mimzoo.hub.cache import readable
    from mimzoo.hub.complete import check_preset as check
    from mimzoo.hub.contents import Contents

    rows = []
    try:
        found = Contents.read(folder)
        cls = preset_class(folder)
        rows += [("name", found.name), ("kind", found.kind), ("backbone", cls.__name__)]
        rows += [("image", " x ".join(map(str, found.image_shape)))]
        rows += [("licence", ", ".join(dict.fromkeys(found.licences)))]
        rows += [("weights", f"{found.weights:,}")] if found.weights else []
        check(folder, cls)
    except (ValueError, RunError, OSError, KeyError, TypeError) as error:
        findings.add("preset", str(error) or type(error).__name__)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    rows += [(path.name, readable(path.stat().st_size)) for path in files]
    rows += [("together", readable(sum(path.stat().st_size for path in files)))]
    _print_rows("preset", folder, rows)


def check_workdir(args: argparse.Namespace) -> int:
    """Prints what a run is, how far it came, what is damaged, and what to run next."""
    _ready(args)
    from mimzoo_training import checkpoint
    from mimzoo_training.log import read_rows
    from mimzoo_training.recipes import recipe_from_json
    from mimzoo_training.workdir import Workdir

    place, findings = Workdir(args.path), Findings()
    stored = read_json(place.recipe, "recipe", "run", mend="choose another work directory")
    recipe, run = recipe_from_json(stored["recipe"]), stored["run"]
    rows = [("recipe", recipe.name), ("kind", recipe.kind), ("data", f"{run['source']}")]
    rows += [("images", str(run["num_examples"])), ("length", recipe.length)]
    rows += [("ran on", f"{run['backend']}, {run['precision']}")]
    whole = []
    for path in sorted(place.checkpoints.glob("*.safetensors")):
        state = "whole"
        try:
            whole.append(checkpoint.read(path)[0]["step"])
        except RunError as error:
            state = "damaged"
            findings.add("checkpoint", str(error))
        rows.append((path.name, state))
    try:
        read_rows(place.path)
    except RunError as error:
        findings.add("log", str(error))
    total = recipe.steps(run["num_examples"])[0]
    rows.append(("step", f"{max(whole, default=0)} of {total}"))
    _print_rows("run", place.path, rows)
    if place.preset.is_dir():
        _print_preset(place.preset, findings)
    _print_rows("next", place.path, [("", _next(place, recipe.kind, bool(whole)))])
    return report(findings)


def _next(place: Any, kind: str, usable: bool) -> str:
    name = place.path
    if place.finished:
        use = "finetune" if kind == "pretrain" else "evaluate"
        return f"finished: `mimzoo {use} {name} --data SOURCE`" + (
            " --workdir DIR" if kind == "pretrain" else ""
        )
    if place.results.is_file():
        return (
            f"{place.lacking() or place.results.name} is missing or damaged: the run's own command "
            "writes it again"
        )
    if usable:
        return (
            f"not finished: the run's own command resumes it, and `mimzoo finish {name}` makes a "
            "preset of its best checkpoint"
        )
    if any(place.checkpoints.glob("*.safetensors")):
        return "no checkpoint can be used: remove the folder, and the run's own command starts anew"
    return "no checkpoint yet: the run's own command starts it"


def _ready(args: argparse.Namespace) -> None:
    """Imports mimzoo and a backend, which checks of images do without."""
    if args.sample is not None or args.min_side is not None:
        raise ValueError(f"--sample and --min-side are for images, and {args.path} holds none.")
    from mimzoo_training import backend

    backend.choose(None)
    with output.without_native_logs():
        importlib.import_module("mimzoo.pretraining")


def _print_rows(what: str, path: Path, rows: list[tuple[str, str]]) -> None:
    from mimzoo.data.ids import printable
    from mimzoo_training.listing import _console

    table = table_of(what, printable(str(path)))
    table.columns[1].justify = "left"
    for name, value in rows:
        table.add_row(Text(printable(name)), Text(printable(value)))
    _console().print(table)
    _console().print()
