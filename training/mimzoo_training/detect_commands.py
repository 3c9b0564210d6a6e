"""The commands `finetune --task detect` and `predict` of a detector."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mimzoo_training.preset_commands import preset_folder

SHOWN = 5


def finetune(args: argparse.Namespace) -> None:
    """Makes a detector of a preset."""
    from mimzoo_training.arguments import only_for_segmentation
    from mimzoo_training.dense import chosen_recipe
    from mimzoo_training.detect import detect
    from mimzoo_training.recipes import get_recipe
    from mimzoo_training.run_options import finetune_options, finetune_overridden

    only_for_segmentation(args, "leave it out with --task detect")
    for name in ("ema", "num_classes", "linear_probe"):
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is not for detection: leave it out with --task detect.")
    if args.devices not in (None, 1):
        raise ValueError("detection runs on one device: leave --devices out.")
    preset = preset_folder(args.preset)
    recipe = chosen_recipe(preset, get_recipe(args.recipe) if args.recipe else None, "detect")
    recipe = finetune_overridden(recipe, args)
    detect(
        preset,
        args.data,
        args.workdir,
        recipe,
        **finetune_options(args),
    )


def predict(
    args: argparse.Namespace, model: Any, images: Iterator[tuple[str, np.ndarray, str]]
) -> None:
    """Writes a picture of each image with its objects, and prints the first ones.

    Args:
        args: of the command.
        model: the detector.
        images: (path, image, stem of the files to write) of each.
    """
    from mimzoo.data.ids import printable
    from mimzoo_training.box_overlays import draw_boxes, shown
    from mimzoo_training.overlays import class_names

    out, names, count = Path(args.out), class_names(model), 0
    for path, image, stem in images:
        (found,) = model.predict([image])
        draw_boxes([[(image, found)]], [stem], names, out / f"{stem}_overlay.png")
        best = shown(found)
        more = len(best["labels"]) - SHOWN
        print(printable(path) + ("" if len(best["labels"]) else ": no objects"))
        rows = zip(
            best["labels"], best["confidence"], best["boxes"].round().astype(int), strict=True
        )
        for label, score, box in list(rows)[:SHOWN]:
            corners = ", ".join(map(str, box))
            print(f"  {100 * score:5.1f} %  {printable(names[label])}  ({corners})")
        if more > 0:
            print(f"  and {more} more")
        count += 1
    print(f"{out}: overlays of {count} images")
