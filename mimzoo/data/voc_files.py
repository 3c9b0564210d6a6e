"""Pascal VOC: an XML file for each image, and lists of which image is in which split."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from mimzoo.data.boxes import BoxError
from mimzoo.data.ids import printable
from mimzoo.data.objects import COUNTED, DIFFICULT

MAX_XML_BYTES = 2**24  # some 50,000 objects
_LISTS = {"train": "train", "val": "validation", "test": "test", "trainval": "train"}


class Annotation(NamedTuple):
    """What an XML file says.

    Attributes:
        names: of the classes, one for each object.
        boxes: (N, 4) float32 corners.
        kinds: (N,) uint8, see `mimzoo.data.Objects`.
        size: (height, width) of the image, or None.
    """

    names: list[str]
    boxes: np.ndarray
    kinds: np.ndarray
    size: tuple[int, int] | None


def parse_xml(data: bytes, name: str) -> Element:
    """The root of a document.

    Document types are refused, and entities with them, so no file can grow in memory or make the
    parser read another one.

    Args:
        data: the bytes of a file.
        name: what errors call it.

    Raises:
        BoxError: it is no XML, is larger than `MAX_XML_BYTES`, or has a document type.
    """
    name = printable(name)
    if len(data) > MAX_XML_BYTES:
        raise BoxError(f"{name} has {len(data)} bytes, more than any annotation that is read")
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_) -> None:
        raise BoxError(f"{name} has a document type (<!DOCTYPE …>), which is not read: remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, BoxError):
            raise
        raise BoxError(f"{name} is no XML: {error}") from None
    return builder.close()


def read_annotation(data: bytes, name: str) -> Annotation:
    """Reads a Pascal VOC annotation.

    Pixels are counted from 1 and corners belong to the box, as in VOC and labelImg, so the left and
    upper corners become one less (detectron2/data/datasets/pascal_voc.py), at least 0. Parts of
    objects are not read.

    Args:
        data: the bytes of a file.
        name: what errors call it.

    Raises:
        BoxError: no XML, no annotation, or an object without name or numbers.
    """
    root = parse_xml(data, name)
    if root.tag != "annotation":
        raise BoxError(
            f"{printable(name)} is no Pascal VOC annotation: it begins with <{printable(root.tag)}>"
        )
    names, boxes, kinds = [], [], []
    for thing in root.iterfind("object"):
        names.append(_text(thing, "name", name))
        corners = [_number(thing, f"bndbox/{corner}", name) for corner in _CORNERS]
        # A corner that is before the other stays so: it is an error of the file.
        starts = (end if start >= end else max(start - 1, 0) for start, end in _sides(corners))
        boxes.append([*starts, *corners[2:]])
        kinds.append(DIFFICULT if (thing.findtext("difficult") or "0").strip() == "1" else COUNTED)
    size = None
    if root.find("size") is not None:
        size = tuple(int(_number(root, f"size/{side}", name)) for side in ("height", "width"))
    return Annotation(
        names,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(kinds, np.uint8),
        size if size and min(size) > 0 else None,
    )


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _sides(corners: list[float]) -> Iterable[tuple[float, float]]:
    return zip(corners[:2], corners[2:], strict=True)


def _text(element: Element, path: str, name: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise BoxError(f"{printable(name)} has an object without <{path}>")
    return text


def _number(element: Element, path: str, name: str) -> float:
    text = (element.findtext(path) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise BoxError(f"{printable(name)}: <{path}> must be a number, and is {text[:20]!r}")
    return value


def listed_splits(names: Iterable[str], read: Callable[[str], bytes]) -> dict[str, str]:
    """Key of an image -> its split, of the lists in ImageSets/Main; {} where there are none.

    Args:
        names: relative paths of all files.
        read: gives the bytes of one.

    Raises:
        ValueError: an image in two lists.
    """
    lists = {}
    for name in sorted(names):
        folder, _, file = f"/{name}".rpartition("/")
        stem = file.removesuffix(".txt")
        if folder.endswith("/ImageSets/Main") and file.endswith(".txt") and stem in _LISTS:
            lists[folder[1:].removesuffix("ImageSets/Main"), stem] = name
    splits: dict[str, str] = {}
    for (prefix, stem), name in lists.items():
        if stem == "trainval" and (prefix, "train") in lists:
            continue
        for line in read(name).decode("utf-8-sig", "replace").splitlines():
            # A list of a class has 1, 0 or -1 after the name.
            stem_of_image = re.sub(r"\s+(-1|0|1)$", "", line.strip())
            if not stem_of_image:
                continue
            key = prefix + stem_of_image
            if splits.setdefault(key, _LISTS[stem]) != _LISTS[stem]:
                raise ValueError(f"{printable(key)} is in two lists of {prefix}ImageSets/Main")
    return splits
