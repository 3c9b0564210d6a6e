"""Building an index: shards are scanned side by side, then put together in order."""

import contextlib
import hashlib
import logging
import os
import queue
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mimzoo.data.ids import example_id, name_bytes, printable
from mimzoo.data.npy_files import mapped, written
from mimzoo.data.shard_scan import NO_LABEL, SCANNED, Scan, Worker, load_scan, save_scan
from mimzoo.data.tar_headers import BLOCK, member_name

logger = logging.getLogger("mimzoo.data")
MAX_WORKERS = 16
_CHUNK = 2**20
_NAMED = 3


class Shard(NamedTuple):
    """A shard, its state on the disk (size -1: missing), and what is known of it, or None."""

    name: str
    path: str
    size: int
    time: int
    known: tuple[tuple[int, int], np.ndarray, np.ndarray] | None

    @property
    def current(self) -> bool:
        """Whether what is known still holds."""
        return self.known is not None and self.known[0] == (self.size, self.time)

    def piece(self, folder: Path, label_field: str | None) -> str:
        """The file that keeps its records until all are there."""
        state = f"{self.name}:{self.size}:{self.time}:{label_field}"
        return str(folder / "pieces" / f"{hashlib.sha256(name_bytes(state)).hexdigest()[:24]}.npz")


def build(folder: Path, shards: Sequence[Shard], label_field: str | None) -> dict[str, Any]:
    """Writes `examples-TOKEN.npy` and `keys-TOKEN.npy`, and returns what `shards.json` keeps.

    An interrupted build resumes: each scanned shard is a file of its own.

    Raises:
        OSError: the files cannot be written, as when the disk is full.
    """
    started = time.monotonic()
    _scan_all(folder, shards, label_field)
    counts, problems, bad_label, labelled, unlabelled = [], {}, None, 0, 0
    for shard in shards:
        found = _scanned(folder, shard, label_field)
        if found.problem is not None:
            problems[shard.name] = found.problem
        if found.bad_label is not None:
            bad_label = bad_label or f"{printable(shard.name)}:{found.bad_label}"
        counts.append(len(found.records))
        with_label = int((found.records["label"] != NO_LABEL).sum())
        labelled, unlabelled = labelled + with_label, unlabelled + counts[-1] - with_label
    if labelled and unlabelled and bad_label is None:
        bad_label = f"{unlabelled} of {labelled + unlabelled} images have none"
    has_labels = bool(labelled and not unlabelled)
    dtype = record_type(has_labels)
    token = uuid.uuid4().hex[:12]
    total, flat = sum(counts), True
    files = [folder / f"{kind}-{token}.npy" for kind in ("examples", "keys")]
    with (
        written(files[0], dtype, total) as write_examples,
        written(files[1], np.dtype("<u8"), total) as write_keys,
    ):
        for shard in shards:
            records = _scanned(folder, shard, label_field).records
            part = np.empty(len(records), dtype)
            for name in dtype.names:
                part[name] = records[name]
            write_examples(part)
            write_keys(records["key"])
            flat = flat and bool((records["key"] == records["rank"]).all())
    examples, keys = map(mapped, files)
    places = _Names(shards, counts, examples)
    repeated = repeated_positions(keys)
    table = {
        "token": token,
        "problems": problems,
        "bad_label": bad_label,
        "num_repeated": len(repeated),
        "repeated": [places.shown(i) for i in repeated[:_NAMED].tolist()],
        "same_id": None if flat else places.same_id(examples["rank"], repeated),
    }
    if len(repeated):
        examples = _leave_out(files[0], examples, repeated)
        keys = _leave_out(files[1], keys, repeated)
        of = np.searchsorted(np.cumsum(counts), repeated, side="right")
        counts = (np.array(counts) - np.bincount(of, minlength=len(counts))).tolist()
    table["num_classes"] = _num_classes(examples) if has_labels else None
    table["digest"] = digest(examples, keys)
    table["shards"] = [
        [s.name, *_state(s, problems), count] for s, count in zip(shards, counts, strict=True)
    ]
    logger.info("indexed %d images in %.1f s", sum(counts), time.monotonic() - started)
    return table


def record_type(labelled: bool) -> np.dtype:
    """What an index keeps of each image."""
    names = ["rank", "block", "size", *(["label"] if labelled else [])]
    return np.dtype([(name, SCANNED[name]) for name in names])


def digest(examples: np.ndarray, keys: np.ndarray) -> str:
    """A fingerprint of what the images are: keys, sizes and labels in their order."""
    names = [name for name in ("size", "label") if name in examples.dtype.names]
    dtype = np.dtype([("key", "<u8"), *((name, examples.dtype[name]) for name in names)])
    found = hashlib.sha256(str(names).encode())
    for (_, chunk), (_, key) in zip(chunks(examples), chunks(keys), strict=True):
        packed = np.empty(len(chunk), dtype)
        packed["key"] = key
        for name in names:
            packed[name] = chunk[name]
        found.update(packed.data)
    return found.hexdigest()[:32]


