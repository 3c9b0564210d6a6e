"""The index of a set of shards: a record for each image, in a file that is mapped, not read.

It lies beside the shards, in `.mimzoo`, or in mimzoo's cache folder if that cannot be written to:
`examples-*.npy`, 16 bytes for each image (20 with a label); `keys-*.npy`, 8 bytes, read only to
build and to divide; `shards.json`, which says what belongs together and is written last.
"""

import contextlib
import hashlib
import json
import logging
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mimzoo.cache_folder import cache_folder
from mimzoo.data.ids import printable
from mimzoo.data.npy_files import mapped
from mimzoo.data.open_files import State
from mimzoo.data.shard_build import Shard, build, record_type
from mimzoo.data.shard_scan import scan

logger = logging.getLogger("mimzoo.data")
_FORMAT = 2
_MISSING = (-1, -1)
_TEXT = str | None
# What `shards.json` has to hold, besides the format and the shards.
_TABLE = {
    "token": str,
    "problems": dict,
    "bad_label": _TEXT,
    "num_repeated": int,
    "repeated": list,
    "same_id": _TEXT,
    "num_classes": int | None,
    "digest": str,
}


@dataclass(frozen=True)
class ShardSet:
    """Which shards: what `expand` in `mimzoo.data.shards` makes of a path.

    Attributes:
        base: the folder that all lie below.
        names: paths of the shards below it, sorted; some may be missing.
        pattern: what they were found by, which names the index.
        label_field: of each sample's .json, or None.
    """

    base: str
    names: Sequence[str]
    pattern: str
    label_field: str | None = None

    def path(self, number: int) -> str:
        """Where a shard lies."""
        return os.path.join(self.base, self.names[number])

    def folders(self) -> list[Path]:
        """Where its index may lie: beside the shards, or in the cache."""
        own = [self.pattern, self.label_field]
        beside = Path(self.base) / ".mimzoo" / _digest(own)
        return [beside, cache_folder() / "shards" / _digest([self.base, *own])]


@dataclass
class ShardIndex:
    """An opened index.

    Attributes:
        shards: the set that it is of.
        folder: where it lies.
        token: its name, another one for each state of the shards.
        starts: (S + 1,) number of the first image of each shard, and of all.
        problems: shard -> what is wrong with it.
        num_repeated: images that were left out, since an earlier one has their key.
        repeated: a few of them, by name.
        same_id: two images of one id, which named subsets do not allow, or None.
        num_classes: one more than the greatest label, or None if there are none.
        bad_label: why there are none although some images have one, or None.
        states: (S, 2) size in bytes and time of change of each shard; (-1, -1): missing.
        digest: a fingerprint of the images' keys, sizes and labels.
        records: (N,) rank, block, size, perhaps label; mapped.
    """

    shards: ShardSet
    folder: Path
    token: str
    starts: np.ndarray
    problems: dict[str, str]
    num_repeated: int
    repeated: list[str] = field(default_factory=list)
    same_id: str | None = None
    num_classes: int | None = None
    bad_label: str | None = None
    states: np.ndarray = field(default=None, repr=False)
    digest: str = ""
    records: np.ndarray = field(init=False, repr=False)

    def __getstate__(self) -> dict:
        return {**vars(self), "records": None}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self.records = self._mapped("examples")

    def keys(self) -> np.ndarray:
        """(N,) hashes of the images' keys; mapped."""
        return self._mapped("keys")

    def accept(self, shard: int, state: State) -> bool:
        """Whether a shard with a new time of change, as after `touch`, has the same images.

        Args:
            shard: its number.
            state: its present one, kept if the images are the same.
        """
        first, last = self.starts[shard : shard + 2]
        names = ["rank", "block", "size"]
        present = scan(self.shards.path(shard), None).records[names]
        if self.num_repeated or len(present) != last - first:
            return False
        if not (present == self.records[names][first:last]).all():
            return False
        self.states[shard] = state
        return True

    def _mapped(self, kind: str) -> np.ndarray:
        return mapped(self.folder / f"{kind}-{self.token}.npy")


def open_index(shards: ShardSet) -> ShardIndex:
    """The index of these shards; built where there is none, brought up to date where they changed.

    Several processes may ask at once: one builds, the others wait. A damaged index counts as none.

    Raises:
        ValueError: there are no images.
        OSError: the index can be written neither beside the shards nor into the cache.
    """
    found = _stat(shards)
    folders = shards.folders()
    for folder in folders:
        table = _read(folder)
        if table and _states(table) == found:
            return _opened(shards, folder, table)
    failed = []
    for folder in folders:
        try:
            return _opened(shards, folder, _built(shards, folder, found))
        except OSError as error:
            failed.append(f"{folder} ({error.strerror or error})")
    raise OSError(
        f"the index of the shards can be written neither to {' nor to '.join(failed)}; "
        "set MIMZOO_CACHE to a folder with free space"
    )


