"""Shards: many tar files of samples, as webdataset and img2dataset write them, read at random."""

import glob
import hashlib
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mimzoo.data.fingerprint import hash_parts
from mimzoo.data.ids import printable
from mimzoo.data.images import ImageError
from mimzoo.data.open_files import FileChangedError, OpenFiles
from mimzoo.data.shard_build import chunks
from mimzoo.data.shard_index import ShardIndex, ShardSet, open_index
from mimzoo.data.shard_parts import kth_smallest, list_part, spread
from mimzoo.data.sources import Damage, EncodedSource, Source
from mimzoo.data.splits import splits_in
from mimzoo.data.tar_headers import BLOCK, member_name, member_size

logger = logging.getLogger("mimzoo.data")
PREFIX = "shards:"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_SPECIAL = re.compile(r"[{*?\[]")


class ShardSource(EncodedSource):
    """Images of a set of shards, or a part of them.

    What is kept of an image is the 16 bytes of the index (20 with labels), which are mapped from
    a file, and of a part the 4 bytes of the image's number, mapped likewise. Names are read from
    the shards when they are asked for.

    Args:
        index: of the shards.
        numbers: (M,) images of the part, or None for all.
        name: what messages call the source.
        rule: what the part was made by.
    """

    max_held_out = 50_000

    kind = "shards"

    def __init__(
        self, index: ShardIndex, numbers: np.ndarray | None, name: str, rule: str = ""
    ) -> None:
        super().__init__(name)
        self.index, self.numbers, self.rule = index, numbers, rule
        self.root = os.path.join(index.shards.base, index.shards.pattern)
        self.num_classes = index.num_classes
        self.damage = _damage(index)
        self._files = OpenFiles()

    def __len__(self) -> int:
        return len(self.index.records) if self.numbers is None else len(self.numbers)

    # === Images ===

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The file of image `index`, and its name with the shard's."""
        shard, record = self._place(index)
        path, size = self.index.shards.path(shard), int(record["size"])
        start = (int(record["block"]) - 1) * BLOCK
        # The header before the image has its name, and shows whether the index still holds.
        data = b""
        if start + BLOCK + size <= self.index.states[shard, 0]:
            data = self._read(shard, start, BLOCK + size)
        header = data[:BLOCK]
        try:
            holds = len(data) == BLOCK + size and member_size(header) == size
        except ValueError:
            holds = False
        if not holds:
            raise ImageError(f"{path} is not what it was when it was indexed; start again")
        return data[BLOCK:], f"{path}:{member_name(header)}"

    def example_name(self, index: int) -> str:
        """The image's path inside its shard; of a link in it, that of the image it leads to."""
        shard, record = self._place(index)
        return member_name(self._read(shard, (int(record["block"]) - 1) * BLOCK, BLOCK))

    def _place(self, index: int) -> tuple[int, np.void]:
        number = index if self.numbers is None else int(self.numbers[index])
        shard = int(np.searchsorted(self.index.starts, number, side="right")) - 1
        return shard, self.index.records[number]

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        path, index = self.index.shards.path(shard), self.index
        try:
            try:
                return self._files.read(path, offset, size, tuple(index.states[shard].tolist()))
            except FileChangedError as error:
                if not index.accept(shard, error.state):
                    raise ImageError(
                        f"{path} is not what it was when it was indexed; start again"
                    ) from None
                return self._files.read(path, offset, size)
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}") from error

    def fingerprint(self) -> str:
        """Of keys, sizes and labels of all images, and of the rule by which a part was chosen."""
        return hash_parts("shards", self.index.digest, self.rule)

    # === Labels ===

    @property
    def labelled(self) -> bool:
        """Whether every image has a label."""
        return self.num_classes is not None

    @property
    def labels(self) -> np.ndarray:
        """(N,) int32; of all shards a view of the index, of a part a copy."""
        if not self.labelled:
            if self.index.bad_label:
                raise ValueError(f"{self.name} has no labels: {self.index.bad_label}")
            raise ValueError(
                f"{self.name} has no labels; labels come from a file 0001.cls beside each "
                "0001.jpg, or from a field of its .json: 'shards:PATH#label=FIELD'"
            )
        labels = self.index.records["label"]
        return labels if self.numbers is None else labels[self.numbers]

    def _example(self, index: int, min_size: int | None) -> dict[str, Any]:
        example = {"image": self.image(index, min_size), "id": index}
        if self.labelled:
            example["label"] = int(self._place(index)[1]["label"])
        return example

    # === Parts ===

    def rank_chunks(self) -> Iterator[np.ndarray]:
        """The images' ranks in named subsets, in pieces."""
        if self.numbers is None:
            return (chunk["rank"] for _, chunk in chunks(self.index.records))
        ranks = self.index.records["rank"]
        return (ranks[numbers] for _, numbers in chunks(self.numbers))

    def key_chunks(self) -> Iterator[np.ndarray]:
        """Hashes of the images' keys that have nothing to do with the ranks, in pieces."""
        keys = self.index.keys()
        if self.numbers is None:
            return (spread(chunk) for _, chunk in chunks(keys))
        return (spread(keys[numbers]) for _, numbers in chunks(self.numbers))

    def lowest_ranks(self, count: int, name: str) -> "ShardSource":
        """The `count` images that come first in the order of named subsets."""

        def chosen() -> Iterator[np.ndarray]:
            limit = kth_smallest(self.rank_chunks, count)
            return (ranks <= limit for ranks in self.rank_chunks())

        return self._part(f"lowest {count}", name, chosen)

    def hold_out(self, share: float, validation: bool, name: str) -> "ShardSource":
        """One side of a division by the hashes of the keys, none of which is empty."""

        def chosen() -> Iterator[np.ndarray]:
            limit = np.uint64(int(share * 2**64))
            counts = [(hashes < limit).sum() for hashes in self.key_chunks()]
            if sum(counts) == 0:
                limit = kth_smallest(self.key_chunks, 1) + np.uint64(1)
            elif sum(counts) == len(self):
                limit = kth_smallest(self.key_chunks, len(self))
            return ((hashes < limit) == validation for hashes in self.key_chunks())

        side = "validation" if validation else "train"
        return self._part(f"{side} but for {share!r}", name, chosen)

    def _part(
        self, rule: str, name: str, chosen: Callable[[], Iterator[np.ndarray]]
    ) -> "ShardSource":
        rule = f"{self.rule}; {rule}"
        numbers = list_part(self.index, rule, self.numbers, chosen)
        return ShardSource(self.index, numbers, name, rule)

    def take(self, indices: np.ndarray, name: str) -> "ShardSource":
        """A part by number, whose list stays in memory: 4 bytes for each image."""
        indices = np.asarray(indices)
        if ((indices < 0) | (indices >= len(self))).any():
            raise ValueError(f"subset indices must lie in 0..{len(self) - 1} of {self.name}")
        kind = np.uint32 if len(self.index.records) < 2**32 else np.uint64
        numbers = (indices if self.numbers is None else self.numbers[indices]).astype(kind)
        rule = f"{self.rule}; {hashlib.sha256(numbers.tobytes()).hexdigest()}"
        return ShardSource(self.index, numbers, name, rule)


