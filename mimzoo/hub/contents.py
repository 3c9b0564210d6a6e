"""The records in a preset's folder: configuration, recipe, run, results, origin."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from mimzoo.hub.catalogue import Preset, catalogue, grids
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.hub.licences import UNKNOWN
from mimzoo.hub.resolve import read_object

CONVERSION = "conversion.json"
# Weights of a run that begins from nothing are ours; so is a preset's licence in the catalogue.
OURS = "Apache-2.0"
# Kinds of recipes that begin with a pretrained model.
FINETUNED = ("finetune", "segment", "detect")


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
        weights: number of the backbone's parameters; 0 if it is not known.
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
        results = _json(path / "results.json", [])
        if conversion:
            _check(path / CONVERSION, [conversion], _OF_CONVERSION)
        _check(path / CONVERSION, conversion.get("published") or [], _OF_PUBLISHED)
        _check(path / "results.json", results, _OF_RESULT)
        _check(path / "recipe.json", [stored.get("recipe") or {}, stored.get("run") or {}], ())
        made_by = stored.get("recipe") or recipe or {}
        name = _official_name(conversion) or ("" if conversion else made_by.get("name", ""))
        name = str(name or _plain_name(path, conversion))
        return cls(
            path=path,
            name=name,
            entry=catalogue().get(name),
            config=read_object(path / "config.json"),
            task=read_object(path / "task.json") if (path / "task.json").is_file() else {},
            recipe=made_by,
            run=stored.get("run") or {},
            results=results,
            conversion=conversion,
            weights=_json(path / "metadata.json", {}).get("parameter_count", 0),
        )

    @property
    def has(self) -> set[str]:
        """Names of the files."""
        return {path.name for path in self.path.iterdir()}

    @property
    def kind(self) -> str:
        """ "classifier", "segmenter", "detector", "mim" (method with decoder) or "backbone"."""
        if not self.task:
            return "backbone"
        name = self.task.get("class_name", "")
        kinds = {"Classifier": "classifier", "Segmenter": "segmenter", "Detector": "detector"}
        return next((kind for word, kind in kinds.items() if word in name), "mim")

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
        if self.recipe.get("kind") in FINETUNED:
            names = ("backbone", "size")
        return {name: str(self.recipe[name]) for name in names if name in self.recipe}

    @property
    def papers(self) -> list[str]:
        """The papers of its grid and of its method, as the catalogue cites them."""
        wanted = [self.entry.grid if self.entry else "", self.axes.get("method", "")]
        found = (grids()[name]["paper"] for name in wanted if name in grids())
        return list(dict.fromkeys(paper for paper in found if paper))

    @property
    def licences(self) -> list[str]:
        """All licences of the weights, "unknown" where none is stated."""
        if self.conversion:
            found = [str(self.conversion.get("licence") or UNKNOWN)]
            return found + ([self.entry.licence] if self.entry else [])
        if self.recipe.get("kind") == "pretrain":
            return [OURS]
        if self.recipe:
            # Fine-tuned weights keep the licence of those they started from.
            return [str(self.run.get("start_licence") or self._start_licence())]
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
        start = str(self.run.get("start", ""))
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
    """The name of a folder that the catalogue does not know."""
    if conversion:
        return Path(str(conversion["file"])).name.split(".")[0]
    return path.resolve().name


_OF_CONVERSION = ("source", "file", "sha256", "layout", "origin", "mimzoo")
_OF_PUBLISHED = ("metric", "value", "file", "by", "source")
_OF_RESULT = ("metric", "value", "data", "date", "command")


def _json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file: make the preset again.") from error
    if type(found) is not type(default):
        kind = "object" if isinstance(default, dict) else "list"
        raise ValueError(f"{path} is no JSON {kind}: make the preset again.")
    return found


def _check(path: Path, entries: Any, names: tuple[str, ...]) -> None:
    for entry in entries if isinstance(entries, list) else [entries]:
        missing = [n for n in names if not isinstance(entry, dict) or n not in entry]
        if missing or not isinstance(entry, dict):
            raise ValueError(
                f"{path} has an entry without {' and '.join(missing) or 'fields'}: make the preset "
                "again."
            )
