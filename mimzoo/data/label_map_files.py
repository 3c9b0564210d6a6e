"""Opening folders and tar files of images and label PNGs."""

import itertools
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from mimzoo.data.archives import TarSource, read_contents
from mimzoo.data.folders import FileSource, Listing, list_files
from mimzoo.data.formats import is_hidden, is_image_name, suffix
from mimzoo.data.ids import printable
from mimzoo.data.images import read_file
from mimzoo.data.label_maps import IGNORED, LabelMapSource, count_numbers, decode_label_map
from mimzoo.data.opening import choose_split
from mimzoo.data.sources import EncodedSource, Source
from mimzoo.data.splits import split_of

IMAGES = ("images", "image", "imgs", "img")
MAPS = ("labels", "label", "annotations", "masks", "mask")
NAMES = "classes.txt"
_LARGE = 2**30
_FEW, _SEEN = 8, 1000


class Pair(NamedTuple):
    """The files of an example: an image, and its label map."""

    image: str
    map: str


class Files(NamedTuple):
    """What lies at a path: names of files, a source of some of them, and a file's bytes."""

    names: list[str]
    source: Callable[[list[str]], EncodedSource]
    read: Callable[[str], bytes]


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

    A folder or .tar file has `images/` and `labels/` (also annotations/ or masks/) with files of
    equal stems: `images/a/1.jpg` and `labels/a/1.png`. Folders train/, validation/ and test/, above
    or inside of the two, are the splits. Label maps are PNG files of grey values, or of a palette,
    whose indices count.

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
    files = _files(name)
    splits = pairs_by_split(files.names, name)
    if class_names is None and NAMES in {file.rpartition("/")[2] for file in files.names}:
        class_names = _class_names(files)
    if num_classes is None and class_names is not None:
        class_names = tuple(class_names)
        num_classes = len(class_names)
    if num_classes is None:
        maps = files.source(
            [pair.map for pair in splits.get("train") or next(iter(splits.values()))]
        )
        found = count_numbers(maps, lambda i: decode_label_map(*maps.encoded(i)))
        found[[IGNORED, ignore_index]] = 0
        num_classes = max(int(np.flatnonzero(found).max(initial=-1)) + 1 - first_class, 1)

    def opened(pairs: list[Pair]) -> LabelMapSource:
        images, maps = (files.source([pair[side] for pair in pairs]) for side in (0, 1))
        return LabelMapSource(images, maps, num_classes, ignore_index, first_class, class_names)

    made = {key: (lambda pairs=pairs: opened(pairs)) for key, pairs in splits.items()}
    return choose_split(made, name, split, holdout)


def has_label_maps(spec: object) -> bool:
    """Whether a path seems to hold images and label maps: cheap, also for very many images.

    A folder is known by the names of its folders, a .tar file of up to 1 GB by its members.
    """
    if not isinstance(spec, str | os.PathLike):
        return False
    path = os.path.expanduser(os.fspath(spec))
    if os.path.isdir(path):
        names = {name.lower() for name in _folders(path)}
        return bool(names & set(IMAGES)) and bool(names & set(MAPS))
    if not os.path.isfile(path) or os.path.getsize(path) > _LARGE:
        return False
    try:
        return bool(pairs_by_split(_files(path).names, path))
    except ValueError:
        return False


def _folders(path: str) -> list[str]:
    """Names of the folders in a folder and, where these are few, in those."""
    with os.scandir(path) as entries:
        inner = [entry for entry in entries if entry.is_dir()]
    names = [entry.name for entry in inner]
    for entry in inner if len(inner) <= _FEW else ():
        with os.scandir(entry.path) as entries:
            names += [one.name for one in itertools.islice(entries, _SEEN) if one.is_dir()]
    return names


def pairs_by_split(names: Iterable[str], where: str) -> dict[str, list[Pair]]:
    """The pairs of each split, sorted by name; {"train": …} alone where there are no splits.

    Args:
        names: relative paths with "/".
        where: what errors call the folder.

    Raises:
        ValueError: no pairs, or a file without its other half.
    """
    images, maps = {}, {}
    for name in sorted(names):
        folder, _, file = name.rpartition("/")
        parts = folder.split("/")
        kinds = [(place, part.lower()) for place, part in enumerate(parts)]
        for kind, found in ((IMAGES, images), (MAPS, maps)):
            place = next((place for place, part in reversed(kinds) if part in kind), None)
            fits = suffix(file) == ".png" if found is maps else is_image_name(file)
            if place is None or not fits or is_hidden(name):
                continue
            stem = file[: file.rfind(".")]
            key = "/".join([*parts[:place], *parts[place + 1 :], stem])
            if key in found:
                raise ValueError(f"{printable(where)}: {found[key]} and {name} have one name")
            found[key] = name
            break
    if not images or not maps:
        raise ValueError(
            f"{printable(where)} has no label maps: put images into images/ and PNG files of the "
            "same names into labels/"
        )
    for one, other, what in ((images, maps, "label map"), (maps, images, "image")):
        if alone := sorted(set(one) - set(other)):
            raise ValueError(
                f"{printable(where)}: {len(alone)} files have no {what}, such as "
                f"{printable(one[alone[0]])}: add it, or move them away"
            )
    splits: dict[str, list[Pair]] = {}
    for key in sorted(images):
        meant = [split_of(part) for part in key.split("/")[:-1]]
        split = next(filter(None, meant), "train")
        splits.setdefault(split, []).append(Pair(images[key], maps[key]))
    return splits


def _files(name: str) -> Files:
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        names, _ = list_files(path)
        return Files(
            names,
            lambda names: FileSource(path, Listing(names, None, None)),
            lambda name: read_file(os.path.join(path, name)),
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no folder or .tar file at {name}")
    contents = read_contents(path)

    def source(names: list[str]) -> TarSource:
        places = np.array([contents.places[name] for name in names], np.int64)
        return TarSource(path, Listing(names, None, None), places, contents.state)

    return Files(sorted(contents.places), source, lambda name: source([name]).encoded(0)[0])


def _class_names(files: Files) -> tuple[str, ...]:
    path = min((n for n in files.names if n.rpartition("/")[2] == NAMES), key=len)
    text = files.read(path).decode("utf-8", "replace")
    return tuple(line.strip() for line in text.splitlines() if line.strip())
