"""COCO: one JSON file for all images of a split."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mimzoo.data.boxes import BoxError
from mimzoo.data.formats import is_hidden
from mimzoo.data.ids import printable
from mimzoo.data.objects import COUNTED, CROWD, Objects
from mimzoo.data.splits import split_of, splits_in

# Of COCO's own files, those that hold no boxes of things, or the same ones again.
_OTHERS = ("caption", "keypoint", "panoptic", "stuff", "image_info", "unlabeled")


class Annotations(NamedTuple):
    """What a JSON file says.

    Attributes:
        class_names: in the order of the labels.
        files: of the images.
        objects: of each image.
        sizes: (height, width) of each image, or None.
    """

    class_names: tuple[str, ...]
    files: list[str]
    objects: list[Objects]
    sizes: list[tuple[int, int] | None]


def json_by_split(names: Iterable[str], where: str) -> dict[str, str]:
    """The JSON file of each split, by its name (instances_train2017.json) or its folder.

    Args:
        names: relative paths of all files.
        where: what errors call the folder.

    Raises:
        ValueError: two files for a split.
    """
    splits: dict[str, str] = {}
    for name in json_files(names):
        meant = splits_in(name.rpartition("/")[2])
        folders = [split_of(part) for part in name.split("/")[:-1]]
        split = meant.pop() if len(meant) == 1 else next(filter(None, folders), "train")
        if split in splits:
            raise ValueError(
                f"{printable(where)} has both {printable(splits[split])} and {printable(name)} for "
                f"{split}: name one of them after another split, or move it away"
            )
        splits[split] = name
    return splits


def json_files(names: Iterable[str]) -> list[str]:
    """The JSON files among these that may hold boxes, by their names."""
    found = [name for name in sorted(names) if name.lower().endswith(".json")]
    found = [name for name in found if not is_hidden(name)]
    found = [name for name in found if not any(word in _file(name) for word in _OTHERS)]
    return [name for name in found if "instances" in _file(name)] or found


def _file(name: str) -> str:
    return name.rpartition("/")[2].lower()


def read_coco(data: bytes, name: str, class_names: Sequence[str] | None = None) -> Annotations:
    """Reads a file in COCO's format for detection.

    Category ids become 0..K-1 in rising order, or the places of the same names in `class_names`.
    Segmentations are not read.

    Args:
        data: the bytes of a file.
        name: what errors call it.
        class_names: those of the model, or of the training images.

    Raises:
        BoxError: no JSON, a part that is missing, or an id or a category that is not in the file.
    """
    name = printable(name)
    try:
        content = json.loads(data, object_hook=_without_segmentation)
    except (ValueError, RecursionError) as error:
        raise BoxError(f"{name} is no JSON: {error}") from None
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        raise BoxError(
            f'{name} is no COCO file: it needs "images", "annotations" and "categories"; move it '
            "away if it is another file"
        )
    place = "categories"
    try:
        categories = sorted((int(one["id"]), str(one["name"])) for one in content["categories"])
        found = tuple(text for _, text in categories)
        _check_once(found, name, "categories named")
        _check_once([number for number, _ in categories], name, "categories with the id")
        labels = {number: label for label, (number, _) in enumerate(categories)}
        if class_names is not None:
            labels = matched(categories, class_names, name)
        numbers: dict[Any, int] = {}
        files, sizes, boxes = [], [], []
        for index, image in enumerate(content["images"]):
            place = f"image {index}"
            numbers[image["id"]] = len(files)
            files.append(str(image["file_name"]))
            size = int(image.get("height") or 0), int(image.get("width") or 0)
            sizes.append(size if min(size) > 0 else None)
            boxes.append([])
        _check_once([image["id"] for image in content["images"]], name, "images with the id")
        _check_once(files, name, "images with the file_name")
        for index, one in enumerate(content["annotations"]):
            place = f"annotation {one.get('id', index)}"
            x, y, width, height = map(float, one["bbox"])
            if one["image_id"] not in numbers:
                raise BoxError(f"{name}: {place} is of image {one['image_id']}, which is not there")
            if one["category_id"] not in labels:
                raise BoxError(
                    f"{name}: {place} has the category {one['category_id']}, which is not there"
                )
            kind = CROWD if one.get("iscrowd") else COUNTED
            row = x, y, x + width, y + height, labels[one["category_id"]], kind
            boxes[numbers[one["image_id"]]].append(row)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, BoxError):
            raise
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise BoxError(f"{name}: {place} cannot be read: {reason}") from None
    rows = [np.array(one, np.float64).reshape(-1, 6) for one in boxes]
    objects = [Objects.of(one[:, :4], one[:, 4], one[:, 5]) for one in rows]
    return Annotations(tuple(class_names or found), files, objects, sizes)


def _without_segmentation(thing: dict) -> dict:
    # Most of a file, and freed as soon as it is read.
    thing.pop("segmentation", None)
    return thing


def _check_once(values: Sequence, name: str, what: str) -> None:
    if len(set(values)) < len(values):
        seen: set = set()
        twice = next(value for value in values if value in seen or seen.add(value))
        raise BoxError(f"{name} has two {what} {printable(str(twice))}: rename or remove one")


def matched(
    categories: Sequence[tuple[int, str]], class_names: Sequence[str], name: str
) -> dict[int, int]:
    """Id of a category -> place of its name among the classes.

    Args:
        categories: (id, name) of each.
        class_names: the classes.
        name: what the error calls the file.

    Raises:
        BoxError: a category that is no class.
    """
    number = {text: label for label, text in enumerate(class_names)}
    for _, text in categories:
        if text not in number:
            raise unknown_class(text, class_names, name)
    return {key: number[text] for key, text in categories}


def unknown_class(text: str, class_names: Sequence[str], name: str) -> BoxError:
    """The error of a file that names a class which is none of these."""
    few = ", ".join(class_names[:8]) + (", …" if len(class_names) > 8 else "")
    return BoxError(
        f"{printable(name)} has the class {printable(text)}, which is none of {printable(few)}"
    )


def locate(
    files: Sequence[str], names: Iterable[str], json_file: str, split: str, where: str
) -> list[str]:
    """The path of each image of a JSON file; see `find_images`.

    Raises:
        BoxError: an image that is missing, or is there more than once.
    """
    found = find_images(files, names, json_file, split, where)
    missing = [file for file, path in zip(files, found, strict=True) if path is None]
    if missing:
        raise BoxError(
            f"{printable(where)}: {len(missing)} of {len(files)} images of {printable(json_file)} "
            f"are missing, such as {printable(missing[0])}: add them, or remove them from the file"
        )
    return found


def find_images(
    files: Sequence[str], names: Iterable[str], json_file: str, split: str, where: str
) -> list[str | None]:
    """The path of each image of a JSON file, or None.

    That is the file whose path ends with the image's name; of several, the one in a folder of the
    split or beside the JSON file.

    Args:
        files: names of images as the JSON file has them.
        names: relative paths of all files.
        json_file: its path.
        split: which it is.
        where: what errors call the folder.

    Raises:
        BoxError: an image that is there more than once.
    """
    by_end: dict[str, list[str]] = {}
    for path in names:
        by_end.setdefault(path.rpartition("/")[2], []).append(path)
    found: list[str | None] = []
    for file in files:
        file = file.replace("\\", "/").removeprefix("./").lstrip("/")
        ends = [p for p in by_end.get(file.rpartition("/")[2], ()) if f"/{p}".endswith(f"/{file}")]
        if len(ends) > 1:
            ends = [p for p in ends if split in map(split_of, p.split("/")[:-1])] or ends
        if len(ends) > 1:
            beside = json_file.rpartition("/")[0] + "/"
            ends = [p for p in ends if p.startswith(beside)] or ends
        if len(ends) > 1:
            few = " and ".join(map(printable, ends[:2]))
            raise BoxError(
                f"{printable(where)}: {printable(file)} of {printable(json_file)} may be {few}: "
                "name folders in file_name, or move one away"
            )
        found.append(ends[0] if ends else None)
    return found
