"""Shards with bad labels, damaged shards and indexes, full disks."""

import errno
import json
import logging
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from shard_files import names, png, values, write_shards, write_tar

from mimzoo.data import Loader, open_source, shard_build, shard_index, shard_parts
from mimzoo.data.images import ImageError
from mimzoo.data.named_subsets import NAMED_SUBSETS, NamedSubset, named_subset
from mimzoo.data.tar_headers import BLOCK

pytestmark = pytest.mark.one_backend


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMZOO_CACHE", str(tmp_path / "cache"))


def file_of(root, pattern):
    return next(root.rglob(pattern))


# === Labels ===


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"cat", "'cat'"),
        (b"-1", "-1"),
        (b"1.5", "'1.5'"),
        (b"", "''"),
        (b"2147483647", "2147483647"),
        (b"1048576", "1048576"),
        (b"9" * 5000, "'99999"),
        (b"\xff", "'"),
    ],
)
def test_a_bad_label_is_named_and_stops_no_pretraining(tmp_path, caplog, content, shown):
    write_shards(tmp_path / "a", labels=True)
    write_tar(tmp_path / "a" / "00001.tar", [("x.jpg", png(5)), ("x.cls", content)])
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        source = open_source(f"shards:{tmp_path}/a", "all")
    assert f"00001.tar:x.cls holds {shown}" in caplog.text
    assert (source.labelled, source.num_classes, source.damage) == (False, None, None)
    assert values(source) == [*range(5), 5, *range(10, 20)]
    assert len(list(Loader(source, 4))) == 4
    with pytest.raises(ValueError, match=r"00001\.tar:x\.cls holds .*whole number from 0 to 10485"):
        Loader(source, 4, labels=True)
    write_shards(tmp_path / "a", labels=True)
    os.utime(tmp_path / "a" / "00001.tar", (1, 1))
    assert open_source(f"shards:{tmp_path}/a", "all").labels.tolist() == [n % 3 for n in range(20)]


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{}", b"[]", b'{"a": true}', b'{"a": 1e3}', b""])
def test_a_bad_label_in_a_json_is_named(tmp_path, text):
    write_tar(tmp_path / "0.tar", [("1.jpg", png(1)), ("1.json", text)])
    source = open_source(f"shards:{tmp_path}#label=a", "all")
    with pytest.raises(ValueError, match=r"0\.tar:1\.json holds .* as 'a', and a label is"):
        _ = source.labels


# === Damaged shards ===


def test_a_flipped_byte_in_a_header_is_a_damaged_shard(tmp_path):
    write_shards(tmp_path / "a")
    path = tmp_path / "a" / "00001.tar"
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        start = archive.getmembers()[3].offset
    data[start + 3] ^= 1
    path.write_bytes(data)
    source = open_source(f"shards:{tmp_path}/a", "all")
    assert f"00001.tar is damaged or no uncompressed tar file, at byte {start}" in str(
        source.damage
    )
    assert values(source) == [*range(6), *range(10, 20)]


def test_a_negative_size_in_a_pax_header_is_a_damaged_shard(tmp_path):
    write_tar(tmp_path / "0.tar", [("1.jpg", png(1))])
    with tarfile.open(tmp_path / "0.tar", "a") as archive:
        member = tarfile.TarInfo("2.jpg")
        member.pax_headers = {"size": "-1536"}
        archive.addfile(member)
    source = open_source(f"shards:{tmp_path}", "all")
    assert values(source) == [1]
    assert "is damaged: an extended header" in str(source.damage)


def test_a_shard_that_is_no_regular_file(tmp_path):
    write_shards(tmp_path / "a")
    os.mkfifo(tmp_path / "a" / "x.tar")
    with pytest.raises(ValueError, match=r"a/x\.tar is no regular file: move it away"):
        open_source(f"shards:{tmp_path}/a", "all")


def test_images_too_large_for_an_index_are_named(tmp_path):
    write_tar(tmp_path / "0.tar", [("1.jpg", png(1))])
    with tarfile.open(tmp_path / "0.tar") as archive:
        end = archive.offset = archive.getmembers()[-1].offset_data + BLOCK
    member = tarfile.TarInfo("2.jpg")
    member.size = 5 * 2**30
    with open(tmp_path / "0.tar", "r+b") as file:
        file.seek(end)
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(end + BLOCK + member.size + 2 * BLOCK)  # sparse
    source = open_source(f"shards:{tmp_path}", "all")
    assert values(source) == [1]
    assert "has 1 images that cannot be read: 2.jpg (5368709120 bytes" in str(source.damage)
    with pytest.raises(ImageError, match=r"2\.jpg: the file has 5368709120 bytes, more than any"):
        open_source(tmp_path / "0.tar", "all")[1]


