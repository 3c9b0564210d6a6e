"""The catalogue: a JSON file for each grid, with its pretrained models and their classifiers."""

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ORGANISATION = "mimzoo"
AXES = ("method", "backbone", "size", "data", "length")
STATES = ("bundled", "released elsewhere", "recipe only")
TASKS = ("pretraining", "classification")


@dataclass(frozen=True)
class Checkpoint:
    """A file that others released.

    Attributes:
        url: `hf://org/name[/path]`, https, or a page that a person has to open.
        file: its name, or the repository's on the Hub.
        layout: which of `mimzoo.convert`'s it has.
        licence: of the weights, as its source states it.
        source: where all this is stated.
        by: who trained it: "official", or another project.
        digest: "sha256:…" or "md5:…", perhaps only the first digits, where they are known.
        note: what else is known, or not known.
        hints: settings that its tensors do not show, see `mimzoo.convert.convert`.
    """

    url: str
    file: str
    layout: str
    licence: str
    source: str
    by: str = "official"
    digest: str | None = None
    note: str = ""
    hints: dict = field(default_factory=dict)

    @property
    def by_hand(self) -> bool:
        """Whether only a browser can download it."""
        return self.url.startswith("https://drive.google.com/")


@dataclass(frozen=True)
class Preset:
    """One entry of the catalogue.

    Attributes:
        name: what `from_preset` takes.
        grid: the file it stands in.
        task: "pretraining", or "classification" of a fine-tuned one.
        axes: method, backbone, size, data, length of the pretraining.
        finetuned: data and resolution of the fine-tuning, such as "in1k_224"; "" if there is none.
        state: "bundled", "released elsewhere" (others have weights) or "recipe only".
        licence: of the weights.
        source: where the weights come from.
        recipe: name of the recipe that makes it; "" if there is none.
        published: results by others, each with its source and the file it is of.
        measured: results of ours, each with date and command. "value" is of the weights that load;
            of an entry of a study without weights, it is the mean over its "seeds" (their values).
            Bundled weights of a study are those of seed 0: "mean" is that of all "seeds".
        checkpoint: what it is converted from, where mimzoo has no weights of its own.
        command: what makes it, where that is a study and no recipe; else "".
        others: further files of the same model, or of another training of it.
    """

    name: str
    grid: str
    task: str
    axes: dict
    finetuned: str
    state: str
    licence: str
    source: str
    recipe: str
    published: list
    measured: list
    checkpoint: Checkpoint | None = None
    command: str = ""
    others: tuple[Checkpoint, ...] = ()

    @property
    def made_by(self) -> str:
        """The command that makes it."""
        return self.command or f"mimzoo pretrain {self.recipe} --data … --workdir …"

    @property
    def folder(self) -> Path:
        """Where a bundled preset's files lie."""
        return presets_folder() / self.name

    @property
    def hub_id(self) -> str:
        """Its repository on the Hub, whether it is there or not."""
        return f"{os.environ.get('MIMZOO_ORG', ORGANISATION)}/{self.name}"


def presets_folder() -> Path:
    """The folder of the catalogue: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "presets"
    return inside if inside.is_dir() else package.parent / "presets"


@functools.cache
def grids() -> dict[str, dict]:
    """The files' content by name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(presets_folder().glob("*.json"))
    }


@functools.cache
def catalogue() -> dict[str, Preset]:
    """All entries by name."""
    found = (preset for stem, grid in grids().items() for preset in _read(stem, grid))
    return {preset.name: preset for preset in found}


def _read(stem: str, grid: dict) -> Iterator[Preset]:
    """The presets of a grid; what its file leaves out follows from the names."""
    for cell in grid["cells"]:
        released = [(grid["hosts"][entry["in"]], entry) for entry in cell.get("released", [])]
        kinds = dict.fromkeys(["", *(host.get("classifier", "") for host, _ in released)])
        for kind in kinds:
            own = [pair for pair in released if pair[0].get("classifier", "") == kind]
            yield _preset(stem, grid, cell, kind, own, released)


