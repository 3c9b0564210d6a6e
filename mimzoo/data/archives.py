"""Images in a .tar file, read in place: nothing is ever extracted."""

import os
import tarfile
from collections.abc import Callable

import numpy as np

from mimzoo.data.folders import Listing, arrange
from mimzoo.data.sources import EncodedSource, Source


class TarSource(EncodedSource):
    """Images that are members of an uncompressed tar file.

    Every read opens the file anew, so threads and worker processes may share the source.

    Args:
        path: the tar file.
        listing: which members.
        places: for each of them the offset and the size of its bytes.
    """

    def __init__(self, path: str, listing: Listing, places: np.ndarray) -> None:
        self.path = os.path.abspath(path)
        self.names = listing.names
        self.places = places
        super().__init__(os.path.basename(self.path), listing.labels, listing.class_names)

    def __len__(self) -> int:
        return len(self.names)

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The bytes of member `index`, and its name with the archive's."""
        offset, size = self.places[index].tolist()
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(size), f"{self.path}:{self.names[index]}"

    def example_name(self, index: int) -> str:
        """The member's path, without a folder that is common to all."""
        return self.names[index]


def tar_splits(path: str) -> dict[str, Callable[[], Source]]:
    """The splits of a tar file; its headers are read once, from front to end.

    Raises:
        ValueError: it is compressed, damaged, or no tar file, or has no images.
    """
    places = _index(path)
    listings = arrange(places, path)

    def opened(listing: Listing) -> TarSource:
        return TarSource(path, listing, np.array([places[name] for name in listing.names]))

    return {split: (lambda each=listing: opened(each)) for split, listing in listings.items()}


def _index(path: str) -> dict[str, tuple[int, int]]:
    """Offset and size of each plain file in the archive; links and devices are passed over."""
    places = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    parts = [part for part in member.name.split("/") if part not in ("", ".")]
                    places["/".join(parts)] = (member.offset_data, member.size)
                archive.members.clear()  # tarfile keeps every header, which are many here
    except tarfile.TarError as error:
        raise ValueError(
            f"{path} cannot be read as a tar file ({error}); it has to be complete and uncompressed"
        ) from error
    return _without_common_folder(places)


def _without_common_folder(places: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    from mimzoo.data.folders import _SPLIT_NAMES, is_image_name

    places = {name: place for name, place in places.items() if is_image_name(name)}
    while True:
        tops = {name.split("/")[0] for name in places if "/" in name}
        flat = any("/" not in name for name in places)
        if flat or len(tops) != 1 or tops <= set(_SPLIT_NAMES):
            return places
        places = {name.split("/", 1)[1]: place for name, place in places.items()}