def test_shards_of_several_splits_are_refused(tmp_path):
    for name in ("in1k-train-0000.tar", "in1k-train-0001.tar", "in1k-val-0000.tar"):
        write_tar(tmp_path / name, [(f"{name}.jpg", png(1))])
    with pytest.raises(ValueError, match=r"shards of train and validation: name one .*\*train\*"):
        open_source(f"shards:{tmp_path}")
    assert len(open_source(f"shards:{tmp_path}/*train*.tar", "all")) == 2


def test_a_replaced_shard_is_noticed(tmp_path):
    source = open_source(write_shards(tmp_path / "a"), "all")
    other = tmp_path / "other.tar"
    write_tar(other, [(f"{n}.jpg", png(50 + n)) for n in range(5)])
    shutil.copyfile(other, tmp_path / "a" / "00002.tar")
    with pytest.raises(ImageError, match=r"00002\.tar is not what it was when it was indexed"):
        source[10]


def test_names_of_shards_that_are_not_utf8(tmp_path):
    write_shards(tmp_path / "a", count=1)
    os.rename(tmp_path / "a" / "00000.tar", os.fsencode(tmp_path / "a") + b"/caf\xe9.tar")
    source = open_source(f"shards:{tmp_path}/a", "all")
    assert values(source) == list(range(5))
    assert values(open_source(f"shards:{tmp_path}/a", "all")) == list(range(5))
    os.truncate(os.fsencode(tmp_path / "a") + b"/caf\xe9.tar", 530)
    with pytest.raises(ValueError, match=r"caf\\xe9\.tar is cut off"):
        open_source(f"shards:{tmp_path}/a", "all")


# === Damaged indexes ===


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b"3",
        b"{}",
        b"",
        b'{"format": 2}',
        b"\xff\xfe",
        b'{"format": 2, "shards": 1}',
    ],
)
def test_a_damaged_table_is_rebuilt(tmp_path, content):
    spec = write_shards(tmp_path / "a")
    open_source(spec, "all")
    file_of(tmp_path, "shards.json").write_bytes(content)
    assert values(open_source(spec, "all")) == list(range(20))
    assert json.loads(file_of(tmp_path, "shards.json").read_text())["format"] == 2


@pytest.mark.parametrize("kind", ["examples", "keys"])
@pytest.mark.parametrize("size", [0, 5, 60, 130, -1])
def test_damaged_files_of_an_index_are_rebuilt(tmp_path, kind, size):
    spec = write_shards(tmp_path / "a")
    open_source(spec, "all")
    path = file_of(tmp_path, f"{kind}-*.npy")
    path.write_bytes(path.read_bytes()[:size])
    assert values(open_source(spec, "all")) == list(range(20))
    assert len(open_source(spec)) + len(open_source(spec, "validation")) == 20


def test_an_index_of_another_length_is_rebuilt(tmp_path):
    spec = write_shards(tmp_path / "a")
    open_source(spec, "all")
    path = file_of(tmp_path, "examples-*.npy")
    np.save(path, np.load(path)[:-1])
    assert values(open_source(spec, "all")) == list(range(20))


