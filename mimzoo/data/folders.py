"""Folders of image files: which file is in which split and of which class."""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from mimzoo.data.images import EXTENSIONS, read_file
from mimzoo.data.sources import EncodedSource, Source

_SPLIT_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


class Listing(NamedTuple):
    """The files of one split: relative paths, their labels and the classes' names, or None."""

    names: list[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None


class FileSource(EncodedSource):
    """Images in files below a folder.

    Args:
        root: the folder.
        listing: which files.
    """

    def __init__(self, root: str, listing: Listing) -> None:
        self.root = os.path.abspath(root)
        self.names = listing.names
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


def folder_splits(root: str) -> dict[str, Callable[[], Source]]:
    """The splits of a folder; its files are listed once, in sorted order."""
    listings = arrange(_walk(root), os.fspath(root))
    return {
        split: (lambda listing=listing: FileSource(root, listing))
        for split, listing in listings.items()
    }


def _walk(root: str) -> list[str]:
    """Paths of all files below `root`, relative and with "/"; links are followed once."""
    found, seen = [], set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        found += [file if below == "." else f"{below}/{file}" for file in files]
    return found


def is_image_name(name: str) -> bool:
    """Whether a relative path ends like an image and no part of it is hidden."""
    return name.lower().endswith(EXTENSIONS) and not any(
        part.startswith(".") or part == "__MACOSX" for part in name.split("/")
    )


def arrange(names: Iterable[str], where: str) -> dict[str, Listing]:
    """Finds splits and classes in the relative paths of files.

    If every image lies below a folder train, val, validation or test, these are the splits.
    Inside a split, or in the whole: if every image lies in one of two or more first-level
    subfolders, these are the classes, sorted by name; otherwise there are no labels.

    Args:
        names: relative paths with "/"; what is hidden or no image is left out.
        where: what errors call the folder.

    Returns:
        A listing for each split; {"train": ...} alone where there are no splits.

    Raises:
        ValueError: no images; images beside the splits; a class that "train" does not have.
    """
    names = sorted({name for name in names if is_image_name(name)})
    if not names:
        raise ValueError(f"no images in {where} (looked for files that end in {_endings()})")
    tops = {_top(name) for name in names}
    if tops <= set(_SPLIT_NAMES):
        return _arrange_splits(names, where)
    if "train" in tops and tops & {"val", "validation", "test"}:
        stray = next(name for name in names if _top(name) not in _SPLIT_NAMES)
        raise ValueError(f"{where} has a folder for each split, but also {stray}; move it away")
    return {"train": _classes(names)}


def _arrange_splits(names: list[str], where: str) -> dict[str, Listing]:
    splits: dict[str, list[str]] = {}
    if {"val", "validation"} <= {_top(name) for name in names}:
        raise ValueError(f"{where} has both val and validation; keep one")
    for name in names:
        splits.setdefault(_SPLIT_NAMES[_top(name)], []).append(name)
    listings = {split: _classes(splits[split], depth=1) for split in sorted(splits)}
    train = listings.get("train")
    if train is None or train.class_names is None:
        return listings
    # Labels count the classes of "train", also where another split lacks one.
    for split, listing in listings.items():
        folders = [name.split("/")[1] for name in listing.names]
        strange = [
            f
            for f, name in zip(folders, listing.names, strict=True)
            if name.count("/") < 2 or f not in train.class_names
        ]
        if strange:
            raise ValueError(
                f"{where}: {split} has {strange[0]}, which is no class of train "
                f"({len(train.class_names)} classes)"
            )
        number = {name: label for label, name in enumerate(train.class_names)}
        labels = np.array([number[folder] for folder in folders], np.int32)
        listings[split] = Listing(listing.names, labels, train.class_names)
    return listings


def _classes(names: list[str], depth: int = 0) -> Listing:
    folders = [name.split("/")[depth] for name in names]
    class_names = tuple(sorted(set(folders)))
    if len(class_names) < 2 or any(name.count("/") <= depth for name in names):
        return Listing(names, None, None)
    number = {name: label for label, name in enumerate(class_names)}
    return Listing(names, np.array([number[f] for f in folders], np.int32), class_names)


def _top(name: str) -> str:
    return name.split("/")[0] if "/" in name else ""


def _endings() -> str:
    return ", ".join(EXTENSIONS)
