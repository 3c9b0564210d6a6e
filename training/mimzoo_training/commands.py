"""What the commands do. Each takes the parsed arguments."""

import argparse
import json
from pathlib import Path
from typing import Any

from mimzoo_training.annotated import refuse_boxes, refuse_label_maps
from mimzoo_training.arguments import only_for_segmentation, refuse_given
from mimzoo_training.preset_commands import preset_folder
from mimzoo_training.run_options import finetune_options, finetune_overridden, overridden


def pretrain(args: argparse.Namespace) -> None:
    """Pretrains by a recipe, or by the parts of one."""
    from mimzoo_training import distribution
    from mimzoo_training.recipes import get_recipe

    _check_numbers(args)
    _check_parts(args)
    refuse_label_maps("pretrain on a folder of its images alone", args.data, args.validation)
    recipe = get_recipe(args.recipe) if args.recipe else None
    # Before anything is computed, which the parts of a recipe need.
    devices = distribution.start(args.devices, args.model_parallel)
    source, validation = args.data, args.validation
    if recipe is None:
        from mimzoo_training.by_parts import chosen, recipe_by_parts
        from mimzoo_training.splits import open_parts

        source, validation = open_parts(args.data, validation)
        given = args.method, args.backbone, args.size, args.image_size
        recipe = recipe_by_parts(*given, source, args.length)
    recipe = overridden(
        recipe,
        args,
        task=None if args.mask_ratio is None else {"masking": {"mask_ratio": args.mask_ratio}},
        sampling=args.sampling,
        min_score=args.min_score,
    )
    if not args.recipe:
        devices.voice(print)(f"{recipe.name}:\n{chosen(recipe)}")
    from mimzoo.data import read_scores
    from mimzoo_training.runner import pretrain

    pretrain(
        recipe,
        source,
        args.workdir,
        validation=validation,
        scores=read_scores(args.scores) if args.scores else None,
        scale=args.scale,
        precision=args.precision,
        validation_every=args.validation_every or 1,
        checkpoint_seconds=args.checkpoint_seconds,
        devices=devices,
        probe=args.probe,
        command=args.command_line,
    )


def finetune(args: argparse.Namespace) -> None:
    """Fine-tunes a preset, or probes it."""
    _check_numbers(args)
    if args.task == "segment":
        from mimzoo_training import segment_commands

        segment_commands.finetune(args)
        return
    if args.task == "detect":
        from mimzoo_training import detect_commands

        detect_commands.finetune(args)
        return
    only_for_segmentation(args, "add --task segment")
    given = args.data, args.validation
    refuse_label_maps("add --task segment to learn the class of each pixel", *given)
    refuse_boxes(*given)
    if args.linear_probe:
        refuse_given(args, _TRAINING, "has no effect with --linear-probe, which fits a layer")
    import mimzoo  # noqa: F401 (registers the classes)
    from mimzoo_training.classify import recipe_for
    from mimzoo_training.recipes import get_recipe

    preset = preset_folder(args.preset)
    recipe = get_recipe(args.recipe) if args.recipe else recipe_for(preset)
    recipe = finetune_overridden(recipe, args, ema_momentum=args.ema)
    from mimzoo_training import distribution
    from mimzoo_training.finetune import finetune

    finetune(
        preset,
        args.data,
        args.workdir,
        recipe,
        num_classes=args.num_classes,
        linear_probe=args.linear_probe,
        devices=distribution.start(args.devices),
        **finetune_options(args),
    )


def finish(args: argparse.Namespace) -> None:
    """Makes a preset of a run that was stopped."""
    import mimzoo.pretraining  # noqa: F401 (registers the classes)
    from mimzoo_training.finish import finish

    if not Path(args.workdir).expanduser().is_dir():
        raise ValueError(
            f"{args.workdir} holds no checkpoint to make a preset of: there is no such folder."
        )
    finish(args.workdir, command=args.command_line)


def study(args: argparse.Namespace) -> int:
    """Runs what is missing of a study and writes its report."""
    # The cells' processes load models; this one only starts them.
    from mimzoo_training.study import run_study

    given = args.data, args.validation, args.test
    refuse_label_maps("give a folder of its images alone", *given)
    return run_study(
        args.spec,
        args.data,
        args.workdir,
        jobs=args.jobs,
        only=args.only,
        published=args.published,
        fit=args.fit,
        validation=args.validation,
        test=args.test,
        say=print,
    )


def convert(args: argparse.Namespace) -> None:
    """Makes a preset of a checkpoint of another library."""
    from mimzoo.convert import convert
    from mimzoo_training.progress import counting

    with counting("tensors") as progress:
        entry = convert(
            args.checkpoint, args.out, args.layout, args.licence, progress, **_facts(args.set)
        )
    ignored = f", {entry['ignored']} others ignored" if entry["ignored"] else ""
    print(f"{args.out}: {entry['tensors']} tensors mapped{ignored}, layout {entry['layout']}")
    print(f"licence {entry['licence']}, sha256 {entry['sha256']}")
    for result in entry["published"]:
        print(f"published: {result['metric']}: {result['value']}; {result['source']}")


def export_preset(args: argparse.Namespace) -> None:
    """Writes a preset in the layout of another library."""
    from mimzoo.convert import export

    done = export(preset_folder(args.preset), args.layout, args.out)
    left_out = f"; {done['left_out']} weights have no place in it" if done["left_out"] else ""
    print(f"{args.out}: {done['tensors']} tensors, layout {args.layout}{left_out}")


# --- help ---------------------------------------------------------------------------------------


def _check_parts(args: argparse.Namespace) -> None:
    """Raises ValueError unless there is a recipe's name, or all parts of one."""
    names = ("method", "backbone", "size")
    given = [f"--{name}" for name in names if getattr(args, name) is not None]
    if args.recipe:
        if given:
            raise ValueError(f"{given[0]} is for a run without a recipe; {args.recipe} is one.")
        return
    needed = (*names, "image_size")
    missing = [f"--{n.replace('_', '-')}" for n in needed if getattr(args, n) is None]
    if not given:
        raise ValueError(
            "name a recipe (`mimzoo list --all` shows them), or give --method, --backbone, --size "
            "and --image-size."
        )
    if missing:
        raise ValueError(f"a run without a recipe needs {', '.join(missing)}, too.")


def _facts(settings: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs, values as JSON."""
    facts = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            facts[name] = json.loads(value)
        except ValueError as error:
            raise ValueError(
                f"--set {setting}: give NAME=VALUE with a number, true, false or a list."
            ) from error
    return facts


# Options of `finetune` that a linear probe of a classifier does not read.
_TRAINING = ("length", "scale", "learning_rate", "layer_decay", "drop_path_rate", "ema")
_TRAINING += ("validation_every",)
# Options that count something.
_COUNTS = ("batch_size", "image_size", "devices", "model_parallel", "validation_every", "probe")
_COUNTS += ("num_labels", "num_classes")


def _check_numbers(args: argparse.Namespace) -> None:
    """Raises ValueError for numbers that cannot be, before anything is opened."""
    from mimzoo_training.recipes.base import check_share

    check_share(args.scale)
    for name in _COUNTS:
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
    if args.learning_rate is not None and not args.learning_rate > 0:
        raise ValueError(f"--learning-rate must be above 0, got {args.learning_rate:g}.")
    if getattr(args, "ema", None) is not None and not 0 <= args.ema < 1:
        raise ValueError(f"--ema must lie in [0, 1), got {args.ema:g}.")
    if not args.checkpoint_seconds >= 0:
        raise ValueError(
            f"--checkpoint-seconds must be at least 0, got {args.checkpoint_seconds:g}."
        )
