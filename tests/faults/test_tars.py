"""Tar files that are damaged, odd, or replaced while they are read."""

import io
import logging
import os
import shutil
import tarfile

import numpy as np
import pytest
from shard_files import png, values, write_tar

from mimzoo.data import open_source
from mimzoo.data.images import ImageError
from mimzoo.data.open_files import open_regular
from mimzoo.data.tar_headers import BLOCK, DamagedTarError, HeaderReader

pytestmark = pytest.mark.one_backend
NAMES = [f"{c}/{n}.png" for c in "abc" for n in range(4)]


@pytest.fixture
def tar(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, [(name, png(number)) for number, name in enumerate(NAMES)])
    return path


def members(data, tmp_path):
    path = tmp_path / "m.tar"
    path.write_bytes(data)
    with open_regular(path) as file:
        return list(HeaderReader(file).members())


def header(name=b"a.jpg", size=b"00000000001", kind=b"0", link=b"", **other):
    """A header whose checksum holds."""
    data = bytearray(BLOCK)
    for start, value in ((0, name), (124, size), (156, kind), (157, link), (257, b"ustar\00000")):
        data[start : start + len(value)] = value
    for start, value in other.items():
        data[int(start[1:]) : int(start[1:]) + len(value)] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def block(data):
    return data + bytes(-len(data) % BLOCK)


# === Damage ===


