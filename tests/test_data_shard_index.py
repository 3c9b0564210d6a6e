"""The index of shards: built once, brought up to date, resumable; and orders without tables."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from shard_files import png, values, write_shards, write_tar

from mimzoo.data import open_source, shard_build, shard_index
from mimzoo.data.images import ImageError
from mimzoo.data.random import shuffled
from mimzoo.data.shard_build import repeated_positions
from mimzoo.data.shard_parts import kth_smallest
from mimzoo.data.shard_scan import Worker

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def scanned(monkeypatch):
    """The shards that were scanned, in this process."""
    monkeypatch.setattr(shard_build, "MAX_WORKERS", 1)
    seen = []
    plain = shard_build.save_scan

    def save_scan(path, *others):
        seen.append(Path(path).name)
        plain(path, *others)

    monkeypatch.setattr(shard_build, "save_scan", save_scan)
    return seen


def files_of(root):
    return sorted(
        p.name.split("-")[0] for p in root.rglob("*") if p.is_file() and p.suffix != ".tar"
    )


def test_an_index_is_built_once(tmp_path, scanned):
    spec = write_shards(tmp_path / "a")
    first = values(open_source(spec, "all"))
    assert scanned == [f"0000{n}.tar" for n in range(4)]
    scanned.clear()
    assert values(open_source(spec, "all")) == first
    assert not scanned
    assert files_of(tmp_path / "a") == ["examples", "keys", "lock", "shards.json"]
    source = open_source(spec, "all")
    assert source.index.records.dtype.itemsize == 16
    assert isinstance(source.index.records.base, np.memmap)


def test_only_changed_shards_are_scanned_again(tmp_path, scanned):
    spec = write_shards(tmp_path / "a")
    old = open_source(spec, "all")
    scanned.clear()
    write_tar(tmp_path / "a" / "00001.tar", [("new.jpg", png(99))])
    write_shards(tmp_path / "a", count=1, first=4)
    os.utime(tmp_path / "a" / "00002.tar")
    expected = [*range(5), 99, *range(10, 25)]
    assert values(open_source(spec, "all")) == expected
    assert scanned == ["00001.tar", "00002.tar", "00004.tar"]
    # Who has the old index open still sees it.
    assert old.example_name(12) == "000020002.jpg"
    with pytest.raises(ImageError, match=r"00001\.tar is not what it was when it was indexed"):
        old[7]
    (tmp_path / "a" / "00000.tar").unlink()
    assert values(open_source(spec, "all")) == expected[5:]
    assert files_of(tmp_path / "a") == ["examples", "keys", "lock", "shards.json"]


def test_labels_that_come_later(tmp_path):
    write_shards(tmp_path / "a", labels=True)
    write_shards(tmp_path / "a", count=1)
    assert not open_source(f"shards:{tmp_path}/a", "all").labelled
    write_shards(tmp_path / "a", count=1, labels=True)
    time.sleep(0.01)
    os.utime(tmp_path / "a" / "00000.tar")
    assert open_source(f"shards:{tmp_path}/a", "all").labels.tolist() == [n % 3 for n in range(20)]


def test_an_interrupted_build_goes_on(tmp_path, scanned, monkeypatch):
    spec = write_shards(tmp_path / "a", count=6)
    plain = shard_build.save_scan

    def interrupted(path, *others):
        if path.endswith("00003.tar"):
            raise KeyboardInterrupt
        plain(path, *others)

    with monkeypatch.context() as patch:
        patch.setattr(shard_build, "save_scan", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_source(spec, "all")
    assert scanned == ["00000.tar", "00001.tar", "00002.tar"]
    # Also if it was stopped while the pieces were put together.
    with monkeypatch.context() as patch:
        patch.setattr(shard_index, "_commit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_source(spec, "all")
    assert values(open_source(spec, "all")) == list(range(30))
    assert scanned == [f"0000{n}.tar" for n in range(6)]
    assert files_of(tmp_path / "a") == ["examples", "keys", "lock", "shards.json"]


def test_a_damaged_index_is_built_anew(tmp_path, scanned):
    spec = write_shards(tmp_path / "a")
    open_source(spec, "all")
    table = next((tmp_path / "a").rglob("shards.json"))
    table.write_text(table.read_text()[:50])
    assert values(open_source(spec, "all")) == list(range(20))
    next((tmp_path / "a").rglob("keys-*")).unlink()
    assert values(open_source(spec, "all")) == list(range(20))
    assert len(scanned) == 12


def test_data_that_cannot_be_written_to(tmp_path, monkeypatch, scanned):
    spec = write_shards(tmp_path / "a")
    (tmp_path / "a" / ".mimzoo").write_text("")  # no folder can be made here, even by root
    assert values(open_source(spec, "all")) == list(range(20))
    assert len(open_source(spec)) + len(open_source(spec, "validation")) == 20
    assert len(scanned) == 4
    assert files_of(tmp_path / "cache").count("examples") == 1
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIMZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"can be written neither to .* set MIMZOO_CACHE to a folder"):
        open_source(spec, "all")


def test_an_index_made_elsewhere_is_read(tmp_path, monkeypatch, scanned):
    spec = write_shards(tmp_path / "a")
    open_source(spec, "all")

    def refuse(folder):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(shard_index, "_check_writable", refuse)
    assert values(open_source(spec, "all")) == list(range(20))
    assert len(open_source(spec)) + len(open_source(spec, "validation")) == 20
    assert len(scanned) == 4


def test_worker_processes_give_the_same(tmp_path, monkeypatch):
    spec = write_shards(tmp_path / "a", count=9, labels=True)
    (tmp_path / "a" / "00003.tar").write_bytes(b"junk" * 500)
    monkeypatch.setattr(shard_build, "MAX_WORKERS", 1)
    alone = open_source(spec, "all")
    next((tmp_path / "a").rglob("shards.json")).unlink()
    monkeypatch.setattr(shard_build, "MAX_WORKERS", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    both = open_source(spec, "all")
    assert both.index.token != alone.index.token
    np.testing.assert_array_equal(both.index.records, alone.index.records)
    assert both.index.problems == alone.index.problems
    worker = Worker()
    with pytest.raises(OSError, match=r"indexing .*00001.tar failed: .*No such file"):
        worker.save_scan(str(tmp_path / "a" / "00001.tar"), None, str(tmp_path / "no" / "piece"))
    worker.close()


def test_processes_that_start_at_once(tmp_path):
    spec = write_shards(tmp_path / "a", count=6, samples=40)
    code = (
        "import sys, types; p = types.ModuleType('mimzoo'); p.__path__ = ['mimzoo']; "
        "sys.modules['mimzoo'] = p; from mimzoo.data import open_source; "
        "s = open_source(sys.argv[1]); "
        "print([s.example_name(i) for i in range(len(s))], s.index.token)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, spec], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    printed = [process.communicate()[0] for process in running]
    assert not any(process.returncode for process in running)
    assert len(set(printed)) == 1
    assert printed[0]


def test_an_index_of_another_version_is_not_read(tmp_path, scanned):
    spec = write_shards(tmp_path / "a")
    open_source(spec, "all")
    table = next((tmp_path / "a").rglob("shards.json"))
    table.write_text(json.dumps({**json.loads(table.read_text()), "format": 0}))
    open_source(spec, "all")
    assert len(scanned) == 8


# === Passes over hashes ===


@pytest.mark.parametrize("most", [10, 1000, 10**6])
def test_repeated_positions(most):
    rng = np.random.default_rng(0)
    hashes = rng.integers(2**64, size=3000, dtype=np.uint64)
    hashes[[0, -1]] = 0, 2**64 - 1
    values_ = np.concatenate([hashes, hashes[[5, 0, 2999, 5]]])
    assert repeated_positions(values_, most).tolist() == [3000, 3001, 3002, 3003]
    assert repeated_positions(hashes, most).tolist() == []


def test_kth_smallest(monkeypatch):
    values_ = np.random.default_rng(0).integers(2**64, size=5000, dtype=np.uint64)
    for k in (1, 2, 700, 4999, 5000):
        assert kth_smallest(lambda: iter(np.split(values_, 10)), k) == np.sort(values_)[k - 1]


# === Orders without a table ===


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 17, 101, 1000, 4096, 65537, 100_003])
def test_shuffled_visits_everything_once(size):
    order = shuffled(5, 2, size, np.arange(size))
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(size))
    # Each place by itself gives the same.
    places = np.unique([0, size // 3, size - 1])
    np.testing.assert_array_equal(shuffled(5, 2, size, places), order[places])


def test_shuffled_looks_like_chance():
    size = 200_003
    order = shuffled(0, 0, size, np.arange(size))
    for other in (shuffled(0, 1, size, np.arange(size)), shuffled(1, 0, size, np.arange(size))):
        assert (order == other).sum() < 10
        shift = np.histogram((order - other) % size, 100)[0]
        assert abs(shift.std() / np.sqrt(size / 100) - 1) < 0.3
    steps = np.histogram(np.diff(order) % size, 100)[0]
    assert abs(steps.std() / np.sqrt(size / 100) - 1) < 0.3
    table = np.histogram2d(order, np.arange(size), 30)[0]
    assert abs(table.std() / np.sqrt(size / 900) - 1) < 0.15
    # Published: what a run of many images sees never changes.
    first = [21432853, 57389181, 50959824, 65381448]
    assert shuffled(0, 0, 10**8, np.arange(4)).tolist() == first


def test_shuffled_beyond_memory():
    size = 10**12 + 39
    order = shuffled(0, 0, size, np.arange(size - 5000, size))
    assert len(np.unique(order)) == 5000
    assert order.min() >= 0
    assert order.max() < size
