"""What the commands do. Each takes the parsed arguments."""

import argparse
import json
from pathlib import Path
from typing import Any

from mimzoo_training.files import RunError, read_json


def pretrain(args: argparse.Namespace) -> None:
    """Pretrains by a recipe."""
    from mimzoo_training.recipes import get_recipe

    recipe = _override(
        get_recipe(args.recipe),
        args,
        task=None if args.mask_ratio is None else {"masking": {"mask_ratio": args.mask_ratio}},
        sampling=args.sampling,
        min_score=args.min_score,
    )
    _check_positive(args)
    from mimzoo.data import read_scores
    from mimzoo_training import distribution
    from mimzoo_training.runner import pretrain

    pretrain(
        recipe,
        args.data,
        args.workdir,
        validation=args.validation,
        scores=read_scores(args.scores) if args.scores else None,
        scale=args.scale,
        precision=args.precision,
        validation_every=args.validation_every,
        checkpoint_seconds=args.checkpoint_seconds,
        devices=distribution.start(args.devices, args.model_parallel),
        probe=args.probe,
        command=args.command_line,
    )


def finetune(args: argparse.Namespace) -> None:
    """Fine-tunes a preset, or probes it."""
    import mimzoo  # noqa: F401 (registers the classes)
    from mimzoo_training.classify import recipe_for
    from mimzoo_training.recipes import get_recipe

    preset = _folder(args.preset)
    recipe = get_recipe(args.recipe) if args.recipe else recipe_for(preset)
    recipe = _override(
        recipe,
        args,
        base_learning_rate=args.learning_rate,
        layer_decay=args.layer_decay,
        drop_path_rate=args.drop_path_rate,
        ema_momentum=args.ema,
    )
    _check_positive(args)
    from mimzoo_training import distribution
    from mimzoo_training.finetune import finetune

    finetune(
        preset,
        args.data,
        args.workdir,
        recipe,
        validation=args.validation,
        num_labels=args.num_labels,
        num_classes=args.num_classes,
        from_scratch=args.from_scratch,
        linear_probe=args.linear_probe,
        scale=args.scale,
        precision=args.precision,
        validation_every=args.validation_every,
        checkpoint_seconds=args.checkpoint_seconds,
        devices=distribution.start(args.devices),
        command=args.command_line,
    )


def finish(args: argparse.Namespace) -> None:
    """Makes a preset of a run that was stopped."""
    import mimzoo.pretraining  # noqa: F401 (registers the classes)
    from mimzoo_training.finish import finish

    finish(args.workdir, command=args.command_line)


def evaluate(args: argparse.Namespace) -> None:
    """Prints the masked loss of a MIM preset, or the accuracy of a classifier."""
    from mimzoo.data.classes import match_classes
    from mimzoo.hub.catalogue import catalogue
    from mimzoo.models import ImageClassifier
    from mimzoo_training import classify, measure, parts

    task = measure.load_task(_folder(args.preset), args.crop_fraction)
    source = _evaluated(args)
    on = f"{source.name} ({len(source)} images)"
    if isinstance(task, ImageClassifier):
        source = match_classes(source, task.class_names, task.num_classes)
        classify.compile_classifier(task, 0.0, "sgd")
        values = classify.measure(task, source, args.batch_size)
        print(f"accuracy {values['accuracy']:.4f}  loss {values['loss']:.4f}  on {on}")
        for entry in catalogue()[args.preset].published if args.preset in catalogue() else []:
            print(f"published: {entry['metric']}: {entry['value']}; {entry['source']}")
    else:
        loss = parts.masked_loss(task, source, args.batch_size)
        print(f"masked loss {loss:.4f} on {on}, masks of seed {task.masking.seed}")


def _evaluated(args: argparse.Namespace) -> Any:
    """The split that is asked for. By default all of a source without splits, but for a source that
    the run held a part of back from: then that part.
    """
    from mimzoo.data import open_source
    from mimzoo.hub import resolve

    if args.split is not None:
        return open_source(args.data, args.split)
    try:
        whole = open_source(args.data, "all")
    except ValueError:  # it has splits
        return open_source(args.data, "test")
    path = Path(resolve(_folder(args.preset))) / "recipe.json"
    run = read_json(path, "run")["run"] if path.is_file() else {}
    return open_source(args.data, "test") if run.get("root") == whole.describe()["root"] else whole