def shard_splits(spec: str) -> dict[str, Callable[[], Source]]:
    """The one split of a set of shards, after `expand`."""

    def opened() -> ShardSource:
        source = ShardSource(open_index(expand(spec)), None, spec)
        if source.damage:
            logger.warning("%s", source.damage)
        if source.index.bad_label:
            logger.warning("%s is read without labels: %s", spec, source.index.bad_label)
        return source

    return {"train": opened}


def expand(spec: str) -> ShardSet:
    """Which shards a path means; see `open_source`.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the path cannot be understood, or a folder has shards of several splits.
    """
    path, _, option = spec.removeprefix(PREFIX).partition("#")
    label = option.removeprefix("label=") if option.startswith("label=") else None
    if option and not label:
        raise ValueError(f"{spec}: after # only label=FIELD is understood, a field of the .json")
    path = os.path.abspath(os.path.expanduser(path))
    folder = os.path.isdir(path)
    if folder:
        path = os.path.join(glob.escape(path), "*.tar")
    elif os.path.isfile(path):
        path = glob.escape(path)
    special = _SPECIAL.search(path)
    base = os.path.dirname(path[: special.start()] if special else path)
    pattern = os.path.relpath(path, base)
    if _RANGE.search(pattern):
        names = _ranges(pattern)
        if not any(os.path.exists(os.path.join(base, name)) for name in names):
            raise FileNotFoundError(f"none of the {len(names)} shards {spec} is there")
    elif "{" in pattern:
        raise ValueError(f"{spec}: write a range of shards as {{00000..00999}}")
    else:
        names = sorted(glob.glob(pattern, root_dir=base, recursive=True))
        if not names:
            raise FileNotFoundError(f"no shards at {spec}: looked for {path}")
    if folder:
        _check_splits(names, spec)
    return ShardSet(base, names, pattern, label)


def _check_splits(names: list[str], spec: str) -> None:
    """Raises ValueError if the shards of a folder are of several splits, by their names."""
    kinds = {re.sub(r"\d+", "", name) for name in names}
    found = set().union(*map(splits_in, kinds))
    if len(found) > 1:
        raise ValueError(
            f"{spec} has shards of {' and '.join(sorted(found))}: name one split by a pattern, "
            f"such as {spec.rstrip('/')}/*train*.tar"
        )


def _ranges(pattern: str) -> list[str]:
    """`a{08..10}` -> a08, a09, a10; several ranges in all combinations, the last one fastest."""
    parts = _RANGE.split(pattern)
    texts, lows, highs = parts[::3], parts[1::3], parts[2::3]
    choices = []
    for low, high in zip(lows, highs, strict=True):
        if int(low) > int(high):
            raise ValueError(f"{pattern}: a range has to rise, not {{{low}..{high}}}")
        choices.append([f"{n:0{len(low)}}" for n in range(int(low), int(high) + 1)])
    found = []
    for chosen in itertools.product(*choices):
        pairs = zip(chosen, texts[1:], strict=True)
        found.append(texts[0] + "".join(number + text for number, text in pairs))
    return found


def _damage(index: ShardIndex) -> Damage | None:
    base, total = index.shards.base, len(index.shards.names)
    text, remedy, share = [], [], 0.0
    if index.problems:
        bad = len(index.problems)
        named = [f"{name} {reason}" for name, reason in list(index.problems.items())[:3]]
        text.append(
            f"{bad} of the {total} shards in {base} cannot be used whole: " + _few(named, bad)
        )
        remedy.append("fetch these shards again")
        share += bad / total
    if index.num_repeated:
        bad, all_ = index.num_repeated, index.num_repeated + len(index.records)
        text.append(
            f"{bad} of the {all_} images in {base} repeat the key of an earlier one and are left "
            "out: " + _few(index.repeated, bad)
        )
        remedy.append("give each image a key of its own")
        share += bad / all_
    if not text:
        return None
    return Damage(printable(", and ".join(text)), share, " and ".join(remedy))


def _few(shown: list[str], count: int) -> str:
    more = count - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