def _built(shards: ShardSet, folder: Path, found: dict[str, tuple[int, int]]) -> dict:
    """The table of an index that was brought up to date in this folder."""
    _check_writable(folder)
    with _locked(folder):
        table = _read(folder)
        if table and _states(table) == found:
            return table
        kept = table["token"] if table else None
        old = _old(folder, table) if table else {}
        wanted = [
            Shard(name, shards.path(n), *found[name], old.get(name))
            for n, name in enumerate(shards.names)
        ]
        try:
            table = {"format": _FORMAT, **build(folder, wanted, shards.label_field)}
            _commit(folder, table)
        except OSError:  # a full disk, as a rule: leave nothing on it
            _tidy(folder, kept)
            raise
        return table


def write_whole(path: Path, write: Any) -> None:
    """Calls `write` with a binary file that gets its name only when it is complete."""
    temporary = path.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def parts_folder(index: ShardIndex) -> Path | None:
    """Where lists of parts of this index are kept; None if nowhere can be written to."""
    for folder in (index.folder, *index.shards.folders()):
        with contextlib.suppress(OSError):
            _check_writable(folder)
            (folder / "parts").mkdir(exist_ok=True)
            return folder / "parts"
    return None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _stat(shards: ShardSet) -> dict[str, tuple[int, int]]:
    """Size and time of change of each shard, in order."""

    def one(number: int) -> tuple[int, int]:
        try:
            status = os.stat(shards.path(number))
        except FileNotFoundError:
            return _MISSING
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{printable(shards.path(number))} is no regular file: move it away")
        return status.st_size, status.st_mtime_ns

    # Threads, for what lies on a network.
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(shards.names, pool.map(one, range(len(shards.names))), strict=True))


def _states(table: dict) -> dict[str, tuple[int, int]]:
    return {name: (size, time) for name, size, time, _ in table["shards"]}


def _read(folder: Path) -> dict | None:
    """The table of a whole index, or None."""
    try:
        table = json.loads((folder / "shards.json").read_text(encoding="utf-8"))
        counts, _ = [count for *_, count in table["shards"]], _states(table)
        records, keys = (mapped(folder / f"{k}-{table['token']}.npy") for k in ("examples", "keys"))
        whole = (
            table["format"] == _FORMAT
            and min(counts) >= 0
            and records.shape == keys.shape == (sum(counts),)
            and records.dtype == record_type(table["num_classes"] is not None)
            and keys.dtype == "<u8"
            and all(isinstance(table[name], kind) for name, kind in _TABLE.items())
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None  # damaged, or none
    return table if whole else None


def _old(folder: Path, table: dict) -> dict[str, tuple]:
    """What is known of shards that may not have changed: (size, time), records and keys."""
    if table["num_repeated"] or table["bad_label"]:
        return {}  # records of these were left out, or lost their labels
    records, keys = (mapped(folder / f"{k}-{table['token']}.npy") for k in ("examples", "keys"))
    known, first = {}, 0
    for name, size, time, count in table["shards"]:
        last = first + count
        if name not in table["problems"]:
            known[name] = (size, time), records[first:last], keys[first:last]
        first = last
    return known


def _opened(shards: ShardSet, folder: Path, table: dict) -> ShardIndex:
    counts = [count for *_, count in table["shards"]]
    if not sum(counts):
        reasons = "; ".join(f"{name} {why}" for name, why in list(table["problems"].items())[:3])
        why = f": {reasons}" if reasons else "; shards are tar files of samples like 0001.jpg"
        raise ValueError(
            printable(f"no images in the {len(counts)} shards {shards.base}/{shards.pattern}{why}")
        )
    index = ShardIndex(
        shards=shards,
        folder=folder,
        token=table["token"],
        starts=np.concatenate([[0], np.cumsum(counts)]),
        problems=table["problems"],
        num_repeated=table["num_repeated"],
        repeated=table["repeated"],
        same_id=table["same_id"],
        num_classes=table["num_classes"],
        bad_label=table["bad_label"],
        states=np.array([state[1:3] for state in table["shards"]], np.int64),
        digest=table["digest"],
    )
    index.records = index._mapped("examples")
    return index


def _commit(folder: Path, table: dict) -> None:
    text = json.dumps(table)
    write_whole(folder / "shards.json", lambda file: file.write(text.encode()))
    _tidy(folder, table["token"])


def _tidy(folder: Path, token: str | None) -> None:
    """Removes everything but the index of this name."""
    # Processes that still map the old files keep them until they end.
    for kind in ("examples", "keys"):
        for path in folder.glob(f"{kind}-*.npy"):
            if path.name != f"{kind}-{token}.npy":
                path.unlink(missing_ok=True)
    for pattern in (".writing-*", "pieces/*", "parts/*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _check_writable(folder: Path) -> None:
    """Raises OSError if an index cannot be written into this folder."""
    (folder / "pieces").mkdir(parents=True, exist_ok=True)
    write_whole(folder / ".probe", lambda file: None)
    (folder / ".probe").unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time pass, where the file system can; a dead one locks nobody out."""
    import fcntl

    with open(folder / "lock", "a") as file:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.warning("another process builds %s; waiting for it", folder)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
