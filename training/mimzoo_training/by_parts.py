"""A pretraining recipe of a method, a backbone and images: what is not given follows by rules."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from mimzoo.data import Loader, ResizeCrop, Source
from mimzoo.data.subsets import select
from mimzoo.models.backbone import Backbone
from mimzoo.models.hierarchy import window_sizes
from mimzoo.pretraining.task import MIMTask
from mimzoo_training import parts
from mimzoo_training.recipes import get_recipe, list_recipes
from mimzoo_training.recipes.objects import is_spec, keras_object, spec_of
from mimzoo_training.recipes.recipe_kinds import PretrainRecipe

LENGTH = "100ep"
LARGEST_BATCH, FEWEST_STEPS = 256, 10
FEWEST_PATCHES = 4
MEASURED = 1000
# What a run takes from the method's recipe as it stands there.
TAKEN = (
    "base_learning_rate",
    "learning_rate_batch",
    "beta_1",
    "beta_2",
    "weight_decay",
    "no_weight_decay",
    "schedule",
    "milestone",
    "clip_norm",
    "drop_path_rate",
    "crop_scale",
    "flip",
    "crop_fraction",
)


def recipe_by_parts(
    method: str,
    backbone: str,
    size: str,
    image_size: int,
    source: Source,
    length: str | None = None,
) -> PretrainRecipe:
    """A recipe for images of one's own.

    Mean and standard deviation are measured, the batch makes at least 10 steps an epoch, learning
    rate and optimizer are those of the method's published recipe, patches and windows fit the
    image, and masking, decoder and target are the defaults of the method's class. `inferred` has
    the rule of each.

    Args:
        method: a registered subclass of MIMTask in lower case, such as "mae" or "data2vec".
        backbone: the family of a registered backbone, such as "vit", or its class less "Backbone".
        size: a name that the backbone's `from_size` takes.
        image_size: side in pixels.
        source: images to train on.
        length: default: 100 epochs.

    Raises:
        ValueError: an unknown name, parts that do not fit each other or the image, or fewer images
            than a batch needs.
    """
    task_cls = _named(MIMTask, method, "--method")
    backbone_cls = _named(Backbone, backbone, "--backbone")
    own = backbone_cls.from_size(size)
    patch = fitting_patch(own.patch_size, own.stride // own.patch_size, image_size)
    windows = fitting_windows(own, image_size // patch)
    template = _template(task_cls, own.family, size)
    batch = fitting_batch(len(source), task_cls.multiple)
    mean, std = measure(source, image_size)

    spec = keras_object(
        keras.saving.get_registered_name(backbone_cls), size=size, patch_size=patch, **windows
    )
    share = batch / template.batch_size
    data = parts.data_name(source)
    recipe = PretrainRecipe(
        name=f"{backbone.lower()}_{size}_{method.lower()}_{data}_{length or LENGTH}",
        backbone=own.family,
        method=method.lower(),
        task=keras_object(keras.saving.get_registered_name(task_cls), backbone=spec),
        size=size,
        data=data,
        num_examples=len(source),
        image_size=image_size,
        length=length or LENGTH,
        batch_size=batch,
        warmup="5%",
        initial_learning_rate=template.initial_learning_rate * share,
        final_learning_rate=template.final_learning_rate * share,
        mean=mean,
        std=std,
        origin="by rules, from the method's published recipe and the images",
        **{name: getattr(template, name) for name in TAKEN},
    )
    made = parts.build_task(recipe)
    defaults = {part: spec_of(getattr(made, part)) for part in ("masking", "decoder", "target")}
    scaled = "initial_learning_rate", "final_learning_rate"
    inferred = {
        **dict.fromkeys(TAKEN, f"that of {template.name}"),
        **{
            n: f"that of {template.name}, scaled to the batch" for n in scaled if getattr(recipe, n)
        },
        "mean": f"measured on {min(MEASURED, len(source))} training images",
        "std": f"measured on {min(MEASURED, len(source))} training images",
        "batch_size": f"the largest power of two up to {LARGEST_BATCH} that makes {FEWEST_STEPS} "
        "steps an epoch",
        "warmup": "ours: a twentieth of the run",
        **dict.fromkeys(defaults, f"the default of {task_cls.__name__} for this backbone"),
    }
    if length is None:
        inferred["length"] = "ours: not given"
    if patch != own.patch_size:
        inferred["backbone.patch_size"] = (
            f"ours: the largest that divides {image_size} px and leaves 4 x 4 tokens; the "
            f"backbone's own is {own.patch_size}"
        )
    if windows:
        inferred["backbone.window_size"] = (
            f"ours: the largest up to the backbone's own, {own.window_size}, that fit the grids"
        )
    task = {**recipe.task, "config": {**recipe.task["config"], **defaults}}
    return dataclasses.replace(recipe, task=task, inferred=inferred)


def _named(base: type, name: str, option: str) -> type:
    """The registered subclass of a short name."""
    known = {}
    for cls in _subclasses(base):
        if keras.saving.get_registered_object(keras.saving.get_registered_name(cls)) is cls:
            short = vars(cls).get("family") or cls.__name__.lower().removesuffix("backbone")
            known[short] = cls
    if name.lower() not in known:
        raise ValueError(f"unknown {option} {name!r}: choose one of {', '.join(sorted(known))}.")
    return known[name.lower()]


def _subclasses(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


def _template(task_cls: type, family: str, size: str) -> PretrainRecipe:
    """The recipe whose optimizer is taken: of this method, as near as there is one; else MAE's."""
    name = keras.saving.get_registered_name(task_cls)
    recipes = [get_recipe(known) for known in list_recipes("pretrain")]
    own = [recipe for recipe in recipes if recipe.task["class_name"] == name]

    def nearness(recipe: PretrainRecipe) -> tuple:
        published = recipe.origin.startswith("published")
        return recipe.backbone == family, published, recipe.size == size

    return max(own, key=nearness) if own else get_recipe("vit_base_mae_in1k_800ep")


