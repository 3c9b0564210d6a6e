"""What is in one shard: a record for each image, made by worker processes."""

import json
import os
import signal
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mimzoo.data.formats import is_image_name
from mimzoo.data.ids import example_id, hash64, printable, subset_rank
from mimzoo.data.open_files import open_regular
from mimzoo.data.tar_headers import BLOCK, DamagedTarError, HeaderReader, Member, follow_links

# Where an image lies (offset in blocks of 512 bytes, size in bytes), its place in the order that
# named subsets are drawn by, a hash of its key, and its label.
SCANNED = np.dtype(
    [("rank", "<u8"), ("key", "<u8"), ("block", "<u4"), ("size", "<u4"), ("label", "<i4")]
)
NO_LABEL = -1
MAX_LABEL = 2**20 - 1  # as many classes as a source may have
MAX_IMAGE = 2**31  # bytes
MAX_SAMPLE = 2**24  # bytes of a .json or .cls
# Runs the worker without importing `mimzoo` itself, which would load Keras.
_WORKER = (
    "import sys, types; p = types.ModuleType('mimzoo'); p.__path__ = [sys.argv[1]]; "
    "sys.modules['mimzoo'] = p; from mimzoo.data.shard_scan import serve; serve()"
)


class Scan(NamedTuple):
    """What is in one shard.

    Attributes:
        records: (N,) `SCANNED`, in the shard's order.
        problem: what is wrong with the shard, or None.
        bad_label: the first label that is none, with its file, or None.
    """

    records: np.ndarray
    problem: str | None
    bad_label: str | None


def scan(path: str, label_field: str | None) -> Scan:
    """Reads the headers of a shard.

    Args:
        path: the tar file.
        label_field: of each sample's .json; None for the sample's .cls.
    """
    images = _Images()
    labels: dict[str, int] = {}
    suffix = ".cls" if label_field is None else ".json"
    problem = bad_label = None
    try:
        with open_regular(path) as file:
            reader = HeaderReader(file)
            for member in reader.members():
                name = member.name
                if name.endswith(suffix) and member.kind == "file":
                    text = reader.bytes_at(member.start, min(member.size, MAX_SAMPLE))
                    try:
                        labels[name.removesuffix(suffix)] = _label(text, label_field, name)
                    except ValueError as error:
                        bad_label = bad_label or printable(str(error))
                else:
                    images.add(member)
    except DamagedTarError as error:
        problem = f"{error} (images before that: {len(images.rows)})"
    except OSError as error:
        problem, images = f"cannot be opened: {error.strerror}", _Images()
    records, stems = images.finish()
    records["label"] = [labels.get(stem, NO_LABEL) for stem in stems]
    return Scan(records, problem or images.problem(), bad_label)


class _Images:
    """The images among a shard's members."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, int]] = []
        self.stems: list[str] = []
        self.places: dict[str, tuple[int, int]] = {}
        self.links: dict[str, str] = {}
        self.left_out: list[str] = []

    def add(self, member: Member) -> None:
        if member.link is not None:
            if is_image_name(member.name):
                self.links[member.name] = member.link
            return
        if member.kind == "file":
            self.places[member.name] = member.start, member.size
        if is_image_name(member.name):
            if member.kind != "file":
                self.left_out.append(f"{member.name} ({member.kind})")
            else:
                self._row(member.name, member.start, member.size)

    def _row(self, name: str, start: int, size: int) -> None:
        if size > MAX_IMAGE or start >= BLOCK * 2**32:
            self.left_out.append(f"{name} ({size} bytes at {start})")
            return
        stem = name.rpartition(".")[0]
        rank = subset_rank(example_id(name))
        key = hash64(f"mimzoo key:{stem}") if "/" in stem else rank
        self.rows.append((rank, key, start // BLOCK, size, NO_LABEL))
        self.stems.append(stem)

    def finish(self) -> tuple[np.ndarray, list[str]]:
        """Records, and the stem of each; links that lead to an image come last."""
        for name, place in follow_links(self.links, self.places).items():
            if place is None:
                self.left_out.append(f"{name} (link to {self.links[name]})")
            else:
                self._row(name, *place)
        return np.array(self.rows, SCANNED), self.stems

    def problem(self) -> str | None:
        """What was left out, or None."""
        if not self.left_out:
            return None
        return printable(f"has {len(self.left_out)} images that cannot be read: {self.left_out[0]}")


def _label(text: bytes, field: str | None, name: str) -> int:
    try:
        label = json.loads(text)[field] if field is not None else int(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        label = text.decode("utf-8", "replace") if field is None else "something else"
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label <= MAX_LABEL:
        shown = repr(label) if len(repr(label)) <= 40 else repr(label)[:40] + "…"
        what = "" if field is None else f" as {field!r}"
        raise ValueError(
            f"{name} holds {shown}{what}, and a label is a whole number from 0 to {MAX_LABEL}"
        )
    return label


def save_scan(path: str, label_field: str | None, piece: str) -> None:
    """Scans a shard and writes the result to a file, whole or not at all."""
    found = scan(path, label_field)
    temporary = f"{piece}.{os.getpid()}"
    texts = np.array([found.problem or "", found.bad_label or ""])
    try:
        with open(temporary, "wb") as file:
            np.savez(file, records=found.records, texts=texts)
        os.replace(temporary, piece)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_scan(piece: str) -> Scan | None:
    """What `save_scan` wrote, or None if that file is damaged."""
    try:
        with open(piece, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            records, texts = file["records"], file["texts"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if records.dtype != SCANNED or records.ndim != 1 or len(texts) != 2:
        return None
    return Scan(records, texts[0] or None, texts[1] or None)


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
            print(printable(str(error)), flush=True)
        else:
            print("done", flush=True)