@pytest.mark.parametrize("place", [0, 50, 124, 130, 148, 156, 257, 300, 511])
def test_a_flipped_byte_in_a_header_is_noticed(tar, place):
    data = bytearray(tar.read_bytes())
    with tarfile.open(tar) as archive:
        start = archive.getmembers()[5].offset
    data[start + place] ^= 0x55
    tar.write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.tar is damaged .*byte {start} \(images before .*5"):
        open_source(tar)


def test_a_tar_that_is_cut_off_anywhere_is_noticed(tar):
    data = tar.read_bytes()
    with tarfile.open(tar) as archive:
        ends = [member.offset for member in archive.getmembers()[1:]]
    for end in (*ends[::4], ends[3] + 100, ends[3] + 600, ends[3] + BLOCK):
        tar.write_bytes(data[:end])
        with pytest.raises(ValueError, match=r"a\.tar is cut off.*fetch or pack it again"):
            open_source(tar)


def test_zeros_in_the_middle_are_no_end(tar):
    data = bytearray(tar.read_bytes())
    with tarfile.open(tar) as archive:
        start = archive.getmembers()[5].offset
    data[start : start + 2 * BLOCK] = bytes(2 * BLOCK)
    tar.write_bytes(data)
    with pytest.raises(ValueError, match=r"data follows the end mark, .*images before that: 5"):
        open_source(tar)


def test_data_behind_the_end_is_noticed(tar):
    tar.write_bytes(tar.read_bytes() * 2)
    with pytest.raises(ValueError, match="data follows the end mark"):
        open_source(tar)


def test_one_block_of_zeros_at_the_end_is_enough(tar):
    data = tar.read_bytes().rstrip(b"\0")
    tar.write_bytes(block(data) + bytes(BLOCK))
    assert len(open_source(tar, "all")) == 12


@pytest.mark.parametrize(
    "record",
    [b"15 size=-1536\n", b"999 size=1\n", b"0 size=1\n", b"12 size=1_0\n", b"x", b"9 size=1"],
)
def test_a_damaged_pax_header_ends_the_tar(tmp_path, record):
    data = header(size=b"%011o" % len(record), kind=b"x") + block(record)
    data += header() + block(b"1") + bytes(2 * BLOCK)
    with pytest.raises(DamagedTarError, match="extended header, at byte 0"):
        members(data, tmp_path)


def test_a_pax_header_of_many_lines_takes_no_time(tmp_path):
    record = b"6 a=b\n" * 150_000
    data = header(size=b"%011o" % len(record), kind=b"x") + block(record)
    assert [m.name for m in members(data + header() + block(b"1") + bytes(1024), tmp_path)] == [
        "a.jpg"
    ]


@pytest.mark.parametrize("size", [b"-0000000017", b"0000_000001", b"\xff" * 12, b"0000000009x"])
def test_sizes_that_are_none(tmp_path, size):
    with pytest.raises(DamagedTarError, match="at byte 0"):
        members(header(size=size) + block(b"1") + bytes(1024), tmp_path)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_names_that_would_fill_the_memory(tmp_path, kind):
    path = tmp_path / "m.tar"
    path.write_bytes(header(size=b"%011o" % 2**32, kind=kind))
    os.truncate(path, 2**33)  # sparse
    with open_regular(path) as file, pytest.raises(DamagedTarError, match="4294967296 bytes"):
        list(HeaderReader(file).members())


def test_signed_checksums_hold(tmp_path):
    data = bytearray(header(name="ü.jpg".encode()))
    data[148:156] = b"%06o\0 " % (int(data[148:154], 8) - 256 * 2)
    assert members(bytes(data) + block(b"1") + bytes(1024), tmp_path)[0].name == "ü.jpg"


# === Links and other kinds ===


def add(archive, name, kind, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    archive.addfile(member)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("spec", ["{}", "shards:{}"])
def test_links_are_followed(tmp_path, kind, spec, caplog):
    path = tmp_path / "a.tar"
    write_tar(path, [("./a/1.png", png(1)), ("blobs/x", png(2))], kind)
    with tarfile.open(path, "a", format=kind) as archive:
        add(archive, "b/1.png", tarfile.LNKTYPE, "./a/1.png")
        add(archive, "b/2.png", tarfile.LNKTYPE, "blobs/x")
        add(archive, "c/3.png", tarfile.SYMTYPE, "../b/2.png")
    source = open_source(spec.format(path), "all")
    assert values(source) == [1, 1, 2, 2]
    if "shards" not in spec:
        assert source.class_names == ("a", "b", "c")
        assert source.skipped == {"blobs/": "it has no image"}
    assert len(caplog.messages) == ("shards" not in spec)


def test_images_that_are_no_plain_files_are_named(tmp_path, caplog):
    path = tmp_path / "a.tar"
    write_tar(path, [("1.png", png(1))])
    with tarfile.open(path, "a") as archive:
        add(archive, "2.png", tarfile.SYMTYPE, "/etc/passwd")
        add(archive, "3.png", tarfile.LNKTYPE, "gone.png")
        add(archive, "4.png", tarfile.FIFOTYPE)
        add(archive, "5.png", tarfile.SYMTYPE, "5.png")
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        source = open_source(path, "all")
    assert values(source) == [1]
    assert "4 images are left out: 2.png (a link to /etc/passwd, which is not" in caplog.text
    assert source.skipped["4.png"] == "a pipe, no plain file"
    caplog.clear()
    shards = open_source(f"shards:{path}", "all")
    assert values(shards) == [1]
    assert "a.tar has 4 images that cannot be read: 4.png (pipe)" in caplog.text


def test_the_last_member_of_a_name_counts(tar):
    with tarfile.open(tar, "a") as archive:
        member = tarfile.TarInfo("a/0.png")
        member.size = len(png(99))
        archive.addfile(member, io.BytesIO(png(99)))
    assert values(open_source(tar, "all"))[0] == 99


def test_names_in_a_tar_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.tar"
    names = [raw.decode("utf-8", "surrogateescape") for raw in (b"caf\xe9/\xff.png", b"x/2.png")]
    write_tar(path, [(name, png(1)) for name in names], tarfile.GNU_FORMAT)
    source = open_source(path, "all")
    assert source.class_names == (r"caf\xe9", "x")
    assert len(open_source(path, "validation", holdout=0.5)) == 1
    assert len(open_source(f"shards:{path}", "validation", holdout=0.5)) == 1
    write_tar(path, [(name, b"junk") for name in names], tarfile.GNU_FORMAT)
    for spec in (path, f"shards:{path}"):
        with pytest.raises(ImageError, match=r"a\.tar:caf\\xe9/\\xff\.png: not an image"):
            open_source(spec, "all")[0]


# === A file that is replaced ===


def test_a_replaced_tar_is_noticed(tar, tmp_path):
    source = open_source(tar, "all")
    assert values(source) == list(range(12))
    # The same number of bytes, and other images under the old names' places.
    other = tmp_path / "b.tar"
    write_tar(other, [(f"z/{name}", png(number)) for number, name in enumerate(reversed(NAMES))])
    assert other.stat().st_size == tar.stat().st_size
    shutil.copyfile(other, tar)
    with pytest.raises(ImageError, match=r"a\.tar was changed after it was opened; start again"):
        source[3]
    tar.unlink()
    with pytest.raises(ImageError, match=r"a\.tar cannot be read: No such file"):
        source[3]


def test_a_touched_tar_is_the_same(tar):
    source = open_source(tar, "all")
    shards = open_source(f"shards:{tar}", "all")
    os.utime(tar, (1, 1))
    assert values(source) == values(shards) == list(range(12))


def test_a_fingerprint_of_names_and_sizes(tar, tmp_path):
    found = open_source(tar, "all").describe()
    assert (found["kind"], found["root"], found["count"]) == ("tar", str(tar), 12)
    write_tar(tmp_path / "x" / "b.tar", [(f"in/{n}", png(k)) for k, n in enumerate(NAMES)])
    same = open_source(tmp_path / "x" / "b.tar", "all")
    assert same.fingerprint() == found["fingerprint"]
    write_tar(tar, [(n, png(k) + b"\0" * (k == 5)) for k, n in enumerate(NAMES)])
    assert open_source(tar, "all").fingerprint() != found["fingerprint"]
    assert np.array_equal(open_source(tar, "all").labels, same.labels)
