"""`mimzoo doctor` of images with label maps."""

import argparse
from collections import Counter, defaultdict

import numpy as np

from mimzoo_training.doctor_boxes import report_alone
from mimzoo_training.doctor_images import Split, check_images, print_splits
from mimzoo_training.findings import Findings, print_counts, report


def has_label_maps(path: str) -> bool:
    """Whether a folder or .tar file has images and label maps."""
    from mimzoo.data.label_map_files import has_label_maps

    return has_label_maps(path)


def check_label_maps(args: argparse.Namespace) -> int:
    """Reads every image and label map, or `args.sample` of each split, and prints tables."""
    from mimzoo.data.images import ImageError
    from mimzoo.data.label_map_files import SIDES
    from mimzoo.data.label_maps import IGNORED, LabelMapError, decode_label_map
    from mimzoo.data.pairs import Pair, by_split, matched_files, named_classes, stored_files

    files, findings = stored_files(args.path), Findings()
    images, maps = matched_files(files.names, args.path, *SIDES)
    report_alone(images, maps, findings, "label map")
    pairs = by_split({key: Pair(images[key], maps[key]) for key in images if key in maps})
    splits = {name: Split(files.source([p.image for p in part])) for name, part in pairs.items()}
    check_images(splits, findings, args.min_side, args.sample)
    names, counts = named_classes(files), defaultdict(Counter)
    for name, part in pairs.items():
        source = files.source([pair.target for pair in part])
        for index, side in splits[name].sides.items():
            try:
                numbers = decode_label_map(*source.encoded(index))
            except (ImageError, LabelMapError) as error:
                findings.add("cannot be read", str(error))
                continue
            _check(part[index].target, numbers, side, names, findings)
            for number in np.unique(numbers).tolist():
                counts[number][name] += 1
    classes = set(counts) - {IGNORED}
    if len(classes) == 1:
        findings.add("one class only", f"all pixels are {min(classes)} or {IGNORED}, which is none")
    print_splits(args.path, splits)
    rows = {_row(number, names): counts[number] for number in sorted(counts)}
    print_counts("number, in so many label maps", list(splits), rows)
    return report(findings)


def _check(
    name: str,
    numbers: np.ndarray,
    side: tuple[int, int],
    names: tuple[str, ...] | None,
    findings: Findings,
) -> None:
    from mimzoo.data.label_maps import IGNORED

    if numbers.shape != side:
        (tall, wide), (rows, columns) = numbers.shape, side
        sizes = f"{name}: {wide} x {tall} pixels, its image {columns} x {rows}"
        findings.add("label map of another size", sizes)
    wrong = (numbers >= len(names)) & (numbers != IGNORED) if names is not None else None
    if wrong is not None and wrong.any():
        findings.add("number that classes.txt does not name", f"{name}: {numbers[wrong][0]}")


def _row(number: int, names: tuple[str, ...] | None) -> str:
    from mimzoo.data.label_maps import IGNORED

    if number == IGNORED:
        return f"{number}: no class"
    return f"{number}: {names[number]}" if names and number < len(names) else str(number)
