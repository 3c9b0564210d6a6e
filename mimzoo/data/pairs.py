"""Folders and tar files with two files for each example, such as an image and its label map."""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from mimzoo.data.archives import TarSource, read_contents
from mimzoo.data.folders import FileSource, Listing, list_files
from mimzoo.data.formats import is_hidden
from mimzoo.data.ids import printable
from mimzoo.data.images import read_file
from mimzoo.data.sources import EncodedSource
from mimzoo.data.splits import split_of

NAMES = "classes.txt"


class Pair(NamedTuple):
    """The files of an example: an image, and what is known of it."""

    image: str
    target: str


class Side(NamedTuple):
    """One of the two kinds of files.

    Attributes:
        folders: lower-case names of the folders that hold them.
        fits: whether a file may be one, by its name.
        what: what errors call it.
    """

    folders: tuple[str, ...]
    fits: Callable[[str], bool]
    what: str


class Files(NamedTuple):
    """What lies at a path: names of files, a source of some of them, and a file's bytes."""

    names: list[str]
    source: Callable[[list[str]], EncodedSource]
    read: Callable[[str], bytes]


def stored_files(name: str) -> Files:
    """All files of a folder or .tar file.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: a folder that cannot be read, or a damaged tar file.
    """
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
        places = np.array([contents.places[name] for name in names], np.int64).reshape(-1, 2)
        return TarSource(path, Listing(names, None, None), places, contents.state)

    return Files(sorted(contents.places), source, lambda name: source([name]).encoded(0)[0])


def named_classes(files: Files) -> tuple[str, ...] | None:
    """The lines of `classes.txt`, if there is one.

    Raises:
        ValueError: a blank line before the last name.
    """
    found = [name for name in files.names if name.rpartition("/")[2] == NAMES]
    if not found:
        return None
    file = min(found, key=len)
    text = files.read(file).decode("utf-8-sig", "replace")  # Windows writes a byte order mark
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if "" in names:
        number = names.index("")
        raise ValueError(
            f"{printable(file)}: line {number + 1} is blank, so class {number} has no name: write "
            "one, or remove the line"
        )
    return names


def pair_files(
    names: Iterable[str],
    where: str,
    images: Side,
    targets: Side,
    remedy: str,
    beside: bool = False,
    known: Callable[[str], bool] | None = None,
) -> dict[str, Pair]:
    """Pairs files whose paths are equal but for the folder of their kind and the suffix.

    Args:
        names: relative paths with "/"; what is hidden or neither kind is left out.
        where: what errors call the folder.
        images: the images.
        targets: the other files.
        remedy: what to do where there are no pairs, for an error.
        beside: whether files that are in no folder of their kind count, where none is in one.
        known: keys of other pairs are left out.

    Returns:
        key -> pair, sorted by key: the path without folder of the kind and suffix.

    Raises:
        ValueError: no pairs, or a file without its other half.
    """
    found = matched_files(names, where, images, targets, beside, known)
    one, two = found
    if not one or not two:
        raise ValueError(f"{printable(where)} has no {targets.what}s: {remedy}")
    for those, others, side in ((one, two, targets), (two, one, images)):
        if alone := sorted(set(those) - set(others)):
            raise ValueError(
                f"{printable(where)}: {len(alone)} files have no {side.what}, such as "
                f"{printable(those[alone[0]])}: add it, or move them away"
            )
    return {key: Pair(one[key], two[key]) for key in sorted(one)}


def matched_files(
    names: Iterable[str],
    where: str,
    images: Side,
    targets: Side,
    beside: bool = False,
    known: Callable[[str], bool] | None = None,
) -> list[dict[str, str]]:
    """The files of both kinds by their key, with or without the other half; see `pair_files`.

    Raises:
        ValueError: two files of one kind with one key.
    """
    names = [name for name in sorted(names) if not is_hidden(name)]
    taken: set[str] = set()
    found = []
    for side, other in ((images, targets), (targets, images)):
        keys = [(_key(name, side.folders), name) for name in names if name not in taken]
        if beside and not any(key and side.fits(name) for key, name in keys):
            keys = [(_key(name, other.folders) or _stem(name), name) for _, name in keys]
        files: dict[str, str] = {}
        for key, name in keys:
            if key is None or not side.fits(name) or (known is not None and not known(key)):
                continue
            if key in files:
                raise ValueError(f"{printable(where)}: {files[key]} and {name} have one name")
            files[key] = name
        taken |= set(files.values())
        found.append(files)
    return found


def by_split(pairs: dict[str, Pair]) -> dict[str, list[Pair]]:
    """Pairs by the folder of their key that means a split; {"train": …} alone without any."""
    splits: dict[str, list[Pair]] = {}
    for key, pair in pairs.items():
        meant = [split_of(part) for part in key.split("/")[:-1]]
        splits.setdefault(next(filter(None, meant), "train"), []).append(pair)
    return splits


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file[: file.rfind(".")]


def _key(name: str, folders: tuple[str, ...]) -> str | None:
    """The path without its last folder of these names, and without suffix; None without one."""
    parts = name.split("/")
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() in folders]
    if not places:
        return None
    return _stem("/".join([*parts[: places[-1]], *parts[places[-1] + 1 :]]))
