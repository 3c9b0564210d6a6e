"""The images that `mimzoo doctor` reads: damaged, tiny and repeated ones, and a table of all."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from rich.text import Text

from mimzoo_training.findings import Findings, table_of
from mimzoo_training.progress import counting

MIN_SIDE = 16
_CHUNK = 256


@dataclasses.dataclass
class Split:
    """What is in one split.

    Attributes:
        source: its images.
        sides: number of an image -> (height, width), of those that were decoded.
        size: their bytes.
        read: how many were tried.
    """

    source: Any
    sides: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    size: int = 0
    read: int = 0


@dataclasses.dataclass
class Image:
    """One image, examined: the bytes' digest and number, the shape, or the error."""

    digest: bytes = b""
    size: int = 0
    shape: tuple[int, int] | None = None
    error: str | None = None


def check_images(
    splits: dict[str, Split], findings: Findings, min_side: int | None, sample: int | None
) -> None:
    """Reads images, and notes what is wrong with them.

    Args:
        splits: whose images; what was read is noted there.
        findings: of what is wrong.
        min_side: smaller images are named; default: `MIN_SIDE`.
        sample: read so many of each split; default: all.
    """
    min_side = MIN_SIDE if min_side is None else min_side
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
                split.sides[index] = image.shape
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


def print_splits(spec: str, splits: dict[str, Split]) -> None:
    """Prints how many images there are, and how large."""
    from mimzoo.data.ids import printable
    from mimzoo.hub.cache import readable
    from mimzoo_training.listing import _console

    _console().print(Text(printable(spec)))
    table = table_of("split", "images", "read", "bytes read", "smallest", "median", "largest")
    for name, split in splits.items():
        sides = sorted(split.sides.values(), key=lambda side: side[0] * side[1])
        picked = [sides[0], sides[len(sides) // 2], sides[-1]] if sides else []
        shown = [f"{height} x {width}" for height, width in picked] or ["", "", ""]
        count = len(split.source)
        table.add_row(name, str(count), str(split.read), readable(split.size), *shown)
    _console().print(table)