def fitting_patch(own: int, merged: int, side: int) -> int:
    """The side of a patch: the backbone's own if it fits the image, else the largest that does.

    Args:
        own: in pixels.
        merged: patches along a side of a token of the last stage; 1 without stages.
        side: of the image, which has to have 4 x 4 such tokens at least.

    Raises:
        ValueError: none fits.
    """
    fits = [p for p in range(1, side // (FEWEST_PATCHES * merged) + 1) if side % (p * merged) == 0]
    if own in fits:
        return own
    if max(fits, default=0) < min(own, 2):
        near = max(round(side / (own * merged)) * own, 2 * FEWEST_PATCHES) * merged
        raise ValueError(
            f"no patch divides images of {side} px into {FEWEST_PATCHES} x {FEWEST_PATCHES} tokens "
            f"or more: give another --image-size, such as {near}."
        )
    return max(fits)


def fitting_windows(backbone: Backbone, grid: int) -> dict[str, Any]:
    """{"window_size": …} for each stage, where those of the size do not fit.

    A window that divides its grid needs no padding, so it is preferred unless it is less than half.

    Args:
        backbone: of the size, at its own resolution.
        grid: patches along a side of the image.
    """
    if not hasattr(backbone, "depths"):  # a ViT has windows only where it is given them
        return {}
    stages = len(backbone.depths)
    own = window_sizes(backbone.window_size, stages)
    grids = [grid // 2**stage for stage in range(stages)]
    cut = tuple(min(pair) for pair in zip(own, grids, strict=True))
    whole = [
        max(w for w in range(1, most + 1) if g % w == 0) for most, g in zip(cut, grids, strict=True)
    ]
    fitting = tuple(w if 2 * w >= most else most for w, most in zip(whole, cut, strict=True))
    return {} if fitting == cut and max(own) <= grid else {"window_size": fitting}


def fitting_batch(count: int, multiple: int) -> int:
    """The largest power of two up to 256 that makes 10 steps an epoch; `multiple` at least.

    Raises:
        ValueError: fewer images than `multiple`.
    """
    if count < multiple:
        raise ValueError(f"{count} images are too few: give at least {multiple}.")
    batch = LARGEST_BATCH
    while batch > multiple and count // batch < FEWEST_STEPS:
        batch //= 2
    return batch


def measure(source: Source, size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels in 0..1, to four places.

    Of up to 1,000 images, spread evenly over the source, as evaluation sees them at `size` px.
    """
    count = min(MEASURED, len(source))
    some = select(source, np.arange(count) * len(source) // count, source.name)
    loader = Loader(
        some, min(64, count), transform=ResizeCrop(size, 1.0), shuffle=False, drop_remainder=False
    )
    sums, squares, pixels = np.zeros(3), np.zeros(3), 0
    for batch in loader:
        values = np.asarray(batch, "float64").reshape(-1, 3) / 255
        sums += values.sum(0)
        squares += (values**2).sum(0)
        pixels += len(values)
    mean = sums / pixels
    # Images of one colour would be divided by 0.
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1 / 255**2))
    return tuple(map(float, mean.round(4))), tuple(map(float, std.round(4)))


def chosen(recipe: PretrainRecipe) -> str:
    """What was inferred, a line for each rule, for a terminal."""
    lines: dict[str, list[str]] = {}
    for name, rule in recipe.inferred.items():
        lines.setdefault(rule, []).append(f"{name} {_shown(_value(recipe, name))}")
    return "\n".join(f"  {', '.join(values)}: {rule}" for rule, values in lines.items())


def _value(recipe: PretrainRecipe, name: str) -> Any:
    part, _, argument = name.partition(".")
    if part not in recipe.parts:
        return getattr(recipe, name)
    return recipe.part(part)[argument] if argument else recipe.task["config"][part]


def _shown(value: Any) -> str:
    if is_spec(value):
        given = ", ".join(f"{k}={_shown(v)}" for k, v in value["config"].items() if v is not None)
        return f"{value['class_name'].rpartition('>')[2]}({given})"
    return f"{value:g}" if isinstance(value, float) else str(value)
