"""What the files of a preset's folder say of it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from mimzoo.hub.catalogue import Preset, catalogue, grids
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.hub.licences import UNKNOWN

CONVERSION = "conversion.json"
# Weights of a run that begins from nothing are ours; so is a preset's licence in the catalogue.
OURS = "Apache-2.0"


@dataclass(frozen=True)
class Contents:
    """A preset's folder.

    Attributes:
        path: of the folder.
        name: of the preset.
        entry: of the catalogue, if these are the weights of it or of its recipe.
        config: of the backbone.
        task: the configuration of the task; empty if there is only a backbone.
        recipe: that made the weights, as JSON; empty if it is not known.
        run: what the recipe ran on; empty where others ran it.
        results: measured by us.
        conversion: where converted weights come from; empty if they are ours.
        weights: how many numbers the backbone has; 0 if nobody counted.
    """

    path: Path
    name: str
    entry: Preset | None
    config: dict[str, Any]
    task: dict[str, Any]
    recipe: dict[str, Any]
    run: dict[str, Any]
    results: list[dict[str, Any]]
    conversion: dict[str, Any]
    weights: int

    @classmethod
    def read(cls, path: Path, recipe: dict[str, Any] | None = None) -> Self:
        """Reads a folder.

        Args:
            path: made by `save_to_preset`, by a run or by `convert`.
            recipe: in place of a recipe.json that is not there.

        Raises:
            ValueError: no folder of a preset, or a file that cannot be read.
        """
        path = Path(path)
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} has no config.json, so it is no folder of a preset.")
        stored = _json(path / "recipe.json", {})
        conversion = _json(path / CONVERSION, {})
        made_by = stored.get("recipe") or recipe or {}
        name = _official_name(conversion) or ("" if conversion else made_by.get("name", ""))
        name = name or _plain_name(path, conversion)
        return cls(
            path=path,
            name=name,
            entry=catalogue().get(name),
            config=_json(path / "config.json", {}),
            task=_json(path / "task.json", {}),
            recipe=made_by,
            run=stored.get("run") or {},
            results=_json(path / "results.json", []),
            conversion=conversion,
            weights=_json(path / "metadata.json", {}).get("parameter_count", 0),
        )

    @property
    def has(self) -> set[str]:
        """Names of the files."""
        return {path.name for path in self.path.iterdir()}

    @property
    def kind(self) -> str:
        """ "classifier", "mim" (a method with its decoder) or "backbone"."""
        if not self.task:
            return "backbone"
        return "classifier" if "Classifier" in self.task.get("class_name", "") else "mim"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) that the backbone was made for."""
        return tuple(self.config["config"]["image_shape"])

    @cached_property
    def axes(self) -> dict[str, str]:
        """Method, backbone, size, data and length of the pretraining, as far as known."""
        if self.entry:
            return self.entry.axes
        started = catalogue().get(self.run.get("start", ""))
        if started:
            return started.axes
        names = ("method", "backbone", "size", "data", "length")
        if self.recipe.get("kind") == "finetune":
            names = ("backbone", "size")
        return {name: self.recipe[name] for name in names if name in self.recipe}

    @property
    def papers(self) -> list[str]:
        """What the catalogue cites for it, the grid's paper and the method's."""
        wanted = [self.entry.grid if self.entry else "", self.axes.get("method", "")]
        found = (grids()[name]["paper"] for name in wanted if name in grids())
        return list(dict.fromkeys(paper for paper in found if paper))

    @property
    def licences(self) -> list[str]:
        """All that hold for the weights, "unknown" where nobody says."""
        if self.conversion:
            found = [self.conversion.get("licence") or UNKNOWN]
            return found + ([self.entry.licence] if self.entry else [])
        if self.recipe.get("kind") == "pretrain":
            return [OURS]
        if self.recipe:
            # What was fine-tuned keeps the licence of what it was made of.
            return [self.run.get("start_licence") or self._start_licence()]
        return [self.entry.licence if self.entry else UNKNOWN]

    @property
    def licence(self) -> str:
        """The one that a card names: the source's own words come first."""
        return self.licences[0]

    @property
    def licence_source(self) -> str:
        """Where the licence is stated."""
        if self.conversion and self.entry and self.entry.checkpoint:
            return self.entry.checkpoint.source
        if self.conversion:
            return f"the source, or its layout {self.conversion.get('layout')}"
        return "made by mimzoo" if self.licence == OURS else ""

    def _start_licence(self) -> str:
        start = self.run.get("start", "")
        if start.endswith("_scratch"):
            return OURS
        known = catalogue().get(start.removesuffix("_probe"))
        return known.licence if known else UNKNOWN


def is_official(entry: Preset, source: str, file: str) -> bool:
    """Whether a file is the one that a preset of the catalogue is converted from."""
    known = {file, source}
    if source.startswith(HF_PREFIX):
        known.add(Handle.parse(source).repo)
    return entry.checkpoint is not None and entry.checkpoint.file in known


def _official_name(conversion: dict[str, Any]) -> str:
    entry = catalogue().get(conversion.get("preset") or "")
    if entry and is_official(entry, conversion["source"], conversion["file"]):
        return entry.name
    return ""


def _plain_name(path: Path, conversion: dict[str, Any]) -> str:
    """What a folder is called that the catalogue does not know."""
    if conversion:
        return Path(conversion["file"]).name.split(".")[0]
    return path.resolve().name


def _json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: make the preset again.") from error
