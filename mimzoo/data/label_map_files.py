"""Opening folders and tar files of images and label PNGs."""

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mimzoo.data.formats import is_image_name, suffix
from mimzoo.data.images import ImageError
from mimzoo.data.label_maps import (
    IGNORED,
    LabelMapError,
    LabelMapSource,
    class_table,
    decode_label_map,
)
from mimzoo.data.opening import choose_split
from mimzoo.data.pairs import Pair, Side, by_split, named_classes, pair_files, stored_files
from mimzoo.data.sources import Source

IMAGES = ("images", "image", "imgs", "img", "jpegimages")
MAPS = ("labels", "label", "annotations", "masks", "mask")
_LARGE = 2**30
_FEW, _SEEN, _LOOK = 8, 1000, 16
# Numbers up to the greatest for each that occurs: masks of 0 and 128 are no 129 classes.
_SPARSE = 8


def open_label_maps(
    spec: str | os.PathLike,
    split: str = "train",
    num_classes: int | None = None,
    *,
    ignore_index: int = IGNORED,
    first_class: int = 0,
    class_names: Iterable[str] | None = None,
    holdout: float | None = None,
) -> Source:
    """Opens images with label maps.

    A folder or .tar file has `images/` (or JPEGImages/) and `labels/` (also annotations/ or masks/)
    with files of equal stems: `images/a/1.jpg` and `labels/a/1.png`. Folders train/, validation/
    and test/, above or inside of the two, are the splits. Label maps are PNG files of grey values,
    or of a palette, whose indices count.

    Args:
        spec: the path of the folder or .tar file.
        split, holdout: as in `mimzoo.data.open_source`.
        num_classes: default: that of `classes.txt` (one name a line) beside the folders, else one
            more than the largest number of all label maps of "train", which are read for it.
        ignore_index: a number that means no class; 255 always does.
        first_class: the number of class 0; smaller ones mean no class. ADE20K's files have 1.
        class_names: default: those of `classes.txt`.

    Returns:
        A source whose images are (H, W, 4) uint8: red, green, blue and class.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: no such folders, an image without a label map or the other way round, or what
            `open_source` refuses.
    """
    name = os.fspath(spec)
    files = stored_files(name)
    splits = pairs_by_split(files.names, name)
    if class_names is None:
        class_names = named_classes(files)
    if num_classes is None and class_names is not None:
        class_names = tuple(class_names)
        num_classes = len(class_names)
    if num_classes is None:
        maps = files.source(
            [pair.target for pair in splits.get("train") or next(iter(splits.values()))]
        )
        found = _count(range(len(maps)), lambda i: decode_label_map(*maps.encoded(i)))
        found[class_table(IGNORED, ignore_index) == IGNORED] = 0
        numbers = np.flatnonzero(found)
        num_classes = max(int(numbers.max(initial=-1)) + 1 - first_class, 1)
        if num_classes > _SPARSE * len(numbers):
            raise LabelMapError(
                f"{name}: of the numbers 0 to {numbers[-1]} the label maps hold "
                f"{', '.join(map(str, numbers))} alone: number classes 0, 1, 2, …, or give "
                f"num_classes={num_classes}"
            )

    def opened(pairs: list[Pair]) -> LabelMapSource:
        images, maps = (files.source([pair[side] for pair in pairs]) for side in (0, 1))
        return LabelMapSource(images, maps, num_classes, ignore_index, first_class, class_names)

    made = {key: (lambda pairs=pairs: opened(pairs)) for key, pairs in splits.items()}
    return choose_split(made, name, split, holdout)


def check_learnable(source: Source) -> None:
    """Raises LabelMapError unless the pixels of a source belong to two classes or more.

    Masks of 0 and 255 would train without a word: 255 is no class. A few examples are read, all
    only where these have a single class.
    """

    def classes(index: int) -> np.ndarray:
        try:
            return source.image(index)[..., 3]
        except ImageError:  # which whoever trains on it meets
            return np.zeros(0, np.uint8)

    for step in (max(1, len(source) // _LOOK), 1):
        counts = _count(range(0, len(source), step), classes)
        found = np.flatnonzero(counts[:IGNORED])
        if len(found) > 1:
            return
    kinds = [f"class {number}" for number in found]
    kinds += ["no class (255, ignore_index)"] if counts[IGNORED] else []
    raise LabelMapError(
        f"{source.name}: all pixels are of {' or '.join(kinds)}, so there is nothing to learn: "
        "classes are numbered 0, 1, 2, …"
    )


def _count(indices: Sequence[int], read: Callable[[int], np.ndarray]) -> np.ndarray:
    """(256,) how many pixels of these label maps have each number; read by 16 threads."""

    def count(index: int) -> np.ndarray:
        return np.bincount(read(index).reshape(-1), minlength=256)

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(count, indices), np.zeros(256, np.int64))


def has_label_maps(spec: object) -> bool:
    """Whether a path seems to hold images and label maps: cheap, also for very many images.

    A folder is known by its folders and the first files in them, a .tar file of up to 1 GB by its
    members.
    """
    if not isinstance(spec, str | os.PathLike):
        return False
    path = os.path.expanduser(os.fspath(spec))
    if os.path.isdir(path):
        return annotated_by(path, _is_png)
    if not os.path.isfile(path) or os.path.getsize(path) > _LARGE:
        return False
    try:
        return bool(pairs_by_split(stored_files(path).names, path))
    except ValueError:
        return False


def annotated_by(path: str, fits: Callable[[str], bool]) -> bool:
    """Whether a folder has one of images, and beside it one of annotations whose files fit."""
    folders = {folder: os.path.basename(folder).lower() for folder in _folders(path)}
    if not set(folders.values()) & set(IMAGES):
        return False
    maps = [folder for folder, name in folders.items() if name in MAPS]
    return any(
        fits(name)
        for folder in maps
        for name in itertools.islice(
            (name for _, _, names in os.walk(folder) for name in names), _SEEN
        )
    )


def _folders(path: str) -> list[str]:
    """The folders in a folder and, where these are few, in those."""
    with os.scandir(path) as entries:
        inner = [entry.path for entry in entries if entry.is_dir()]
    found = list(inner)
    for folder in inner if len(inner) <= _FEW else ():
        with os.scandir(folder) as entries:
            found += [one.path for one in itertools.islice(entries, _SEEN) if one.is_dir()]
    return found


def pairs_by_split(names: Iterable[str], where: str) -> dict[str, list[Pair]]:
    """The pairs of each split, sorted by name; {"train": …} alone where there are no splits.

    Args:
        names: relative paths with "/".
        where: what errors call the folder.

    Raises:
        ValueError: no pairs, or a file without its other half.
    """
    remedy = "put images into images/ and PNG files of the same names into labels/"
    return by_split(pair_files(names, where, *SIDES, remedy))


def _is_png(name: str) -> bool:
    return suffix(name) == ".png"


SIDES = Side(IMAGES, is_image_name, "image"), Side(MAPS, _is_png, "label map")