def probe(args: argparse.Namespace) -> None:
    """Prints what a preset's frozen features are good for."""
    from mimzoo.data import open_source
    from mimzoo_training.probing import probe_preset

    source, test = (open_source(args.data, split) for split in ("train", args.split))
    print(f"{args.preset} on {test.name} ({len(test)} images)")
    probe_preset(
        _folder(args.preset),
        source,
        test,
        labels=args.num_labels or [None],
        kinds=args.kinds,
        pooling=args.pooling,
        k=args.neighbours,
        seed=args.seed,
        say=print,
    )


def study(args: argparse.Namespace) -> int:
    """Runs what is missing of a study and writes its report."""
    from mimzoo_training.light import without_keras

    # The cells' processes load models; this one only starts them.
    with without_keras():
        from mimzoo_training.study import run_study

        return run_study(
            args.spec,
            args.data,
            args.workdir,
            jobs=args.jobs,
            only=args.only,
            published=args.published,
            validation=args.validation,
            test=args.test,
            say=print,
        )


def classify(args: argparse.Namespace) -> None:
    """Prints the most likely classes of images.

    Raises:
        ValueError: the preset is no classifier, or no image can be read.
    """
    from mimzoo.data.ids import printable
    from mimzoo.models import ImageClassifier
    from mimzoo_training import measure
    from mimzoo_training.image_files import read_images

    folder = _folder(args.preset)
    model = measure.load_task(folder)
    if not isinstance(model, ImageClassifier):
        raise ValueError(
            f"{args.preset} is no classifier: `mimzoo finetune` makes one of it, and "
            "`mimzoo list --task classification` shows those there are."
        )
    for paths, images in read_images(args.images):
        predictions = model.decode_predictions(model.predict(images, verbose=0), args.top)
        for path, best in zip(paths, predictions, strict=True):
            print(printable(path))
            for name, share in best:
                print(f"  {100 * share:5.1f} %  {name}")


def reconstruct(args: argparse.Namespace) -> None:
    """Draws originals, masked images and reconstructions."""
    from mimzoo_training import measure
    from mimzoo_training.image_files import read_images
    from mimzoo_training.pictures import draw_reconstruction

    folder = _folder(args.preset)
    images = [image for _, found in read_images(args.images) for image in found]
    task = measure.load_mim_task(folder, args.mask_ratio)
    pictures = task.reconstruct(images)
    out = Path(args.out)
    if not out.parent.is_dir():
        raise ValueError(f"there is no folder {out.parent} for the picture: make it first.")
    draw_reconstruction(pictures, out)
    print(f"{out}: {len(images)} images, mask ratio {task.masking.mask_ratio:g}")


def convert(args: argparse.Namespace) -> None:
    """Makes a preset of a checkpoint of another library."""
    from mimzoo.convert import convert
    from mimzoo_training.progress import counting

    with counting("tensors") as progress:
        entry = convert(
            args.checkpoint, args.out, args.layout, args.licence, progress, **_facts(args.set)
        )
    told = f", {entry['ignored']} others ignored" if entry["ignored"] else ""
    print(f"{args.out}: {entry['tensors']} tensors mapped{told}, layout {entry['layout']}")
    print(f"licence {entry['licence']}, sha256 {entry['sha256']}")
    for result in entry["published"]:
        print(f"published: {result['metric']}: {result['value']}; {result['source']}")


def export_preset(args: argparse.Namespace) -> None:
    """Writes a preset in the layout of another library."""
    from mimzoo.convert import export

    done = export(_folder(args.preset), args.layout, args.out)
    told = f"; {done['left_out']} weights have no place in it" if done["left_out"] else ""
    print(f"{args.out}: {done['tensors']} tensors, layout {args.layout}{told}")


# --- help ---------------------------------------------------------------------------------------


def _override(recipe: Any, args: argparse.Namespace, **more: Any) -> Any:
    if args.length:
        recipe = recipe.with_length(args.length)
    return recipe.with_changes(
        batch_size=args.batch_size, image_size=args.image_size, seed=args.seed, **more
    )


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


def _check_positive(args: argparse.Namespace) -> None:
    if args.validation_every < 1:
        raise ValueError(f"--validation-every must be at least 1, got {args.validation_every}.")


def _folder(preset: str) -> str:
    """The preset inside a work directory, or what was given."""
    inside = Path(preset) / "preset"
    if inside.is_dir():
        return str(inside)
    if (Path(preset) / "checkpoints").is_dir():
        raise RunError(
            f"the run in {preset} is not finished, so it has no preset yet: "
            "run its command again to resume, or make one of its best checkpoint so far with "
            f"`mimzoo finish {preset}`."
        )
    return preset
