"""What a study is: models x data x lengths x seeds, a recipe for each, and evaluations."""

import dataclasses
import difflib
import itertools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimzoo_training.recipes import PretrainRecipe, get_recipe
from mimzoo_training.recipes.legacy import upgraded_changes
from mimzoo_training.recipes.objects import merged
from mimzoo_training.study.sampling import SAMPLINGS, suffix

SHIPPED = Path(__file__).parent / "specs"
# Evaluations of a cell, and the options of each.
EVALUATIONS = {
    "finetune": {"labels", "length", "base_learning_rate", "batch_size"},
    "features": {"labels", "kinds", "k"},
}
# A change that is no field of a recipe: the highest rate of a run, whatever its batch.
PEAK = "peak_learning_rate"
_OPTIONS = ("seed", "validation", "test", "validations", "precision")
_STUDY = {"title", *_OPTIONS, "models", "grid", "evaluate"}
_MODEL = {"recipe", "size", "family", "finetune", "changes"}
_GRID = {"models", "data", "lengths", "seeds", "samplings", "peak_learning_rates"}


@dataclass(frozen=True)
class Model:
    """A row of the study: a recipe, with changes.

    Attributes:
        label: short name, part of the names of cells.
        recipe: stem of a recipe's name, such as `vit_nano_mae_fmnist`; with `{data}` in it for
            recipes that name their data, such as `swinv2_base_simmim_{data}`.
        size: what the figures call its size; default: the recipe's.
        family: models whose losses can be compared; default: method and backbone, and the target if
            the study changes it.
        finetune: recipe of fine-tuning; default: that of the backbone's size.
        changes: fields of the recipe -> values; of `task` the arguments to change, such as
            {"backbone": {"embed_dim": 48}}; `peak_learning_rate` in place of base_learning_rate.
    """

    label: str
    recipe: str
    size: str
    family: str
    finetune: str
    changes: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        name: <model>_<data>_<length>_seed<seed>, with -<sampling> after the data if it is not
            "balanced", and with _rate<rate> after the model if the grid has rates.
        data: a share of the images in (0, 1] or a number of them, drawn so that each lies inside
            every larger one; or the name of a data set of the recipe, such as "in1k20".
        sampling: how a share or number is drawn, see `sampling.sample`.
        rate: the grid's peak learning rate; None: the model's.
    """

    name: str
    model: Model
    data: float | int | str
    length: str
    seed: int
    sampling: str = "balanced"
    rate: float | None = None

    @property
    def label(self) -> str:
        """Of the model, and of the rate if the grid has rates."""
        return _label(self.model, self.rate)

    def size(self, recipe: PretrainRecipe) -> str:
        """What the figures call the model's size: those of two rates are two."""
        size = self.model.size or recipe.size
        return size if self.rate is None else f"{size}, rate {rate_label(self.rate)}"

    def recipe(self) -> PretrainRecipe:
        """How the cell is pretrained.

        Raises:
            ValueError: there is no such recipe, or it has no such fields.
        """
        data = self.data if isinstance(self.data, str) else ""
        recipe = get_recipe(f"{self.model.recipe.format(data=data)}_{self.length}")
        if recipe.kind != "pretrain":
            raise ValueError(f"{recipe.name} is no recipe of pretraining.")
        # What lies in a table of the file has to be as a recipe's own figures are.
        changes = upgraded_changes(
            {name: _plain(value) for name, value in self.model.changes.items()}
        )
        fields = {f.name for f in dataclasses.fields(recipe)}
        _known(changes, fields | {PEAK}, f"changes of the model {self.model.label}")
        if "task" in changes:
            _known(changes["task"], recipe.parts, f"changes.task of {self.model.label}")
            changes["task"] = merged(recipe.task, changes["task"])
        peak = changes.pop(PEAK, None) if self.rate is None else self.rate
        if peak is not None:
            if "base_learning_rate" in changes:
                raise ValueError(
                    f"{self.name} has a base_learning_rate and a peak learning rate: give one."
                )
            batch = changes.get("batch_size", recipe.batch_size)
            changes["base_learning_rate"] = peak * recipe.learning_rate_batch / batch
        inferred = recipe.inferred | dict.fromkeys(changes, "set by the study")
        name = recipe.name if not changes else f"{self.label}_{recipe.data}_{self.length}"
        recipe = dataclasses.replace(recipe, **changes, inferred=inferred, name=name)
        return recipe.with_changes(seed=self.seed)

    def family(self, recipe: PretrainRecipe) -> str:
        """What models whose losses measure the same thing are called."""
        if self.model.family:
            return self.model.family
        same = recipe.method == recipe.backbone
        name = recipe.method if same else f"{recipe.method} {recipe.backbone}"
        if "target" not in upgraded_changes(self.model.changes).get("task", {}):
            return name
        target = recipe.task["config"]["target"]["class_name"].rpartition(">")[2]
        return f"{name} {target.removesuffix('Target').lower()}"


@dataclass(frozen=True)
class Study:
    """A study, as its file has it.

    Attributes:
        name: of the file.
        title: one sentence.
        models: label -> model.
        cells: all runs, each once.
        finetune: for each fine-tuning: labels and length, maybe base_learning_rate, batch_size.
        features: of frozen features: labels, a list of numbers; maybe kinds ("probe", "knn"), k.
        seed: of the nested subsets.
        validation: images of the validation loss; None: all.
        test: images of the accuracies; None: all.
        validations: how often that is measured in a run.
        precision: "float32" or "mixed_bfloat16".
    """

    name: str
    title: str
    models: dict[str, Model]
    cells: list[Cell]
    finetune: list[dict[str, Any]]
    features: dict[str, Any]
    seed: int = 0
    validation: int | None = None
    test: int | None = None
    validations: int = 10
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError(f"the study {self.name} has no cells: give a [[grid]].")
        for number in self.labels:
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"labels must be a number of labelled images, got {number!r}.")

    @property
    def labels(self) -> list[int]:
        """Numbers of labelled images that evaluations take."""
        return [entry.get("labels") for entry in self.finetune] + self.features.get("labels", [])


