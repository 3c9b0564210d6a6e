"""Opening folders and tar files of images with boxes: Pascal VOC and COCO."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from mimzoo.data.boxes import BoxError, BoxSource, checked
from mimzoo.data.coco_files import json_by_split, locate, read_coco, unknown_class
from mimzoo.data.formats import is_hidden, is_image_name, suffix
from mimzoo.data.ids import printable
from mimzoo.data.label_map_files import IMAGES, MAPS
from mimzoo.data.objects import Objects
from mimzoo.data.opening import choose_split
from mimzoo.data.pairs import Files, Pair, Side, by_split, named_classes, pair_files, stored_files
from mimzoo.data.sources import EncodedSource, Source
from mimzoo.data.voc_files import Annotation, listed_splits, read_annotation

logger = logging.getLogger("mimzoo.data")
_REMEDY = (
    "put an XML file beside each image or into annotations/ (Pascal VOC), or one JSON file "
    "for each split above the images (COCO)"
)


def open_boxes(
    spec: str | os.PathLike,
    split: str = "train",
    *,
    class_names: Iterable[str] | None = None,
    holdout: float | None = None,
) -> Source:
    """Opens images with boxes.

    A folder or .tar file has one of two formats. Pascal VOC: an XML file for each image, beside it
    or in annotations/ where the image is in images/ (JPEGImages/); splits are the lists in
    ImageSets/Main, or folders train/, validation/ and test/. COCO: a JSON file for each split,
    recognised by its name (instances_train2017.json) or folder, and the images anywhere below. An
    image without objects is fine. Crowds (`iscrowd`) are not learned, and they and VOC's difficult
    objects are not counted in evaluation.

    Args:
        spec: the path of the folder or .tar file, or "tfds:NAME" of a data set that TensorFlow
            Datasets has prepared, such as coco or voc, with a feature "objects".
        split, holdout: as in `mimzoo.data.open_source`.
        class_names: of the labels 0, 1, …; default: the lines of `classes.txt`, if there is one;
            of XML files the names in "train", sorted; of a JSON file its categories by their id;
            of TensorFlow Datasets those it has.

    Returns:
        A source whose examples have "objects" (`mimzoo.data.Objects`), corners x1, y1, x2, y2
        in pixels.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: broken files, a class that is not in `class_names`, a missing image, too many
            wrong boxes (see `mimzoo.data.boxes.BoxCheck`), no objects at all, or what `open_source`
            refuses.
    """
    name = os.fspath(spec)
    if name.startswith("tfds:"):
        from mimzoo.data.tfds_boxes import tfds_box_splits

        made = tfds_box_splits(name.removeprefix("tfds:"), class_names and tuple(class_names))
        return choose_split(made, name, split, holdout)
    files = stored_files(name)
    class_names = named_classes(files) if class_names is None else tuple(class_names)
    if any(suffix(file) == ".xml" and not is_hidden(file) for file in files.names):
        made = _voc_splits(files, name, class_names)
    else:
        made = _coco_splits(files, name, class_names)
    return choose_split(made, name, split, holdout)


Splits = dict[str, Callable[[], Source]]


# --- Pascal VOC -----------------------------------------------------------------------------------


def _voc_splits(files: Files, where: str, class_names: Sequence[str] | None) -> Splits:
    lists = listed_splits(files.names, files.read)
    known = lists.__contains__ if lists else None
    pairs = pair_files(files.names, where, *VOC_SIDES, _REMEDY, beside=True, known=known)
    if lists:
        if lacking := sorted(set(lists) - set(pairs)):
            raise BoxError(
                f"{printable(where)}: {len(lacking)} images that ImageSets/Main lists are missing, "
                f"such as {printable(lacking[0])}: add them, or remove them from the list"
            )
        splits: dict[str, list[Pair]] = {}
        for key, pair in pairs.items():
            splits.setdefault(lists[key], []).append(pair)
    else:
        splits = by_split(pairs)

    def opened(pairs: list[Pair]) -> BoxSource:
        parts = [pairs]
        if class_names is None and (trained := splits.get("train", pairs)) is not pairs:
            parts.append(trained)
        read = [_annotations(files.source([pair.target for pair in part])) for part in parts]
        names = class_names or sorted({text for one in read[-1] for text in one.names})
        number = {text: label for label, text in enumerate(names)}
        objects, sources = [], [pair.target for pair in pairs]
        for one, file in zip(read[0], sources, strict=True):
            for text in one.names:
                if text not in number:
                    raise unknown_class(text, names, file)
            labels = [number[text] for text in one.names]
            objects.append(Objects.of(one.boxes, labels, one.kinds))
        found = files.source([pair.image for pair in pairs])
        return checked(found, objects, names, [one.size for one in read[0]], sources, where)

    return {split: (lambda part=part: opened(part)) for split, part in splits.items()}


def _is_xml(name: str) -> bool:
    return suffix(name) == ".xml"


VOC_SIDES = Side(IMAGES, is_image_name, "image"), Side(MAPS, _is_xml, "XML file")


def _annotations(source: EncodedSource) -> list[Annotation]:
    with ThreadPoolExecutor(16) as pool:  # for what lies on a network
        return list(
            pool.map(lambda index: read_annotation(*source.encoded(index)), range(len(source)))
        )


# --- COCO -----------------------------------------------------------------------------------------


def _coco_splits(files: Files, where: str, class_names: Sequence[str] | None) -> Splits:
    splits = json_by_split(files.names, where)
    if not splits:
        raise BoxError(f"{printable(where)} has no boxes: {_REMEDY}")
    images = [name for name in files.names if is_image_name(name)]

    def opened(split: str, file: str) -> BoxSource:
        read = read_coco(files.read(file), file, class_names)
        found = files.source(locate(read.files, images, file, split, where))
        sources = [f"{file}, {image}" for image in read.files]
        return checked(found, read.objects, read.class_names, read.sizes, sources, where)

    return {key: (lambda key=key, file=file: opened(key, file)) for key, file in splits.items()}
