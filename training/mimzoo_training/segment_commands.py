"""The commands `finetune --task segment` and `predict`, whose part for boxes is elsewhere."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mimzoo_training.arguments import refuse_given
from mimzoo_training.preset_commands import preset_folder


def finetune(args: argparse.Namespace) -> None:
    """Makes a segmenter of a preset."""
    from mimzoo_training.dense import chosen_recipe
    from mimzoo_training.recipes import get_recipe
    from mimzoo_training.run_options import finetune_options, finetune_overridden
    from mimzoo_training.segment import segment

    if args.ema is not None:
        raise ValueError("--ema is for classifiers: leave it out with --task segment.")
    if args.devices not in (None, 1):
        raise ValueError("segmentation runs on one device: leave --devices out.")
    if args.linear_probe:
        refuse_given(args, ("drop_path_rate", "layer_decay"), "has no effect with --linear-probe")
        if args.head == "upernet":
            raise ValueError("--linear-probe has a linear head: leave --head out.")
    preset = preset_folder(args.preset)
    recipe = chosen_recipe(preset, get_recipe(args.recipe) if args.recipe else None, "segment")
    recipe = finetune_overridden(
        recipe,
        args,
        ignore_index=args.ignore_index,
        first_class=args.first_class,
        head=args.head,
    )
    segment(
        preset,
        args.data,
        args.workdir,
        recipe,
        num_classes=args.num_classes,
        linear_probe=args.linear_probe,
        **finetune_options(args),
    )


def predict(args: argparse.Namespace) -> None:
    """Writes what a segmenter or detector sees in images.

    Raises:
        ValueError: the preset is neither, or no image can be read.
    """
    from mimzoo.tasks import ImageSegmenter, ObjectDetector
    from mimzoo_training import detect_commands, measure

    model = measure.load_task(preset_folder(args.preset))
    images = _images(args)
    if isinstance(model, ObjectDetector):
        detect_commands.predict(args, model, images)
    elif isinstance(model, ImageSegmenter):
        _predict(args, model, images)
    else:
        raise ValueError(
            f"{args.preset} is no segmenter: `mimzoo finetune --task segment` makes one of it, and "
            "`--task detect` a detector."
        )


def _images(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, str]]:
    """(path, image, stem of the files to write) of each; makes the folder for these."""
    from mimzoo.data.ids import printable
    from mimzoo_training.image_files import read_images

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for paths, images in read_images(args.images):
        for path, image in zip(paths, images, strict=True):
            if Path(path).parent.samefile(out):
                raise ValueError(
                    f"--out {printable(args.out)} is the folder of {printable(path)}, which could "
                    "be overwritten: name another."
                )
            yield path, image, _free(Path(path).stem, taken)


def _predict(
    args: argparse.Namespace, model: Any, images: Iterator[tuple[str, np.ndarray, str]]
) -> None:
    """Writes label maps as PNG files, and pictures of them on top of the images."""
    from PIL import Image

    from mimzoo.data.ids import printable
    from mimzoo_training.overlays import class_names, colours, draw_overlays

    out, count = Path(args.out), 0
    names, palette = class_names(model), colours(model.num_classes)
    for path, image, stem in images:
        target, drawn = out / f"{stem}.png", out / f"{stem}_overlay.png"
        if target.exists() and not drawn.exists():
            raise ValueError(
                f"{printable(str(target))} was not written by `mimzoo predict`, as there is no "
                f"{printable(drawn.name)} beside it: name another --out, or move it away."
            )
        found = model.predict([image])[0]
        # First, so that a stopped command can be repeated.
        draw_overlays([[(image, found)]], [stem], names, drawn)
        # Numbered as the label maps that the model was trained on.
        picture = Image.fromarray(found + np.uint8(model.first_class))
        picture.putpalette(([0] * 3 * model.first_class) + palette.reshape(-1).tolist())
        picture.save(target)
        shares = np.bincount(found.reshape(-1), minlength=len(names)) / found.size
        best = np.argsort(-shares, kind="stable")[:5]
        print(printable(path))
        for number in best[shares[best] > 0]:
            print(f"  {100 * shares[number]:5.1f} %  {printable(names[number])}")
        count += 1
    print(f"{out}: label maps and overlays of {count} images")


def _free(stem: str, taken: set[str]) -> str:
    """A name that no other image of this call has."""
    name, number = stem, 1
    while taken & {name, f"{name}_overlay"}:
        number += 1
        name = f"{stem}_{number}"
    taken |= {name, f"{name}_overlay"}
    return name
