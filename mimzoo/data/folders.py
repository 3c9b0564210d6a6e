"""Folders of image files: which file is in which split and of which class."""

import logging
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from mimzoo.data.fingerprint import hash_parts
from mimzoo.data.formats import is_hidden, readable_suffixes, suffix, unreadable
from mimzoo.data.ids import printable
from mimzoo.data.images import read_file
from mimzoo.data.sources import EncodedSource, Source
from mimzoo.data.splits import check_split_folders, split_of

logger = logging.getLogger("mimzoo.data")
_SHOWN = 3


class Listing(NamedTuple):
    """The files of one split: relative paths, their labels and the classes' names, or None."""

    names: list[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None


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


def list_files(root: str) -> tuple[list[str], dict[str, str]]:
    """Paths of all files below a folder, relative and with "/"; links are followed once.

    Returns:
        The regular files, and name -> reason of anything else that is no folder. What is hidden
        is left out.

    Raises:
        ValueError: a folder that cannot be read: what is in it would be missing.
    """
    found, others, seen = [], {}, set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = os.path.join(root, below) if below else root
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            raise ValueError(
                f"the folder {printable(os.fspath(folder))} cannot be read ({error.strerror}): "
                "allow reading it, or move it away"
            ) from error
        subfolders = []
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                subfolders.append(name)
            elif _is_regular(entry):
                found.append(name)
            else:
                others[name] = _what(entry.path)
        waiting += reversed(subfolders)
    return found, others


def _is_regular(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _what(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"a link that cannot be followed: {error.strerror}"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket, no regular file"


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
        raise ValueError(
            f"no images in {where}"
            + (f" that can be read: {_few(skipped)}" if skipped else " (looked for .jpg, .png …)")
        )
    arranged = Arranged(_splits(found, where), dict(sorted(skipped.items())))
    _check_classes(arranged, where)
    if skipped:
        logger.warning("%s: %d images are left out: %s", where, len(skipped), _few(skipped))
    return arranged


def _splits(names: list[str], where: str) -> dict[str, Listing]:
    depth = 0
    while len(tops := _folders(names, depth)) == 1 and "" not in tops and not split_of(*tops):
        depth += 1
    splits = {top: split_of(top) for top in tops if split_of(top)}
    if len(splits) == len(tops):
        return _arrange_splits(names, depth, splits, where)
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
    return {"train": _classes(names)}


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
    listings = {split: _classes(splits[split], depth) for split in sorted(splits)}
    train = listings.get("train")
    if train is None or train.class_names is None:
        return listings
    # Labels count the classes of "train", also where another split lacks one.
    number = {name: label for label, name in enumerate(train.class_names)}
    for split, listing in listings.items():
        folders = [_folder(name, depth) for name in listing.names]
        strange = next((place for place, f in enumerate(folders) if f not in number), None)
        if strange is not None:
            below = folders[strange] or listing.names[strange].rpartition("/")[2]
            raise ValueError(
                f"{where}: {split} has {printable(below)}, which is no class of train "
                f"({len(train.class_names)} classes)"
            )
        labels = np.array([number[folder] for folder in folders], np.int32)
        listings[split] = Listing(listing.names, labels, train.class_names)
    return listings


def _classes(names: list[str], depth: int = 0) -> Listing:
    folders = [_folder(name, depth) for name in names]
    class_names = tuple(sorted(set(folders)))
    if len(class_names) < 2 or "" in class_names:
        return Listing(names, None, None)
    number = {name: label for label, name in enumerate(class_names)}
    return Listing(names, np.array([number[f] for f in folders], np.int32), class_names)


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
