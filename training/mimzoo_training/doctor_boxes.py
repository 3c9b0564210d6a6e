"""`mimzoo doctor` of images with boxes: Pascal VOC and COCO."""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mimzoo_training.doctor_images import Split, check_images, print_splits
from mimzoo_training.findings import Findings, print_counts, report

# What findings call a box, by the rule of `BoxCheck` that it breaks.
_WRONG = {
    "not finite": "box that is not finite",
    "empty": "empty box",
    "outside": "box outside of the image",
}


class Boxes(NamedTuple):
    """What is known of an image's boxes.

    Attributes:
        image: the image's file.
        file: that of its boxes, as findings call it.
        names: of the classes, one for each box.
        boxes: (N, 4) corners.
        size: (height, width) of the image as the file has it, or None.
    """

    image: str
    file: str
    names: list[str]
    boxes: np.ndarray
    size: tuple[int, int] | None


def has_boxes(path: str) -> bool:
    """Whether a folder has images and annotations of boxes."""
    from mimzoo.data.box_signs import has_boxes

    return has_boxes(path)


def check_boxes(args: argparse.Namespace) -> int:
    """Reads every image, or `args.sample` of each split, and all boxes, and prints tables."""
    from mimzoo.data.box_files import VOC_SIDES
    from mimzoo.data.pairs import named_classes, stored_files

    files, findings = stored_files(args.path), Findings()
    _, xml = VOC_SIDES
    read = _voc if any(map(xml.fits, files.names)) else _coco
    found: dict[str, list[Boxes]] = defaultdict(list)
    for split, boxes in read(files, args.path, findings):
        found[split].append(boxes)
    splits = {
        name: Split(files.source([one.image for one in rows])) for name, rows in found.items()
    }
    check_images(splits, findings, args.min_side, args.sample)
    known = named_classes(files)
    counts: dict[str, Counter] = {name: Counter() for name in known or ()}
    empty: Counter = Counter()
    for split, rows in found.items():
        for index, one in enumerate(rows):
            _check(one, splits[split].sides.get(index), known, findings)
            for label in one.names:
                counts.setdefault(label, Counter())[split] += 1
            empty[split] += not one.names
    print_splits(args.path, splits)
    print_counts("objects of the class", list(splits), counts)
    print_counts("images", list(splits), {"without objects": empty})
    return report(findings)


def _check(
    one: Boxes,
    side: tuple[int, int] | None,
    known: tuple[str, ...] | None,
    findings: Findings,
) -> None:
    from mimzoo.data.boxes import BoxCheck
    from mimzoo.data.objects import Objects

    if one.size and side and one.size != side:
        sizes = f"{one.size[1]} x {one.size[0]}, {one.image} has {side[1]} x {side[0]}"
        findings.add("boxes for another size", f"{one.file}: {sizes} pixels")
    for name in one.names if known is not None else ():
        if name not in known:
            findings.add("class that is not in classes.txt", f"{one.file}: {name}")
    size = one.size or side
    if size is None:
        return
    check = BoxCheck(one.file)
    check(Objects.of(one.boxes, np.zeros(len(one.boxes))), size, one.file)
    for rule, text in check.wrong:
        findings.add(_WRONG[rule], text)
    for text in check.beyond:
        findings.add("box that reaches beyond the image", text)


Rows = Iterator[tuple[str, Boxes]]


def _voc(files: Any, where: str, findings: Findings) -> Rows:
    from mimzoo.data.box_files import VOC_SIDES
    from mimzoo.data.boxes import BoxError
    from mimzoo.data.pairs import Pair, by_split, matched_files
    from mimzoo.data.voc_files import listed_splits, read_annotation

    lists = listed_splits(files.names, files.read)
    known = lists.__contains__ if lists else None
    images, annotations = matched_files(files.names, where, *VOC_SIDES, beside=True, known=known)
    for key in sorted(set(lists) - set(images)):
        findings.add("listed image that is missing", key)
    report_alone(images, annotations, findings)
    pairs = {key: Pair(images[key], annotations[key]) for key in images if key in annotations}
    splits = by_split(pairs)
    if lists:
        splits = defaultdict(list)
        for key, pair in pairs.items():
            splits[lists[key]].append(pair)
    for split, part in splits.items():
        for pair in part:
            try:
                one = read_annotation(files.read(pair.target), pair.target)
            except BoxError as error:
                findings.add("cannot be read", str(error))
                one = None
            if one is not None:
                yield split, Boxes(pair.image, pair.target, one.names, one.boxes, one.size)


def report_alone(
    images: dict[str, str], targets: dict[str, str], findings: Findings, what: str = "annotation"
) -> None:
    """Notes images without the other file, and the other way round; both by their key."""
    for key in sorted(set(images) - set(targets)):
        findings.add(f"image without {what}", images[key])
    for key in sorted(set(targets) - set(images)):
        findings.add(f"{what} of a missing image", targets[key])


def _coco(files: Any, where: str, findings: Findings) -> Rows:
    from mimzoo.data.boxes import BoxError
    from mimzoo.data.coco_files import find_images, json_by_split, read_coco
    from mimzoo.data.formats import is_image_name

    images = [name for name in files.names if is_image_name(name)]
    seen: set[str] = set()
    for split, file in json_by_split(files.names, where).items():
        try:
            content = read_coco(files.read(file), file)
            paths = find_images(content.files, images, file, split, where)
        except BoxError as error:
            findings.add("cannot be read", str(error))
            continue
        for number, path in enumerate(paths):
            if path is None:
                findings.add("annotation of a missing image", f"{file}, {content.files[number]}")
                continue
            seen.add(path)
            objects = content.objects[number]
            names = [content.class_names[label] for label in objects.labels]
            name = f"{file}, {content.files[number]}"
            yield split, Boxes(path, name, names, objects.boxes, content.sizes[number])
    for name in sorted(set(images) - seen):
        findings.add("image without annotation", name)
