"""A source of many shards: building its index, opening it, reading at random, and what is broken.

    python -m benchmarks.shards --shards 1000 --samples 1000

writes so many shards of so many tiny JPEGs into a temporary folder (--folder puts it elsewhere;
a sample takes 1.5 KB) and removes them. --records 100000000 measures an index alone, of so many
made-up images, without shards to read from.
"""

import argparse
import io
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 512


def tiny_jpeg() -> bytes:
    """16 x 16 pixels; what follows its end is passed over by decoders."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 100, 50)).save(buffer, "jpeg")
    return buffer.getvalue()


def member(name: str, data: bytes) -> bytes:
    """A tar member: header, data, padding."""
    header = bytearray(BLOCK)
    header[: len(name)] = name.encode()
    header[100:108], header[124:136] = b"0000644\0", b"%011o\0" % len(data)
    header[148:156], header[156:157], header[257:265] = b" " * 8, b"0", b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % BLOCK)


def write_shard(path: Path, keys: range | list[int], jpeg: bytes, broken: tuple = ()) -> None:
    """A shard of samples; those in `broken` cannot be decoded."""
    members = [
        member(f"{k:09}.jpg", b"no picture" if k in broken else jpeg + b"%09d" % k) for k in keys
    ]
    path.write_bytes(b"".join([*members, bytes(2 * BLOCK)]))


def memory() -> dict[str, float]:
    """Resident MB of this process: its own, and of mapped files."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    own, mapped = (int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return {"own": own, "mapped": mapped}


