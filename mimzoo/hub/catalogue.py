"""The catalogue: one JSON file a grid, one cell a preset."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Preset:
    """One cell of the catalogue.

    Attributes:
        name: what `from_preset` takes.
        grid: the file it stands in.
        axes: method, backbone, size, data, length.
        licence: of the weights.
        source: where weights and figures come from.
        state: "bundled" or "recipe only".
        recipe: name of the recipe that makes it.
        published: results by others, each with its source.
        measured: results of ours, each with date and command.
        checkpoints: files of others, or ids on the Hub, whose results the published ones are; a
            result may name its own.
    """

    name: str
    grid: str
    axes: dict
    licence: str
    source: str
    state: str
    recipe: str
    published: list
    measured: list
    checkpoints: list

    @property
    def folder(self) -> Path:
        """Where a bundled preset's files lie."""
        return presets_folder() / self.name


def presets_folder() -> Path:
    """The folder of the catalogue: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "presets"
    return inside if inside.is_dir() else package.parent / "presets"


@functools.cache
def catalogue() -> dict[str, Preset]:
    """All cells by name."""
    presets = {}
    for path in sorted(presets_folder().glob("*.json")):
        grid = json.loads(path.read_text(encoding="utf-8"))
        for cell in grid["cells"]:
            preset = _cell(path.stem, grid, cell)
            presets[preset.name] = preset
    return presets


def _cell(stem: str, grid: dict, cell: dict) -> Preset:
    """What a file leaves out follows from the name: axes, and the recipe of the same name."""
    backbone, size, *method, data, length = cell["name"].split("_")
    derived = {
        "axes": {
            "method": method[0] if method else backbone,
            "backbone": backbone,
            "size": size,
            "data": data,
            "length": length,
        },
        "recipe": cell["name"],
        "published": [],
        "checkpoints": [],
    }
    fields = {**derived, **grid.get("shared", {}), **cell}
    if isinstance(fields["published"], dict):
        known = grid["published_as"]
        fields["published"] = [
            {**known[key], "value": value} for key, value in fields["published"].items()
        ]
    return Preset(grid=stem, **fields)


def list_presets(state: str | None = None, **axes: str) -> list[str]:
    """Names of the catalogue's presets, filtered.

    Args:
        state: "bundled" or "recipe only".
        **axes: values of method, backbone, size, data, length.
    """
    return [
        name
        for name, preset in catalogue().items()
        if state in (None, preset.state)
        and all(preset.axes.get(axis) == value for axis, value in axes.items())
    ]


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