def _preset(
    stem: str, grid: dict, cell: dict, kind: str, own: list[tuple], released: list[tuple]
) -> Preset:
    backbone, size, *method, data, length = cell["name"].split("_")
    method = method[0] if method else backbone
    name = f"{cell['name']}_{kind}" if kind else cell["name"]
    checkpoint, *others = [_checkpoint(host, entry) for host, entry in own] or [None]
    folder = presets_folder() / name
    bundled = (folder / "config.json").is_file()
    # What a model is worth is also what its classifiers reach.
    shown = own if kind else released
    recipe = cell["name"]
    if kind:
        of_data = "" if method == backbone else f"_{method}"
        recipe = f"{backbone}_{size}{of_data}_finetune_{kind}"
        recipe = next((e["recipe"] for pair in own for e in pair if "recipe" in e), recipe)
    weights = checkpoint if checkpoint and not bundled else None
    measured = _measured(folder) if bundled else []
    study = {"recipe": recipe, "measured": measured}
    if "study" in grid:
        study = _of_study(grid["study"], cell, measured)
    return Preset(
        name=name,
        grid=stem,
        task=TASKS[bool(kind)],
        axes=dict(zip(AXES, (method, backbone, size, data, length), strict=True)),
        finetuned=kind,
        state=STATES[0] if bundled else STATES[1] if weights else STATES[2],
        licence=weights.licence if weights else grid["ours"]["licence"],
        source=f"{weights.url} ({weights.source})" if weights else grid["ours"]["source"],
        published=[row for host, entry in shown for row in _published(grid, host, entry)],
        checkpoint=checkpoint,
        others=tuple(others),
        **study,
    )


def _checkpoint(host: dict, entry: dict) -> Checkpoint:
    return Checkpoint(
        url=host["url"].format_map(entry),
        file=entry["file"] if host["url"] == "hf://{file}" else entry["file"].rpartition("/")[2],
        **{name: host[name] for name in ("layout", "licence", "source")},
        **{name: host[name] for name in ("by",) if name in host},
        **{name: entry[name] for name in ("digest", "note", "hints") if name in entry},
    )


def _published(grid: dict, host: dict, entry: dict) -> Iterator[dict]:
    for key, metric in grid["metrics"].items():
        if key in entry:
            yield {
                "key": key,
                "value": entry[key],
                "file": _checkpoint(host, entry).file,
                "by": host.get("by", "official"),
                "source": host["source"],
                **metric,
            }


def _measured(folder: Path) -> list:
    path = folder / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def _of_study(study: dict, cell: dict, own: list) -> dict:
    """The results of a study's entry: `own` of bundled weights (seed 0), else means of seeds."""
    run = f"mimzoo study {study['name']} --data {study['data']} --workdir runs/{study['name']}"
    command = f"{run} --only {cell['cell']}_seed"
    shared = {"date": study["date"], "command": command, "backend": study["backend"]}
    means = [
        {"key": key, "value": round(sum(values) / len(values), 4), "seeds": values}
        | study["results"][key]
        | shared
        for key, values in cell["results"].items()
    ]
    by_metric = {mean["metric"]: mean for mean in means}
    measured = []
    for result in own:
        of_all = by_metric[result["metric"]]
        beside = {"key": of_all["key"], "mean": of_all["value"], "seeds": of_all["seeds"]}
        measured.append({**result, **beside})
    return {"recipe": "", "command": command, "measured": measured or means}


def list_presets(
    task: str | None = None,
    state: str | None = None,
    grid: str | None = None,
    **axes: str,
) -> list[str]:
    """Names of the catalogue's presets, filtered.

    Args:
        task: "pretraining" or "classification".
        state: "bundled", "released elsewhere" or "recipe only".
        grid: name of a grid, such as "simmim_data_scaling".
        **axes: values of method, backbone, size, data, length.

    Raises:
        ValueError: a value that no preset has; the message lists those there are.
        TypeError: an axis that does not exist.
    """
    if unknown := set(axes) - set(AXES):
        raise TypeError(f"presets have no {', '.join(unknown)}: filter by {', '.join(AXES)}.")
    wanted = {"task": task, "state": state, "grid": grid, **axes}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    for name, value in wanted.items():
        known = sorted({_value(preset, name) for preset in catalogue().values()})
        if value not in known:
            raise ValueError(f"no preset has {name} {value!r}: there are {', '.join(known)}.")
    return [
        name
        for name, preset in catalogue().items()
        if all(_value(preset, key) == value for key, value in wanted.items())
    ]


def _value(preset: Preset, name: str) -> str:
    return preset.axes[name] if name in AXES else getattr(preset, name)


def preset_info(name: str) -> Preset:
    """The catalogue's entry of a preset.

    Raises:
        ValueError: an unknown name; the message offers the nearest ones.
    """
    known = catalogue()
    if name not in known:
        raise ValueError(unknown_preset(name, known))
    return known[name]


def unknown_preset(name: str, known: dict) -> str:
    """The sentence about an unknown name."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Nearest names: {', '.join(near)}." if near else "`mimzoo list` shows all names."
    return f"unknown preset {name!r}: neither a name of the catalogue nor a folder. {hint}"
