"""`mimzoo doctor`: what is wrong with images, a preset or a work directory."""

import argparse
import dataclasses
import glob
import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from rich.text import Text

from mimzoo_training.doctor_runs import check_preset, check_workdir, is_preset, is_workdir
from mimzoo_training.findings import Findings, report, table_of
from mimzoo_training.progress import counting

MIN_SIDE = 16
_CHUNK = 256
_MAX_CLASSES = 30


def doctor(args: argparse.Namespace) -> int:
    """Prints what a path holds and what is wrong with it: images, a preset or a work directory.

    Returns:
        1 if anything is wrong, else 0.

    Raises:
        ValueError: a source that cannot be used at all, or options that are not for this path.
        FileNotFoundError: there is nothing at the path.
    """
    return next(check for matches, check in KINDS if matches(args.path))(args)


@dataclasses.dataclass
class Split:
    """What is in one split.

    Attributes:
        source: its images.
        sides: (height, width) of those that were decoded.
        size: their bytes.
        read: how many were tried.
    """

    source: Any
    sides: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    size: int = 0
    read: int = 0


@dataclasses.dataclass
class Image:
    """One image, examined: the bytes' digest and number, the shape, or the error."""

    digest: bytes = b""
    size: int = 0
    shape: tuple[int, int] | None = None
    error: str | None = None


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
        least = MIN_SIDE if args.min_side is None else args.min_side
        _check_images(splits, findings, least, args.sample)
    finally:
        logger.setLevel(level)
    _print_splits(spec, splits)
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


def _check_images(
    splits: dict[str, Split], findings: Findings, min_side: int, sample: int | None
) -> None:
    first: dict[bytes, tuple[str, str, str]] = {}
    total = sum(_number(split, sample) for split in splits.values())
    done = 0
    with counting("images") as progress:
        for name, split in splits.items():
            for index, image in _examined(split.source, _number(split, sample)):
                done += 1
                split.read += 1
                progress(done, total)
                split.size += image.size
                where = split.source.example_name(index) if image.error is None else image.error
                if image.error is not None:
                    findings.add("cannot be read", where)
                    continue
                split.sides.append(image.shape)
                if min(image.shape) < min_side:
                    findings.add("too small", f"{where} ({image.shape[0]} x {image.shape[1]})")
                known = name, _class(split.source, index), where
                _check_duplicate(first.setdefault(image.digest, known), known, findings)


def _number(split: Split, sample: int | None) -> int:
    return len(split.source) if sample is None else min(sample, len(split.source))


def _examined(source: Any, number: int) -> Iterator[tuple[int, Image]]:
    """Images of a source, spread evenly, with their numbers."""
    indices = np.arange(number) * len(source) // max(number, 1)
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, number, _CHUNK):
            part = indices[start : start + _CHUNK].tolist()
            yield from zip(part, pool.map(lambda i: _examine(source, i), part), strict=True)


def _examine(source: Any, index: int) -> Image:
    from mimzoo.data.images import ImageError, decode_image

    try:
        file = source.encoded(index)
        if file is None:
            pixels = source.image(index)
            data: Any = np.ascontiguousarray(pixels)
        else:
            data, name = file
            pixels = decode_image(data, name=name)
    except ImageError as error:
        return Image(error=str(error))
    digest = hashlib.blake2b(data, digest_size=16).digest()
    return Image(digest, memoryview(data).nbytes, pixels.shape[:2])


def _class(source: Any, index: int) -> str:
    if not source.labelled:
        return ""
    label = int(source.labels[index])
    return source.class_names[label] if source.class_names else str(label)


def _check_duplicate(
    first: tuple[str, str, str], other: tuple[str, str, str], findings: Findings
) -> None:
    if first is other:
        return
    text = f"{other[2]} = {first[2]}"
    if first[0] != other[0]:
        findings.add("same image in two splits", text)
    elif first[1] != other[1]:
        findings.add("same image in two classes", text)
    else:
        findings.add("same image twice", text)


# === Tables ===


def _print_splits(spec: str, splits: dict[str, Split]) -> None:
    from mimzoo.data.ids import printable
    from mimzoo.hub.cache import readable
    from mimzoo_training.listing import _console

    _console().print(Text(printable(spec)))
    table = table_of("split", "images", "read", "bytes read", "smallest", "median", "largest")
    for name, split in splits.items():
        sides = sorted(split.sides, key=lambda side: side[0] * side[1])
        picked = [sides[0], sides[len(sides) // 2], sides[-1]] if sides else []
        shown = [f"{height} x {width}" for height, width in picked] or ["", "", ""]
        count = len(split.source)
        table.add_row(name, str(count), str(split.read), readable(split.size), *shown)
    _console().print(table)


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
    table = table_of("class", *splits)
    for label in list(counts)[:_MAX_CLASSES]:
        table.add_row(Text(label), *(str(counts[label][name]) for name in splits))
    _console().print(table)
    if len(counts) > _MAX_CLASSES:
        _console().print(f"and {len(counts) - _MAX_CLASSES} more classes")


# Which check belongs to which path; the first one that matches counts.
KINDS: list[tuple[Callable[[str], bool], Callable[[argparse.Namespace], int]]] = [
    (is_workdir, check_workdir),
    (is_preset, check_preset),
    (lambda path: True, check_data),
]
