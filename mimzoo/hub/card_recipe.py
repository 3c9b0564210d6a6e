"""The recipe of a preset as a short table of its card."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mimzoo import run_length
from mimzoo.hub.contents import Contents
from mimzoo.hub.vocabulary import data_set, length

Recipe = dict[str, Any]


def _data(r: Recipe) -> str:
    return f"{data_set(r['data']).words}, {r['num_examples']:,} images"


def _learning_rate(r: Recipe) -> str:
    rate, batch, per = r["base_learning_rate"], r["batch_size"], r["learning_rate_batch"]
    peak = run_length.scaled_learning_rate(rate, batch, per)
    return f"{peak:.3g} at its peak ({rate:g} x {batch} / {per})"


def _schedule(r: Recipe) -> str:
    warmup = f"warm-up of {length(r['warmup'])}"
    if r["schedule"] == "multistep":
        return f"{warmup}, then constant, a tenth from {r['milestone']:.1%} on"
    if r["schedule"] == "linear":
        return f"{warmup}, then a line to {r['final_learning_rate']:g}"
    return f"{warmup}, then half a cosine"


def _crop(r: Recipe) -> str:
    if r["crop"] == "crop_pad":
        return f"{r['crop_padding']} px of padding, cut out"
    least, most = r["crop_scale"]
    if r["crop"] == "scale_crop":
        return f"a window of the image at {least:g} to {most:g} of its size"
    return f"random, {least:g} to {most:g} of the area"


def _object(r: Recipe, part: str) -> str:
    """An object of the task with its arguments: "RandomMasking: mask_ratio 0.75"."""
    spec = r["task"]["config"][part]
    name = _class(spec)
    options = ", ".join(f"{key} {_plain(value)}" for key, value in spec["config"].items())
    return f"{name}: {options}" if options else name


def _class(spec: Recipe) -> str:
    """The name without its package; a card's ">" is escaped."""
    return spec["class_name"].replace("&gt;", ">").rpartition(">")[2]


def _mixing(r: Recipe) -> str:
    return f"mixup {r['mixup']:g}, cutmix {r['cutmix']:g}, label smoothing {r['label_smoothing']:g}"


def _erasing(r: Recipe) -> str:
    return f"{'RandAugment' if r['rand_augment'] else 'none'}, erasing {r['random_erasing']:g}"


# Row -> how it reads, and the fields of a recipe that stand behind it. The first is one that only
# recipes with such a row have.
_ROWS: dict[str, tuple[Callable[[Recipe], str], tuple[str, ...]]] = {
    "data": (_data, ("data", "num_examples")),
    "length": (lambda r: length(r["length"]), ("length",)),
    "batch": (lambda r: str(r["batch_size"]), ("batch_size",)),
    "AdamW's learning rate": (_learning_rate, ("base_learning_rate", "learning_rate_batch")),
    "schedule": (_schedule, ("schedule", "warmup", "milestone")),
    "betas": (lambda r: f"{r['beta_1']:g}, {r['beta_2']:g}", ("beta_1", "beta_2")),
    "weight decay": (lambda r: f"{r['weight_decay']:g}", ("weight_decay", "no_weight_decay")),
    "drop path": (lambda r: f"{r['drop_path_rate']:g}", ("drop_path_rate",)),
    "image": (lambda r: f"{r['image_size']} px", ("image_size",)),
    "crop": (_crop, ("crop", "crop_scale", "crop_padding")),
    "layer decay": (lambda r: f"{r['layer_decay']:g}", ("layer_decay",)),
    "mixing": (_mixing, ("mixup", "cutmix", "label_smoothing")),
    "augmentation": (_erasing, ("rand_augment", "random_erasing")),
}
# Rows of recipes of mimzoo 0.1, where the parts of a task were fields.
_FIELDS = {
    "masking": ("mask_ratio", "mask_patch_size", "mask_sharing", "mask_ratio_range"),
    "decoder": ("decoder_dim", "decoder_depth", "decoder_heads"),
    "target": ("target", "target_window", "target_options", "loss"),
}


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def recipe_table(found: Contents) -> list[str]:
    """Heading, origin and table of the recipe; nothing where it is not known."""
    recipe = found.recipe
    if not recipe:
        return []
    inferred = dict(recipe.get("inferred", {}))
    rows = []
    for name, (text_of, fields) in _ROWS.items():
        if fields[0] in recipe:
            rules = dict.fromkeys(inferred.pop(one) for one in fields if one in inferred)
            rows.append((name, text_of(recipe), "; ".join(rules)))
    for part in recipe.get("task", {}).get("config", {}):
        if "class_name" in str(recipe["task"]["config"][part]):
            rows.append((part, _object(recipe, part), _rules(inferred, part)))
    for name, fields in ({} if "task" in recipe else _FIELDS).items():
        given = {one: recipe[one] for one in fields if recipe.get(one) not in (None, {}, [])}
        if given:
            rules = "; ".join(inferred.pop(one) for one in fields if one in inferred)
            rows.append((name, _plain(given), rules))
    rows += [(f"`{name}`", _value(recipe, name), rule) for name, rule in inferred.items()]
    which = f"`{recipe['name']}`; settings {recipe['origin']}."
    if found.conversion:
        which += " So far as it is known: others ran it, in their own code."
    return ["## Recipe", which, table(("", "", "not published, but"), rows)]


def _rules(inferred: dict[str, str], part: str) -> str:
    """Takes out what stands there about a part of the task: "depth: set by the study"."""
    names = [name for name in inferred if name.partition(".")[0] == part]
    arguments = ((name.partition(".")[2], inferred.pop(name)) for name in names)
    return "; ".join(f"{argument}: {rule}" if argument else rule for argument, rule in arguments)


def _value(recipe: Recipe, name: str) -> str:
    """A field, or with a dot an argument of an object of the task."""
    part, _, argument = name.partition(".")
    if not argument:
        return _plain(recipe.get(name, ""))
    return _plain(recipe["task"]["config"][part]["config"].get(argument, ""))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        if "class_name" not in value:
            return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
        return f"{_class(value)} ({_plain(value['config'])})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