def _state(shard: Shard, problems: dict[str, str]) -> tuple[int, int]:
    # What could not be opened may be there the next time: this state is never found again.
    unsure = problems.get(shard.name, "").startswith("cannot be opened")
    return (-2, -2) if unsure else (shard.size, shard.time)


def _scan_all(folder: Path, shards: Sequence[Shard], label_field: str | None) -> None:
    jobs = [
        (shard.path, label_field, shard.piece(folder, label_field))
        for shard in shards
        if shard.size >= 0 and not shard.current
    ]
    jobs = [job for job in jobs if not os.path.exists(job[2])]
    count = min(MAX_WORKERS, os.cpu_count() or 1, len(jobs) // 4)
    if len(jobs) > 100:
        logger.info("indexing %d shards, once, into %s", len(jobs), folder)
    if count < 2:
        for job in jobs:
            save_scan(*job)
        return
    # Processes, since reading headers is Python's work. Not `multiprocessing`, which runs the
    # user's script once more in each.
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            worker = Worker()
            stack.callback(worker.close)
            idle.put(worker)
        pool = ThreadPoolExecutor(count)
        stack.callback(pool.shutdown, cancel_futures=True)

        def scan_one(job: tuple) -> None:
            worker = idle.get()
            try:
                worker.save_scan(*job)
            finally:
                idle.put(worker)

        for number, _ in enumerate(pool.map(scan_one, jobs), 1):
            if number % 500 == 0:
                logger.info("indexed %d of %d shards", number, len(jobs))


def _scanned(folder: Path, shard: Shard, label_field: str | None) -> Scan:
    if shard.size < 0:
        return Scan(np.empty(0, SCANNED), "is missing", None)
    if not shard.current:
        piece = shard.piece(folder, label_field)
        found = load_scan(piece)
        if found is None:  # damaged since
            save_scan(shard.path, label_field, piece)
            found = load_scan(piece)
        return found
    _, old, keys = shard.known
    records = np.zeros(len(old), SCANNED)
    records["key"], records["label"] = keys, NO_LABEL
    for name in old.dtype.names:
        records[name] = old[name]
    return Scan(records, None, None)


def repeated_positions(values: np.ndarray, limit: int = 2**23) -> np.ndarray:
    """Sorted positions of the values that stand earlier, too; sorts about `limit` at a time."""
    parts = max(1, len(values) // limit)
    found = []
    for part in range(parts):
        low, high = (np.uint64((p << 64) // parts - (p == parts)) for p in (part, part + 1))
        picked = []
        for start, chunk in chunks(values):
            mine = (chunk >= low) & ((chunk < high) | (part == parts - 1))
            picked.append(start + np.flatnonzero(mine))
        places = np.concatenate(picked) if picked else np.empty(0, int)
        mine = values[places]
        order = np.argsort(mine, kind="stable")
        again = mine[order][1:] == mine[order][:-1]
        found.append(places[order][1:][again])
    return np.sort(np.concatenate(found))


def chunks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A long array in pieces, each with the position of its first value."""
    for start in range(0, len(values), _CHUNK):
        yield start, np.asarray(values[start : start + _CHUNK])


def _num_classes(examples: np.ndarray) -> int:
    return 1 + max(int(chunk["label"].max()) for _, chunk in chunks(examples))


def _leave_out(path: Path, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Writes a file again without some values."""
    with written(path, values.dtype, len(values) - len(positions)) as write:
        for start, chunk in chunks(values):
            keep = np.ones(len(chunk), bool)
            first, end = np.searchsorted(positions, [start, start + len(chunk)])
            keep[positions[first:end] - start] = False
            write(chunk[keep])
    return mapped(path)


class _Names:
    """Names of images, read from their shards: for messages."""

    def __init__(self, shards: Sequence[Shard], counts: list[int], examples: np.ndarray) -> None:
        self.shards, self.examples = shards, examples
        self.ends = np.cumsum(counts)

    def name(self, index: int) -> tuple[str, str]:
        """The image's path inside its shard, and the shard."""
        shard = self.shards[int(np.searchsorted(self.ends, index, side="right"))]
        with open(shard.path, "rb") as file:
            file.seek((int(self.examples["block"][index]) - 1) * BLOCK)
            return member_name(file.read(BLOCK)), shard.name

    def shown(self, index: int) -> str:
        return printable("{} in {}".format(*self.name(index)))

    def same_id(self, ranks: np.ndarray, repeated: np.ndarray) -> str | None:
        """Two images of one id, but for those that are left out; equal hashes alone are none."""
        again = np.setdiff1d(repeated_positions(ranks), repeated)
        for second in again[:20].tolist():
            first = int(np.flatnonzero(ranks[:second] == ranks[second])[0])
            if example_id(self.name(first)[0]) == example_id(self.name(second)[0]):
                return f"{self.shown(first)} and {self.shown(second)}"
        return None
