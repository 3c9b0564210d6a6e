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

from mimzoo.data.ids import example_id
from mimzoo.data.shard_scan import NO_LABEL, SCANNED, Worker, load_scan, save_scan
from mimzoo.data.tar_headers import BLOCK, member_name

logger = logging.getLogger("mimzoo.data")
MOST_WORKERS = 16
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
        return str(folder / "pieces" / f"{hashlib.sha256(state.encode()).hexdigest()[:24]}.npz")


def build(folder: Path, shards: Sequence[Shard], label_field: str | None) -> dict[str, Any]:
    """Writes `examples-TOKEN.npy` and `keys-TOKEN.npy`, and returns what `shards.json` keeps.

    An interrupted build goes on where it was: each scanned shard is a file of its own.
    """
    started = time.monotonic()
    _scan_all(folder, shards, label_field)
    counts, problems, labelled, unlabelled = [], {}, 0, 0
    for shard in shards:
        records, problem = _records(folder, shard, label_field)
        if problem is not None:
            problems[shard.name] = problem
        counts.append(len(records))
        with_label = int((records["label"] != NO_LABEL).sum())
        labelled, unlabelled = labelled + with_label, unlabelled + len(records) - with_label
    if labelled and unlabelled:
        logger.warning(
            "%d of %d images have no label: the source is taken as unlabelled",
            unlabelled,
            labelled + unlabelled,
        )
    token = uuid.uuid4().hex[:12]
    names = ["rank", "block", "size", *(["label"] if labelled and not unlabelled else [])]
    dtype = np.dtype([(name, SCANNED[name]) for name in names])
    files = {kind: folder / f"{kind}-{token}.npy" for kind in ("examples", "keys")}
    total = max(1, sum(counts))  # an empty file cannot be mapped
    examples = np.lib.format.open_memmap(files["examples"], "w+", dtype, (total,))
    keys = np.lib.format.open_memmap(files["keys"], "w+", "<u8", (total,))
    first, flat = 0, True
    for shard in shards:
        records, _ = _records(folder, shard, label_field)
        last = first + len(records)
        for name in names:
            examples[name][first:last] = records[name]
        keys[first:last] = records["key"]
        flat = flat and bool((records["key"] == records["rank"]).all())
        first = last
    places = _Names(shards, counts, examples)
    repeated = repeated_positions(keys[:first])
    table = {
        "token": token,
        "problems": problems,
        "partly_labelled": bool(labelled and unlabelled),
        "num_repeated": len(repeated),
        "repeated": [places.shown(i) for i in repeated[:_NAMED].tolist()],
        "same_id": None if flat else places.same_id(examples["rank"][:first], repeated),
        "num_classes": _num_classes(examples) if "label" in names else None,
    }
    if len(repeated):
        _leave_out(files["examples"], examples, repeated)
        _leave_out(files["keys"], keys, repeated)
        of = np.searchsorted(np.cumsum(counts), repeated, side="right")
        counts = (np.array(counts) - np.bincount(of, minlength=len(counts))).tolist()
    else:
        examples.flush(), keys.flush()
    table["shards"] = [
        [s.name, *_state(s, problems), count] for s, count in zip(shards, counts, strict=True)
    ]
    logger.info("indexed %d images in %.1f s", sum(counts), time.monotonic() - started)
    return table


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
    count = min(MOST_WORKERS, os.cpu_count() or 1, len(jobs) // 4)
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


def _records(folder: Path, shard: Shard, label_field: str | None) -> tuple[np.ndarray, str | None]:
    if shard.size < 0:
        return np.empty(0, SCANNED), "is missing"
    if not shard.current:
        return load_scan(shard.piece(folder, label_field))
    _, old, keys = shard.known
    records = np.zeros(len(old), SCANNED)
    records["key"], records["label"] = keys, NO_LABEL
    for name in old.dtype.names:
        records[name] = old[name]
    return records, None


def repeated_positions(values: np.ndarray, most: int = 2**23) -> np.ndarray:
    """Sorted positions of the values that stand earlier, too; sorts about `most` at a time."""
    parts = max(1, len(values) // most)
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


def _leave_out(path: Path, values: np.ndarray, positions: np.ndarray) -> None:
    """Writes the file anew without some values."""
    total = len(values) - len(positions)
    shorter = np.lib.format.open_memmap(f"{path}.tmp", "w+", values.dtype, (total,))
    last = 0
    for start, chunk in chunks(values):
        keep = np.ones(len(chunk), bool)
        first, end = np.searchsorted(positions, [start, start + len(chunk)])
        keep[positions[first:end] - start] = False
        kept = chunk[keep]
        shorter[last : last + len(kept)] = kept
        last += len(kept)
    shorter.flush()
    os.replace(f"{path}.tmp", path)


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
        return "{} in {}".format(*self.name(index))

    def same_id(self, ranks: np.ndarray, repeated: np.ndarray) -> str | None:
        """Two images of one id, but for those that are left out; equal hashes alone are none."""
        again = np.setdiff1d(repeated_positions(ranks), repeated)
        for second in again[:20].tolist():
            first = int(np.flatnonzero(ranks[:second] == ranks[second])[0])
            if example_id(self.name(first)[0]) == example_id(self.name(second)[0]):
                return f"{self.shown(first)} and {self.shown(second)}"
        return None
