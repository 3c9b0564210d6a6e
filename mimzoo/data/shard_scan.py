"""What is in one shard: a record for each image, made by worker processes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mimzoo.data.folders import is_image_name
from mimzoo.data.ids import example_id, subset_rank
from mimzoo.data.tar_headers import BLOCK, DamagedTarError, HeaderReader

# Where an image lies (offset in blocks of 512 bytes, size in bytes), its place in the order that
# named subsets are drawn by, a hash of its key, and its label.
SCANNED = np.dtype(
    [("rank", "<u8"), ("key", "<u8"), ("block", "<u4"), ("size", "<u4"), ("label", "<i4")]
)
NO_LABEL = -1
# Runs the worker without importing `mimzoo` itself, which would load Keras.
_WORKER = (
    "import sys, types; p = types.ModuleType('mimzoo'); p.__path__ = [sys.argv[1]]; "
    "sys.modules['mimzoo'] = p; from mimzoo.data.shard_scan import serve; serve()"
)


def scan(path: str, label_field: str | None) -> tuple[np.ndarray, str | None]:
    """Reads the headers of a shard.

    Args:
        path: the tar file.
        label_field: of each sample's .json; None for the sample's .cls.

    Returns:
        Records in the shard's order, and what is wrong with the shard, or None.
    """
    rows: list[tuple[int, int, int, int, int]] = []
    stems: list[str] = []
    labels: dict[str, int] = {}
    ending = ".cls" if label_field is None else ".json"
    problem = None
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        return np.empty(0, SCANNED), f"cannot be opened: {error.strerror}"
    try:
        reader = HeaderReader(file)
        for name, offset, size in reader.members():
            if name.endswith(ending):
                text = reader.bytes_at(offset, size)
                labels[name.removesuffix(ending)] = _label(text, label_field, name)
            elif is_image_name(name):
                stem = name.rpartition(".")[0]
                rank = subset_rank(example_id(name))
                key = _hash(f"mimzoo key:{stem}") if "/" in stem else rank
                rows.append((rank, key, offset // BLOCK, size, NO_LABEL))
                stems.append(stem)
    except DamagedTarError as error:
        problem = f"{error} (images before that: {len(rows)})"
    except (OSError, ValueError, OverflowError) as error:
        problem = f"cannot be read: {error}"
    finally:
        os.close(file)
    records = np.array(rows, SCANNED)
    records["label"] = [labels.get(stem, NO_LABEL) for stem in stems]
    return records, problem


def _label(text: bytes, field: str | None, name: str) -> int:
    try:
        label = json.loads(text)[field] if field is not None else int(text)
    except (ValueError, KeyError, TypeError):
        label = None
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < 2**31:
        what = "a whole number" if field is None else f"a whole number {field!r}"
        raise ValueError(f"{name} has to be {what} from 0 on: a label")
    return label


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")


def save_scan(path: str, label_field: str | None, piece: str) -> None:
    """Scans a shard and writes what came out to a file, whole or not at all."""
    records, problem = scan(path, label_field)
    temporary = f"{piece}.{os.getpid()}"
    with open(temporary, "wb") as file:
        np.savez(file, records=records, problem=np.array(problem or ""))
    os.replace(temporary, piece)


def load_scan(piece: str) -> tuple[np.ndarray, str | None]:
    """What `save_scan` wrote."""
    with np.load(piece, allow_pickle=False) as file:
        return file["records"], str(file["problem"]) or None


class Worker:
    """A process that scans one shard after another. Used by one thread."""

    def __init__(self) -> None:
        package = str(Path(__file__).parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _WORKER, package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def save_scan(self, *job: Any) -> None:
        """As the function `save_scan`.

        Raises:
            OSError: the shard's records could not be written, or the process is gone.
        """
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer != "done\n":
            raise OSError(f"indexing {job[0]} failed: {answer.strip() or 'the worker has ended'}")

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve() -> None:
    """The worker's side: jobs from the standard input, one line each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side's to handle
    for line in sys.stdin:
        try:
            save_scan(*json.loads(line))
        except OSError as error:
            print(error, flush=True)
        else:
            print("done", flush=True)