def fresh(task: str, *arguments: Any) -> dict[str, float]:
    """Runs a function of this file in a process of its own."""
    code = (
        "import sys, json; from benchmarks import shards; "
        "print(json.dumps(getattr(shards, sys.argv[1])(*map(json.loads, sys.argv[2:]))))"
    )
    command = [sys.executable, "-c", code, task, *map(json.dumps, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def opened(spec: str, reads: int) -> dict[str, float]:
    """Opening a source whose index is there, and reading files at random; memory before, after."""
    import mimzoo.data.shards  # noqa: F401  what is imported counts for neither side
    from mimzoo.data import open_source

    before = memory()
    source, seconds = timed(lambda: open_source(spec, "all"))
    after = memory()
    rng = np.random.default_rng(0)
    places = rng.integers(len(source), size=reads).tolist()
    _, reading = timed(lambda: sum(len(source.encoded(index)[0]) for index in places))
    end = memory()
    return {
        "images": len(source),
        "open_seconds": seconds,
        "open_own_mb": after["own"] - before["own"],
        "reads_own_mb": end["own"] - before["own"],
        "reads_mapped_mb": end["mapped"] - before["mapped"],
        "reads_per_second": reads / reading if reads else 0.0,
    }


def subset(spec: str, share: float, read: bool) -> dict[str, float]:
    """A named subset: what drawing it reads, what going through it reads."""
    from mimzoo.data import Loader, ResizeCrop, named_subset, open_source
    from mimzoo.data.named_subsets import NAMED_SUBSETS, NamedSubset

    source = open_source(spec, "all")
    NAMED_SUBSETS["part"] = NamedSubset(round(share * len(source)))
    files, count = source._files.__class__, {"bytes": 0, "reads": 0}
    shards: set[str] = set()
    plain = files.read

    def counting(self: Any, path: str, offset: int, size: int, *state: Any) -> bytes:
        shards.add(path)
        count["bytes"] += size
        count["reads"] += 1
        return plain(self, path, offset, size, *state)

    files.read = counting
    before = memory()
    part, seconds = timed(lambda: named_subset(source, "part"))
    drawn = len(shards)
    _, again = timed(lambda: named_subset(source, "part"))
    after = memory()
    if read:
        for _ in Loader(part, 256, transform=ResizeCrop(16), drop_remainder=False):
            pass
    return {
        "images": len(part),
        "seconds": seconds,
        "again_seconds": again,
        "own_mb": after["own"] - before["own"],
        "shards_opened_to_draw": drawn,
        "shards_opened_to_read": len(shards),
        "bytes_read": count["bytes"],
        "reads": count["reads"],
    }


def order(size: int) -> dict[str, float]:
    """The order of an epoch of so many images: whole, and a batch at a time."""
    from mimzoo.data.random import permutation, shuffled

    places = np.arange(1024)
    _, batch = timed(lambda: [shuffled(0, e, size, places) for e in range(100)])
    before = memory()
    table, whole = timed(lambda: permutation(0, 0, size))
    return {
        "batch_of_1024_ms": 10 * batch,
        "permutation_seconds": whole,
        "permutation_mb": memory()["own"] - before["own"],
        "size": len(table),
    }


def break_some(folder: Path, spec: str, samples: int, jpeg: bytes) -> None:
    """Cuts one shard off, removes one, repeats keys, spoils images; prints the damage."""
    from mimzoo.data import Loader, ResizeCrop, open_source

    cut, gone, twice, spoilt = (folder / f"{n:05}.tar" for n in (1, 2, 3, 4))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2 + 100])
    gone.unlink()
    write_shard(twice, [*range(3 * samples, 4 * samples), *range(10)], jpeg)
    write_shard(
        spoilt, range(4 * samples, 5 * samples), jpeg, tuple(range(4 * samples, 5 * samples, 9))
    )
    source, seconds = timed(lambda: open_source(spec, "all"))
    print(f"after four shards changed: {seconds:.2f} s, {len(source)} images")
    print(f"  damage: {source.damage}")
    for share in (0.0, 0.5):
        try:
            loader = Loader(source, 256, transform=ResizeCrop(16), shuffle=False, max_corrupt=share)
            batches = sum(1 for _ in itertools.islice(loader, 5 * samples // 256 + 1))
            print(f"  max_corrupt={share}: {batches} batches, {len(loader.corrupt)} images named")
        except ValueError as error:
            print(f"  max_corrupt={share}: {type(error).__name__}: {error}")


def made_up_index(folder: Path, records: int, shards: int) -> str:
    """An index of images that are nowhere, beside empty shards."""
    from mimzoo.data import shard_index
    from mimzoo.data.shards import expand

    spec = f"shards:{folder}/{{00000..{shards - 1:05}}}.tar"
    for number in range(shards):
        (folder / f"{number:05}.tar").touch()
    found = expand(spec)
    place = found.folders()[0]
    shard_index._check_writable(place)
    kind = np.dtype([("rank", "<u8"), ("block", "<u4"), ("size", "<u4")])
    examples = np.lib.format.open_memmap(place / "examples-x.npy", "w+", kind, (records,))
    keys = np.lib.format.open_memmap(place / "keys-x.npy", "w+", "<u8", (records,))
    rng = np.random.default_rng(0)
    for start in range(0, records, 2**20):
        hashes = rng.integers(2**64, size=min(2**20, records - start), dtype=np.uint64)
        examples["rank"][start : start + len(hashes)] = keys[start : start + len(hashes)] = hashes
    table = {
        "format": shard_index._FORMAT,
        "token": "x",
        "problems": {},
        "bad_label": None,
        "digest": "",
        "num_repeated": 0,
        "repeated": [],
        "same_id": None,
        "num_classes": None,
    }
    states = shard_index._stat(found)
    counts = np.diff(np.linspace(0, records, shards + 1).astype(int)).tolist()
    rows = zip(states.items(), counts, strict=True)
    table["shards"] = [[name, *state, count] for (name, state), count in rows]
    shard_index._commit(place, table)
    return spec


def show(title: str, values: dict[str, float]) -> None:
    """A line of figures."""
    print(
        title + ": " + ", ".join(f"{k} {v:,.3f}".rstrip("0").rstrip(".") for k, v in values.items())
    )


def main(argv: list[str] | None = None) -> None:
    """Writes shards, or an index alone, and measures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--samples", type=int, default=100, help="in a shard")
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        if args.records:
            spec = made_up_index(folder, args.records, args.shards)
            show("opening", fresh("opened", spec, 0))
            show("10 % subset", fresh("subset", spec, 0.1, False))
            show("order", fresh("order", args.records))
            return
        jpeg = tiny_jpeg()
        parts = [range(n * args.samples, (n + 1) * args.samples) for n in range(args.shards)]
        start = time.perf_counter()
        for number, keys in enumerate(parts):
            write_shard(folder / f"{number:05}.tar", keys, jpeg)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e9
        print(f"{args.shards} shards of {args.samples}: {size:.2f} GB in {seconds:.1f} s")
        spec = f"shards:{folder}/{{00000..{args.shards - 1:05}}}.tar"
        show("building", fresh("opened", spec, 0))
        show("opening and reading", fresh("opened", spec, args.reads))
        show("10 % subset", fresh("subset", spec, 0.1, True))
        index = [path for path in (folder / ".mimzoo").rglob("*") if path.is_file()]
        for path in index:
            print(f"  {path.name}: {path.stat().st_size / 1e6:.2f} MB")
        break_some(folder, spec, args.samples, jpeg)


if __name__ == "__main__":
    main()
