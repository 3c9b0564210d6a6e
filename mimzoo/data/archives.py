"""Images in a .tar file, read in place: nothing is ever extracted."""

import os
import posixpath
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mimzoo.data.fingerprint import hash_array, hash_parts
from mimzoo.data.folders import Listing, arrange
from mimzoo.data.formats import is_image_name
from mimzoo.data.ids import printable
from mimzoo.data.images import ImageError, check_size
from mimzoo.data.open_files import State, open_regular, state_of
from mimzoo.data.sources import EncodedSource, Source
from mimzoo.data.splits import split_of
from mimzoo.data.tar_headers import DamagedTarError, HeaderReader, follow_links

Place = tuple[int, int]


class TarSource(EncodedSource):
    """Images that are members of an uncompressed tar file.

    Every read opens the file again, so threads and worker processes may share the source.

    Args:
        path: the tar file.
        listing: which members.
        places: for each of them the offset and the size of its bytes.
        state: of the file when it was read; a file that was replaced since is refused.
        prefix: the folder that is common to all members and not part of their names.
        skipped: images in the file that are left out, and why.
    """

    kind = "tar"

    def __init__(
        self,
        path: str,
        listing: Listing,
        places: np.ndarray,
        state: State,
        prefix: str = "",
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        self.path = self.root = os.path.abspath(path)
        self.names = listing.names
        self.places = places
        self.state, self.prefix = state, prefix
        self.skipped = dict(skipped or {})
        super().__init__(os.path.basename(self.path), listing.labels, listing.class_names)

    def __len__(self) -> int:
        return len(self.names)

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The bytes of member `index`, and its name with the archive's."""
        offset, size = self.places[index].tolist()
        name = f"{self.path}:{self.names[index]}"
        check_size(size, name)
        try:
            with open_regular(self.path) as file:
                if state_of(file) != self.state and not self._holds():
                    raise ImageError(f"{self.path} was changed after it was opened; start again")
                file.seek(offset)
                return file.read(size), name
        except OSError as error:
            raise ImageError(f"{self.path} cannot be read: {error.strerror}") from error

    def _holds(self) -> bool:
        """Whether the file, with a new time of change as after `touch`, has the same members."""
        try:
            contents = read_contents(self.path)
        except ValueError:
            return False
        found = [contents.places.get(self.prefix + name) for name in self.names]
        if found != [tuple(place) for place in self.places.tolist()]:
            return False
        self.state = contents.state
        return True

    def example_name(self, index: int) -> str:
        """The member's path, without a folder that is common to all."""
        return self.names[index]

    def fingerprint(self) -> str:
        """Of the members' names and sizes."""
        return hash_parts("members", *self.names, hash_array(self.places[:, 1].astype("<i8")))


class Contents(NamedTuple):
    """What a tar file holds.

    Attributes:
        places: offset and size of each plain file, and of links to them.
        others: name -> reason, of what is neither.
        state: of the tar file.
    """

    places: dict[str, Place]
    others: dict[str, str]
    state: State


def tar_splits(path: str) -> dict[str, Callable[[], Source]]:
    """The splits of a tar file; its headers are read once, from front to end.

    Raises:
        ValueError: it is compressed, damaged, or no tar file, or has no images.
    """
    contents = read_contents(path)
    folder = _common_folder({n for n in contents.places if is_image_name(n)})
    places = {n.removeprefix(folder): place for n, place in contents.places.items()}
    others = {n.removeprefix(folder): reason for n, reason in contents.others.items()}
    listings, skipped = arrange(places, path, others)

    def opened(listing: Listing) -> TarSource:
        found = np.array([places[name] for name in listing.names], np.int64)
        return TarSource(path, listing, found, contents.state, folder, skipped)

    return {split: (lambda each=listing: opened(each)) for split, listing in listings.items()}


def read_contents(path: str) -> Contents:
    """All members of a tar file; links inside of it are followed.

    Raises:
        ValueError: it is compressed, damaged, or no tar file.
    """
    places: dict[str, Place] = {}
    links: dict[str, str] = {}
    others: dict[str, str] = {}
    try:
        with open_regular(path) as file:
            state = state_of(file)
            for name, start, size, kind, link in HeaderReader(file).members():
                # The last member of a name counts, as when a tar file is extracted.
                for known in (places, links, others):
                    known.pop(name, None)
                if kind == "file":
                    places[name] = start, size
                elif link is not None:
                    links[name] = link
                else:
                    others[name] = f"a {kind}, no plain file"
    except DamagedTarError as error:
        images = sum(map(is_image_name, places))
        raise ValueError(
            f"{printable(path)} {error} (images before that: {images}); it has to be a complete "
            "and uncompressed tar file: fetch or pack it again"
        ) from error
    for name, place in follow_links(links, places).items():
        if place is None:
            others[name] = f"a link to {links[name]}, which is not in the tar file"
        else:
            places[name] = place
    return Contents(places, others, state)


def _common_folder(names: set[str]) -> str:
    """The folders that all images lie in, down to the splits, with "/"; or ""."""
    if not names:
        return ""
    # The first and the last name have in common what all have.
    common = posixpath.commonpath([posixpath.dirname(end(names)) for end in (min, max)])
    parts = common.split("/") if common else []
    kept = next((n for n, part in enumerate(parts) if split_of(part)), len(parts))
    return "".join(f"{part}/" for part in parts[:kept])
