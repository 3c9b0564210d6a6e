"""Commands that look at what a preset does: its loss, accuracy, features, classes and pictures."""

import argparse
from pathlib import Path

from mimzoo_training.annotated import refuse_label_maps
from mimzoo_training.arguments import only_for_segmentation, refuse_given
from mimzoo_training.files import RunError

# Rows of one picture.
DRAWN = 32


def evaluate(args: argparse.Namespace) -> None:
    """Prints the masked loss of a MIM preset, or what a model of another task reaches."""
    from mimzoo.data.classes import match_classes
    from mimzoo.hub import resolve
    from mimzoo.hub.catalogue import catalogue
    from mimzoo.tasks import ImageClassifier, ImageSegmenter, ObjectDetector
    from mimzoo_training import classify, detect_evaluate, measure, parts, segment_evaluate
    from mimzoo_training.splits import open_asked

    task = measure.load_task(preset_folder(args.preset), args.crop_fraction)
    if isinstance(task, ImageSegmenter | ObjectDetector):
        why = "has no effect on segmenters and detectors, which see whole images"
        refuse_given(args, ("crop_fraction", "batch_size"), why)
    if isinstance(task, ImageSegmenter):
        segment_evaluate.evaluate(args, task, preset_folder(args.preset))
        return
    if isinstance(task, ObjectDetector):
        detect_evaluate.evaluate(args, task, preset_folder(args.preset))
        return
    only_for_segmentation(args, "leave it out")
    refuse_label_maps("give a folder of its images alone", args.data)
    batch_size = 256 if args.batch_size is None else args.batch_size
    source = open_asked(args.data, args.split, resolve(preset_folder(args.preset)))
    on = f"{source.name} ({len(source)} images)"
    if isinstance(task, ImageClassifier):
        source = match_classes(source, task.class_names, task.num_classes)
        classify.compile_classifier(task, "sgd")
        values = classify.measure(task, source, batch_size)
        print(f"accuracy {values['accuracy']:.4f}  loss {values['loss']:.4f}  on {on}")
        for entry in catalogue()[args.preset].published if args.preset in catalogue() else []:
            print(f"published: {entry['metric']}: {entry['value']}; {entry['source']}")
    else:
        loss = parts.masked_loss(task, source, batch_size)
        print(f"masked loss {loss:.4f} on {on}, masks of seed {task.masking.seed}")


def probe(args: argparse.Namespace) -> None:
    """Prints what a preset's frozen features are good for."""
    from mimzoo.data import open_source
    from mimzoo_training.probing import probe_preset

    if args.neighbours is not None and "knn" not in args.kinds:
        raise ValueError("--neighbours has no effect without kNN: leave it out, or add knn.")
    refuse_label_maps("give a folder of its images alone", args.data)
    source, test = (open_source(args.data, split) for split in ("train", args.split))
    print(f"{args.preset} on {test.name} ({len(test)} images)")
    probe_preset(
        preset_folder(args.preset),
        source,
        test,
        labels=args.num_labels or [None],
        kinds=args.kinds,
        pooling=args.pooling,
        k=args.neighbours or 20,
        seed=args.seed,
        say=print,
    )


def classify(args: argparse.Namespace) -> None:
    """Prints the most likely classes of images.

    Raises:
        ValueError: the preset is no classifier, or no image can be read.
    """
    from mimzoo.data.ids import printable
    from mimzoo.tasks import ImageClassifier
    from mimzoo_training import measure
    from mimzoo_training.image_files import read_images

    folder = preset_folder(args.preset)
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

    folder = preset_folder(args.preset)
    out = Path(args.out)
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder: name a file in it, such as {out / 'a.png'}.")
    if not out.parent.is_dir():
        raise ValueError(f"there is no folder {out.parent} for the picture: make it first.")
    images = []
    for paths, found in read_images(args.images):
        if out.exists() and any(out.samefile(path) for path in paths):
            raise ValueError(f"--out {out} is one of the images: name another file.")
        images += found
        if len(images) > DRAWN:
            images = images[:DRAWN]
            print(f"the first {DRAWN} images are drawn, no more")
            break
    task = measure.load_mim_task(folder, args.mask_ratio)
    draw_reconstruction(task.reconstruct(images), out)
    print(f"{out}: {len(images)} images, mask ratio {task.masking.mask_ratio:g}")


def preset_folder(preset: str) -> str:
    """The preset inside a work directory, or what was given."""
    inside = Path(preset) / "preset"
    if inside.is_dir():
        return str(inside)
    checkpoints = Path(preset) / "checkpoints"
    done = (Path(preset) / "results.json").is_file()
    if checkpoints.is_dir() and done and not any(checkpoints.glob("step_*")):
        raise RunError(
            f"the run in {preset} left results.json and no preset, as linear probes do: "
            "fine-tune for one."
        )
    if checkpoints.is_dir():
        raise RunError(
            f"the run in {preset} is not finished, so it has no preset yet: "
            "run its command again to resume, or make one of its best checkpoint so far with "
            f"`mimzoo finish {preset}`."
        )
    return preset
