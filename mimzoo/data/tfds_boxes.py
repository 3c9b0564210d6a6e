"""Boxes of TensorFlow Datasets: those with a feature "objects", such as coco and voc."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mimzoo.data.boxes import BoxError, BoxSource, checked
from mimzoo.data.coco_files import matched
from mimzoo.data.images import opened
from mimzoo.data.objects import COUNTED, CROWD, DIFFICULT, Objects
from mimzoo.data.sources import Source
from mimzoo.data.tfds import TfdsSource, prepared

_KINDS = {"is_crowd": CROWD, "is_difficult": DIFFICULT}


def tfds_box_splits(
    name: str, class_names: Sequence[str] | None
) -> dict[str, Callable[[], Source]]:
    """The splits of a prepared data set; opening one reads all of it, without decoding images.

    Args:
        name: of the data set.
        class_names: of the labels; default: the data set's.

    Raises:
        ImportError, FileNotFoundError, ValueError: as `mimzoo.data.tfds.prepared`; or it has no
            feature "objects" with "bbox" and "label".
    """
    builder, splits = prepared(name)
    features = builder.info.features
    if "objects" not in features or not {"bbox", "label"} <= set(features["objects"].feature):
        raise BoxError(f"tfds:{name} has no feature 'objects' with 'bbox' and 'label'")
    return {split: functools.partial(_opened, builder, split, class_names) for split in splits}


def _opened(builder: Any, split: str, class_names: Sequence[str] | None) -> BoxSource:
    images = TfdsSource(builder, split)
    own = builder.info.features["objects"].feature["label"].names
    names = tuple(class_names or own)
    number = matched(list(enumerate(own)), names, images.name)
    found, sizes = [], []
    for index, record in enumerate(images.undecoded()):
        with opened(record["image"], images.example_name(index)) as image:
            size = image.height, image.width
        objects = record["objects"]
        # Shares of the image's sides, y first.
        y1, x1, y2, x2 = np.asarray(objects["bbox"], np.float32).reshape(-1, 4).T
        tall, wide = size
        boxes = np.stack([x1 * wide, y1 * tall, x2 * wide, y2 * tall], axis=-1)
        labels = [number[int(label)] for label in objects["label"]]
        kinds = np.full(len(labels), COUNTED)
        for feature, kind in _KINDS.items():
            kinds[np.asarray(objects.get(feature, np.zeros(len(labels))), bool)] = kind
        found.append(Objects.of(boxes, labels, kinds))
        sizes.append(size)
    files = [f"{images.name}[{index}]" for index in range(len(images))]
    return checked(images, found, names, sizes, files, images.name)