def load_study(spec: str) -> Study:
    """Reads a study's TOML file, or one that comes with the package, by name.

    Raises:
        FileNotFoundError: there is no such file or name; the nearest is offered.
        ValueError: the file is no study; the message says why.
    """
    path = path_of(spec)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    try:
        return study_of(path.stem, raw)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no study: {error}.") from error


def path_of(spec: str) -> Path:
    """The TOML file of a study, given by path or by name; see `load_study`."""
    path = Path(spec) if spec.endswith(".toml") else SHIPPED / f"{spec}.toml"
    if not path.is_file():
        known = shipped()
        near = difflib.get_close_matches(spec, known, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]}? " if near else ""
        raise FileNotFoundError(
            f"there is no study {spec!r}: {hint}Give a .toml file or one of {', '.join(known)}."
        )
    return path


def shipped() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def study_of(name: str, raw: dict[str, Any]) -> Study:
    """The study of a parsed TOML file; see `load_study`."""
    _known(raw, _STUDY, "the study")
    for needed in ("title", "models", "grid"):
        if needed not in raw:
            raise ValueError(f"the study {name} has no `{needed}`.")
    if raw.get("validations", 1) < 1:
        raise ValueError(f"validations must be at least 1, got {raw['validations']}.")
    if not isinstance(raw["grid"], list):
        raise ValueError("a grid is written [[grid]], with two brackets.")
    models = {label: _model(label, entry) for label, entry in raw["models"].items()}
    cells: dict[str, Cell] = {}
    for block in raw["grid"]:
        _known(block, _GRID, "a [[grid]]")
        axes = (block["models"], block["data"], block["lengths"], block.get("seeds", [0]))
        drawn, rates = block.get("samplings", SAMPLINGS[:1]), block.get(f"{PEAK}s", [None])
        for label, *axis in itertools.product(*axes, drawn, rates):
            if label not in models:
                raise ValueError(f"a [[grid]] names {label!r}; there are {', '.join(models)}.")
            cell = _cell(models[label], *axis)
            cells.setdefault(cell.name, cell)
    evaluate = raw.get("evaluate", {})
    _known(evaluate, set(EVALUATIONS), "[evaluate]")
    finetune, features = evaluate.get("finetune", []), evaluate.get("features", {})
    for entry in finetune:
        _known(entry, EVALUATIONS["finetune"], "[[evaluate.finetune]]")
        if "length" not in entry:
            raise ValueError('[[evaluate.finetune]] needs a length, such as "30ep".')
    labels = [entry.get("labels") for entry in finetune]
    if len(set(labels)) < len(labels):
        raise ValueError("each [[evaluate.finetune]] needs another number of labels.")
    _known(features, EVALUATIONS["features"], "[evaluate.features]")
    unknown = sorted(set(features.get("kinds", [])) - {"probe", "knn"})
    if unknown:
        raise ValueError(f"[evaluate.features]: kinds are probe and knn, not {unknown[0]}.")
    options = {k: raw[k] for k in _OPTIONS if k in raw}
    return Study(name, raw["title"], models, list(cells.values()), finetune, features, **options)


def _model(label: str, entry: dict[str, Any]) -> Model:
    _known(entry, _MODEL, f"the model {label}")
    changes = entry.get("changes", {})
    names = (entry.get(field, "") for field in ("size", "family", "finetune"))
    return Model(label, entry["recipe"], *names, changes)


def _cell(
    model: Model,
    data: float | int | str,
    length: str,
    seed: int,
    sampling: str,
    rate: float | None,
) -> Cell:
    if not isinstance(data, str) and not (data > 0 and (data <= 1 or data == int(data))):
        raise ValueError(f"data must be a share in (0, 1], a number of images or a name: {data}.")
    if sampling not in SAMPLINGS:
        raise ValueError(f"samplings are {', '.join(SAMPLINGS)}, not {sampling!r}.")
    drawn = suffix(sampling)
    if drawn and (isinstance(data, str) or data == 1):
        raise ValueError(f"samplings need a part of the data; {data_label(data)} is not drawn.")
    if rate is not None and not rate > 0:
        raise ValueError(f"{PEAK}s are numbers above 0, not {rate!r}.")
    name = f"{_label(model, rate)}_{data_label(data)}{drawn}_{length}_seed{seed}"
    if not re.fullmatch(r"\w[\w.+-]*", name):  # a cell is a folder of its name
        raise ValueError(
            f"{name!r} cannot be the name of a folder: use letters, digits, - and _ in the names "
            "of models, data and lengths."
        )
    return Cell(name, model, data, length, seed, sampling, rate)


def _label(model: Model, rate: float | None) -> str:
    return model.label if rate is None else f"{model.label}_rate{rate_label(rate)}"


def rate_label(rate: float) -> str:
    """What a learning rate is called: `3e-4`."""
    digits, power = f"{rate:e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def data_label(data: float | int | str) -> str:
    """What an amount of data is called: `10pct`, `6000img` or its name."""
    if isinstance(data, str):
        return data
    return f"{data * 100:g}pct" if data <= 1 else f"{int(data)}img"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def _known(given: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it may have {', '.join(sorted(known))}."
        raise ValueError(f"{where}: {unknown[0]!r} is unknown; {hint}")