def test_damaged_pieces_are_scanned_again(tmp_path, monkeypatch):
    spec = write_shards(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(shard_index, "_commit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_source(spec, "all")
    for number, piece in enumerate(sorted((tmp_path / "a").rglob("pieces/*.npz"))):
        piece.write_bytes((b"", b"junk", piece.read_bytes()[:300], piece.read_bytes())[number])
    assert values(open_source(spec, "all")) == list(range(20))


@pytest.mark.parametrize("size", [0, 100, -1])
def test_damaged_lists_of_a_part_are_made_again(tmp_path, size):
    spec = write_shards(tmp_path / "a", count=8)
    held = names(open_source(spec, "validation", holdout=0.4))
    path = file_of(tmp_path, "parts/*")
    path.write_bytes(path.read_bytes()[:size])
    assert names(open_source(spec, "validation", holdout=0.4)) == held


def test_records_that_point_nowhere_are_errors(tmp_path):
    spec = write_shards(tmp_path / "a")
    open_source(spec, "all")
    path = file_of(tmp_path, "examples-*.npy")
    records = np.load(path)
    records["block"][0], records["size"][1] = 2**32 - 1, 2**32 - 1
    np.save(path, records)
    source = open_source(spec, "all")
    for number in (0, 1):
        with pytest.raises(ImageError, match="is not what it was when it was indexed"):
            source[number]
    assert source[2]["image"][0, 0, 0] == 2


# === Full disks ===


@pytest.fixture
def full(monkeypatch):
    """Writing below these folders fails, from a number of bytes on."""
    places = {}

    def fallocate(number, start, size):
        path = os.readlink(f"/proc/self/fd/{number}")
        for place, limit in places.items():
            if path.startswith(str(place)) and size > limit:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    return places


def test_on_a_full_disk_another_place_is_tried(tmp_path, full, caplog):
    spec = write_shards(tmp_path / "a")
    full[tmp_path / "a"] = 0
    assert values(open_source(spec, "all")) == list(range(20))
    assert file_of(tmp_path / "cache", "examples-*.npy")
    left = [p.name for p in (tmp_path / "a").rglob("*") if p.is_file() and p.suffix != ".tar"]
    assert left == ["lock"]
    # It is found there the next time.
    token = open_source(spec, "all").index.token
    assert open_source(spec, "all").index.token == token


def test_two_full_disks_are_one_sentence(tmp_path, full):
    spec = write_shards(tmp_path / "a")
    full[tmp_path] = 0
    with pytest.raises(OSError, match=r"neither to .*/a/\.mimzoo/\w+ \(No space left on device\) "):
        open_source(spec, "all")
    full.clear()
    assert values(open_source(spec, "all")) == list(range(20))


def test_index_files_are_written_and_never_mapped_for_writing(tmp_path, monkeypatch):
    def mapped(*_, **__):
        raise AssertionError("a write to a mapped file kills the process on a full disk")

    monkeypatch.setattr(np.lib.format, "open_memmap", mapped)
    monkeypatch.setattr(shard_build, "mapped", np.load)
    monkeypatch.setattr(shard_index, "mapped", np.load)
    assert values(open_source(write_shards(tmp_path / "a"), "all")) == list(range(20))


def test_a_part_needs_no_disk(tmp_path, monkeypatch):
    spec = write_shards(tmp_path / "a", count=8)
    expected = names(open_source(spec, "validation", holdout=0.4))
    for path in (tmp_path / "a").rglob("parts/*"):
        path.unlink()

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shard_parts, "written", no_space)
    assert names(open_source(spec, "validation", holdout=0.4)) == expected


# === Fingerprints ===


def test_a_fingerprint_of_keys_sizes_and_labels(tmp_path, monkeypatch):
    source = open_source(write_shards(tmp_path / "a", labels=True), "all")
    found = source.describe()
    assert (found["kind"], found["count"], found["num_classes"]) == ("shards", 20, 3)
    assert found["root"] == f"{tmp_path}/a/*.tar"
    # The same in one shard elsewhere, without its index.
    members = []
    for path in sorted(Path(tmp_path / "a").glob("*.tar")):
        with tarfile.open(path) as archive:
            members += [(m.name, archive.extractfile(m).read()) for m in archive]
    write_tar(tmp_path / "b" / "x.tar", members)
    assert open_source(f"shards:{tmp_path}/b", "all").fingerprint() == found["fingerprint"]
    sides = [open_source(f"shards:{tmp_path}/b", split) for split in ("train", "validation")]
    assert len({found["fingerprint"], *(side.fingerprint() for side in sides)}) == 3
    write_shards(tmp_path / "a", labels=True)
    os.utime(tmp_path / "a" / "00000.tar", (1, 1))
    assert open_source(f"shards:{tmp_path}/a", "all").fingerprint() == found["fingerprint"]
    monkeypatch.setitem(NAMED_SUBSETS, "coyo500k", NamedSubset(5))
    assert named_subset(source, "coyo500k").fingerprint() != found["fingerprint"]
    write_shards(tmp_path / "a")
    assert open_source(f"shards:{tmp_path}/a", "all").fingerprint() != found["fingerprint"]
