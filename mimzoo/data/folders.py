"""Folders of image files: which file is in which split and of which class."""

import logging
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from mimzoo.data.fingerprint import hash_parts
from mimzoo.data.formats import is_hidden, readable_suffixes, suffix, unreadable
from mimzoo.data.ids import printable
from mimzoo.data.images import read_file
from mimzoo.data.listing import list_files
from mimzoo.data.sources import EncodedSource, Source
from mimzoo.data.splits import check_split_folders, split_of

logger = logging.getLogger("mimzoo.data")
_SHOWN = 3


class Listing(NamedTuple):
    """The files of one split: relative paths, their labels and the classes' names, or None.

    `depth` is how many folders stand before that of the class.
    """

    names: list[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    depth: int = 0


class Arranged(NamedTuple):
    """What `arrange` found: a listing for each split, and name -> reason of what it left out."""

    listings: dict[str, Listing]
    skipped: dict[str, str]


class FileSource(EncodedSource):
    """Images in files below a folder.

    Args:
        root: the folder.
        listing: which files.
        skipped: images below the folder that are left out, and why.
    """

    kind = "folder"

    def __init__(
        self, root: str, listing: Listing, skipped: Mapping[str, str] | None = None
    ) -> None:
        self.root = os.path.abspath(root)
        self.names = listing.names
        self.skipped = dict(skipped or {})
        super().__init__(os.path.basename(self.root), listing.labels, listing.class_names)

    def __len__(self) -> int:
        return len(self.names)

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The bytes of file `index` and its path."""
        path = os.path.join(self.root, self.names[index])
        return read_file(path), path

    def example_name(self, index: int) -> str:
        """The file's path below the folder."""
        return self.names[index]

    def fingerprint(self) -> str:
        """Of the files' names below the folder and their sizes (-1: gone)."""

        def size(name: str) -> int:
            try:
                return os.stat(os.path.join(self.root, name)).st_size
            except OSError:
                return -1

        with ThreadPoolExecutor(16) as pool:  # for what lies on a network
            sizes = pool.map(size, self.names, chunksize=256)
            pairs = zip(self.names, sizes, strict=True)
            return hash_parts("files", *(part for n, s in pairs for part in (n, str(s))))


def folder_splits(root: str) -> dict[str, Callable[[], Source]]:
    """The splits of a folder; its files are listed once, in sorted order.

    Raises:
        ValueError: a folder that cannot be read, or what `arrange` refuses.
    """
    files, others = list_files(root)
    listings, skipped = arrange(files, os.fspath(root), others)
    return {
        split: (lambda listing=listing: FileSource(root, listing, skipped))
        for split, listing in listings.items()
    }


def arrange(names: Iterable[str], where: str, others: Mapping[str, str] | None = None) -> Arranged:
    """Finds splits and classes in the relative paths of files.

    If every image lies below a folder whose name means a split (see `splits`), perhaps inside of
    one folder that is common to all, these are the splits. Inside a split, or in the whole: if
    every image lies in one of two or more first-level subfolders, these are the classes, sorted
    by name; otherwise there are no labels.

    Args:
        names: relative paths with "/"; what is hidden or no image is left out.
        where: what errors call the folder.
        others: name -> reason, of what is no regular file; images among them are named.

    Returns:
        A listing for each split; {"train": ...} alone where there are no splits. One warning
        names what was left out.

    Raises:
        ValueError: no images; splits that are mixed up; a class that "train" does not have, or
            that has no image that can be read.
    """
    where = printable(where)
    readable = readable_suffixes()
    names = set(names)
    found, skipped = [], {}
    for name in {n for n in names if not is_hidden(n)}:
        if suffix(name) in readable:
            found.append(name)
        elif reason := unreadable(name):
            skipped[name] = reason
    for name, reason in (others or {}).items():
        if not is_hidden(name) and (suffix(name) in readable or unreadable(name)):
            skipped[name] = reason
    found.sort()
    if not found:
        tars = any(name.endswith(".tar") for name in names)
        looked = " (looked for .jpg, .png …)" + (f"; for its .tar: shards:{where}" if tars else "")
        raise ValueError(
            f"no images in {where}" + (f" that can be read: {_few(skipped)}" if skipped else looked)
        )
    arranged = Arranged(_splits(found, where), dict(sorted(skipped.items())))
    _check_classes(arranged, where)
    if skipped:
        logger.warning("%s: %d images are left out: %s", where, len(skipped), _few(skipped))
    lacking = _without_images(arranged.listings.values(), names, others or {})
    if lacking:
        logger.warning("%s: not every folder is a class: %s", where, _few(lacking))
    arranged.skipped.update(lacking)
    return arranged


def _without_images(
    listings: Iterable[Listing], names: Iterable[str], others: Mapping[str, str]
) -> dict[str, str]:
    """Folders beside those of the classes, with "/", and why they are none."""
    found: dict[str, str] = {}
    for listing in listings:
        if listing.labels is None:
            continue
        depth = listing.depth + 1
        classes = {"/".join(name.split("/", depth)[:depth]) for name in listing.names}
        parents = {name.rpartition("/")[0] for name in classes}
        for name in [*names, *others]:
            parts = name.split("/", depth)
            folder = "/".join(parts[:depth])
            if len(parts) <= depth or folder in classes or is_hidden(name):
                continue
            if folder.rpartition("/")[0] in parents:
                found[f"{folder}/"] = others.get(f"{folder}/", "it has no image")
    return found


def _splits(names: list[str], where: str) -> dict[str, Listing]:
    depth = 0
    while len(tops := _folders(names, depth)) == 1 and "" not in tops and not split_of(*tops):
        depth += 1
    splits = {top: split_of(top) for top in tops if split_of(top)}
    if len(splits) == len(tops):
        return _arrange_splits(names, depth, splits, where)
    for top in splits:
        inside = {_folder(name, depth + 1) for name in names if _folder(name, depth) == top}
        if split_of(top) == "train" and len(inside) > 1 and "" not in inside:
            beside = ", ".join(sorted(tops - set(splits))) or "images"
            raise ValueError(
                f"{where} has the folder {printable(top)} with folders in it, as of classes, and "
                f"beside it {printable(beside)}: name all splits train, validation and test, and "
                "move anything else away"
            )
    tops = _folders(names, 0)
    splits = {top: split_of(top) for top in tops if split_of(top)}
    if "train" in splits.values() and len(set(splits.values())) > 1:
        stray = next(name for name in names if _folder(name, 0) not in splits)
        raise ValueError(
            f"{where} has a folder for each split, but also {printable(stray)}; move it away"
        )
    check_split_folders(tops, where)
    inside = _folders(names, 1)
    means = {split_of(folder) for folder in inside}
    if "" not in tops and len(means) > 1 and None not in means:
        raise ValueError(
            f"{where} has the splits {', '.join(sorted(inside))} inside of each class; move them "
            "to the top: train/CLASS/image.jpg"
        )
    if len(tops) > 1 and "" not in tops:
        alike = {frozenset(_folder(n, 1) for n in names if _folder(n, 0) == top) for top in tops}
        if len(alike) == 1 and len(shared := next(iter(alike)) - {""}) > 1:
            logger.warning(
                "%s: the folders %s are taken for classes, but all of them hold the same (%s): if "
                "they are splits, name them train, validation and test",
                where,
                printable(", ".join(sorted(tops)[:_SHOWN])),
                printable(", ".join(sorted(shared)[:_SHOWN])),
            )
    return {"train": _classes(names, where)}


def _arrange_splits(
    names: list[str], depth: int, split: Mapping[str, str], where: str
) -> dict[str, Listing]:
    for name in set(split.values()):
        same = sorted(folder for folder, meaning in split.items() if meaning == name)
        if len(same) > 1:
            raise ValueError(f"{where} has both {' and '.join(same)}, which mean {name}; keep one")
    splits: dict[str, list[str]] = {}
    for name in names:
        splits.setdefault(split[_folder(name, depth)], []).append(name)
    depth += 1
    listings = {split: _classes(splits[split], where, depth) for split in sorted(splits)}
    train = listings.get("train")
    if train is None or train.class_names is None:
        return listings
    # Labels count the classes of "train", also where another split lacks one.
    number = {name: label for label, name in enumerate(train.class_names)}
    for split, listing in listings.items():
        folders = [_composed(_folder(name, depth)) for name in listing.names]
        strange = next((place for place, f in enumerate(folders) if f not in number), None)
        if strange is not None:
            below = folders[strange] or listing.names[strange].rpartition("/")[2]
            raise ValueError(
                f"{where}: {split} has {printable(below)}, which is no class of train "
                f"({len(train.class_names)} classes)"
            )
        labels = np.array([number[folder] for folder in folders], np.int32)
        listings[split] = Listing(listing.names, labels, train.class_names, depth)
    return listings


def _classes(names: list[str], where: str, depth: int = 0) -> Listing:
    folders = [_folder(name, depth) for name in names]
    known = sorted(set(folders) - {""})
    strays = [name for name, folder in zip(names, folders, strict=True) if not folder]
    if len(known) < 2 or strays:
        # One of a hundred would take the labels of all.
        if len(known) > 1 and 10 * len(strays) < len(names):
            logger.warning(
                "%s: no labels, as not every image lies in a folder of a class: %s does not",
                where,
                printable(strays[0]),
            )
        return Listing(names, None, None)
    class_names = tuple(map(_composed, known))
    if len(set(class_names)) < len(known):
        twice = next(name for name in class_names if class_names.count(name) > 1)
        raise ValueError(
            f"{where} has two folders {printable(twice)}, whose names differ in their bytes only "
            "(as macOS and Linux write accents): put their images into one"
        )
    number = {name: label for label, name in enumerate(known)}
    labels = np.array([number[folder] for folder in folders], np.int32)
    return Listing(names, labels, class_names, depth)


def _composed(name: str) -> str:
    """The same name on every system: macOS may store an accent apart from its letter."""
    return unicodedata.normalize("NFC", name)


def _check_classes(arranged: Arranged, where: str) -> None:
    """Raises ValueError if a class has images, but none of them can be read."""
    if not arranged.skipped:
        return
    read = {name.rpartition("/")[0] for each in arranged.listings.values() for name in each.names}
    labelled = any(listing.labels is not None for listing in arranged.listings.values())
    while more := {folder.rpartition("/")[0] for folder in read} - read:
        read |= more
    for name, reason in arranged.skipped.items():
        folder = name.rpartition("/")[0]
        if labelled and folder not in read:
            raise ValueError(
                f"{where}: no image in {printable(folder)} can be read, so a class would be "
                f"missing ({printable(name)}: {reason})"
            )


def _folder(name: str, depth: int) -> str:
    """The folder of a path at some depth, or "" where the file itself lies there or above."""
    parts = name.split("/", depth + 1)
    return parts[depth] if len(parts) > depth + 1 else ""


def _folders(names: list[str], depth: int) -> set[str]:
    return {_folder(name, depth) for name in names}


def _few(skipped: Mapping[str, str]) -> str:
    shown = [f"{name} ({reason})" for name, reason in sorted(skipped.items())[:_SHOWN]]
    more = len(skipped) - _SHOWN
    return printable("; ".join(shown)) + (f"; and {more} more" if more > 0 else "")
