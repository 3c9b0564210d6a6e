"""`mimzoo doctor`: what is wrong with images, a preset or a work directory."""

import argparse
import glob
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np

from mimzoo_training.doctor_boxes import check_boxes, has_boxes
from mimzoo_training.doctor_images import Split, check_images, print_splits
from mimzoo_training.doctor_label_maps import check_label_maps, has_label_maps
from mimzoo_training.doctor_runs import check_preset, check_workdir, is_preset, is_workdir
from mimzoo_training.findings import Findings, print_counts, report


def doctor(args: argparse.Namespace) -> int:
    """Prints what a path holds and what is wrong with it: images, a preset or a work directory.

    Returns:
        1 if anything is wrong, else 0.

    Raises:
        ValueError: a source that cannot be used at all, or options that are not for this path.
        FileNotFoundError: there is nothing at the path.
    """
    return next(check for matches, check in KINDS if matches(args.path))(args)


def check_data(args: argparse.Namespace) -> int:
    """Reads every image of a source, or `args.sample` of them, and prints tables."""
    from mimzoo.data.opening import own_splits

    logger, findings = logging.getLogger("mimzoo.data"), Findings()
    level = logger.level
    logger.setLevel(logging.ERROR)  # its warnings become rows of a table
    try:
        spec = _spec(args.path)
        splits = {name: Split(opened()) for name, opened in own_splits(spec).items()}
        _check_sources(splits, findings)
        check_images(splits, findings, args.min_side, args.sample)
    finally:
        logger.setLevel(level)
    print_splits(spec, splits)
    _print_classes(splits, findings)
    return report(findings)


def _spec(path: str) -> str:
    """The source at a path: a folder of tar files without images is a set of shards."""
    if not os.path.isdir(path) or not glob.glob(os.path.join(glob.escape(path), "*.tar")):
        return path
    from mimzoo.data.formats import is_image_name
    from mimzoo.data.listing import list_files

    return path if any(map(is_image_name, list_files(path)[0])) else f"shards:{path}"


def _check_sources(splits: dict[str, Split], findings: Findings) -> None:
    # What is left out is known of the whole folder, not of each split.
    for name, reason in next(iter(splits.values())).source.skipped.items():
        findings.add("no class" if name.endswith("/") else "left out", f"{name} ({reason})")
    for split in splits.values():
        if split.source.damage:
            findings.add("shards", str(split.source.damage))
        index = getattr(split.source, "index", None)
        if index is None:
            continue
        from mimzoo.data.shard_build import digest

        if index.bad_label:
            findings.add("labels", index.bad_label)
        if digest(index.records, index.keys()) != index.digest:
            findings.add("index", f"{index.folder} is damaged: remove this folder")


# === Tables ===


def _print_classes(splits: dict[str, Split], findings: Findings) -> None:
    from mimzoo_training.listing import _console

    counts: dict[str, Counter] = defaultdict(Counter)
    for name, split in splits.items():
        source = split.source
        if not source.labelled:
            continue
        names = source.class_names or [str(label) for label in range(source.num_classes)]
        numbers = np.bincount(source.labels, minlength=len(names)).tolist()
        for label, number in zip(names, numbers, strict=True):
            counts[label][name] = number
            if not number:
                findings.add("empty class", f"{label} in {name}")
    if not counts:
        _console().print("no labels")
        return
    print_counts("class", list(splits), counts)


# Which check belongs to which path; the first one that matches counts.
KINDS: list[tuple[Callable[[str], bool], Callable[[argparse.Namespace], int]]] = [
    (is_workdir, check_workdir),
    (is_preset, check_preset),
    (has_boxes, check_boxes),
    (has_label_maps, check_label_maps),
    (lambda path: True, check_data),
]
