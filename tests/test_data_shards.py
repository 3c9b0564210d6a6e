"""Shards as a source: reading, labels, parts, what is broken, and the loader on top."""

import io
import logging
import pickle
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shard_files import names, png, values, write_shards, write_tar

from mimzoo.data import Loader, ResizeCrop, named_subset, open_source, read_scores, take_subset
from mimzoo.data import loader as loader_module
from mimzoo.data.images import ImageError
from mimzoo.data.named_subsets import NAMED_SUBSETS, NamedSubset
from mimzoo.data.open_files import OpenFiles
from mimzoo.data.reader import TooManyCorruptError
from mimzoo.data.shards import ShardSource

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def reads(monkeypatch):
    """The shards that were read from."""
    seen = []
    plain = OpenFiles.read

    def read(self, path, *others):
        seen.append(Path(path).name)
        return plain(self, path, *others)

    monkeypatch.setattr(OpenFiles, "read", read)
    return seen


# === Reading ===


def test_all_ways_to_name_shards_give_one_order(tmp_path):
    spec = write_shards(tmp_path / "a", labels=True)
    (tmp_path / "a" / "00000_stats.json").write_text("{}")
    source = open_source(spec, "all")
    assert isinstance(source, ShardSource)
    assert values(source) == list(range(20))
    assert names(source)[:6] == [f"00000000{n}.jpg" for n in range(5)] + ["000010000.jpg"]
    assert source.encoded(7)[1].endswith("a/00001.tar:000010002.jpg")
    for path in ("{00000..00003}.tar", "*.tar", "0000[0-3].tar", "{0..0}{0000..0003}.tar"):
        assert values(open_source(f"shards:{tmp_path}/a/{path}", "all")) == list(range(20))
    assert values(open_source(f"shards:{tmp_path}/a/{{00002..00003}}.tar", "all")) == [
        *range(10, 20)
    ]
    assert values(open_source(f"shards:{tmp_path}/a/00002.tar", "all")) == [10, 11, 12, 13, 14]
    assert values(open_source(f"shards:{tmp_path}/**/0000[13].tar", "all")) == [
        *range(5, 10),
        *range(15, 20),
    ]
    with pytest.raises(IndexError, match="20 examples, no number 20"):
        source[20]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_kinds_of_tar(tmp_path, kind):
    long = "a/" * 30 + "b" * 90 + "/"
    members = [
        ("./x/1.png", png(1)),
        (long + "2.PNG", png(2)),
        ("._3.jpg", b""),
        ("4.webp", png(4)),
    ]
    if kind != tarfile.USTAR_FORMAT:
        members.append((f"{'n' * 300}.png", png(5)))
        members.append(("ü/6.png", png(6)))
    write_tar(tmp_path / "0.tar", members, kind)
    with tarfile.open(tmp_path / "0.tar", "a", format=kind) as archive:
        for name, type_ in (("link.png", tarfile.SYMTYPE), ("folder.png", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = type_, "/etc/passwd"
            archive.addfile(member)
    source = open_source(f"shards:{tmp_path}", "all")
    assert values(source) == [1, 2, 4, 5, 6][: len(source)]
    assert len(source) == (3 if kind == tarfile.USTAR_FORMAT else 5)
    assert source.example_name(0) == "x/1.png"


def test_sources_travel_to_threads_and_processes(tmp_path):
    source = take_subset(open_source(write_shards(tmp_path / "a", count=9), "all"), count=40)
    source._files.limit = 2
    copy = pickle.loads(pickle.dumps(source))
    copy._files = OpenFiles(2)
    results = [None] * 4

    def read(slot):
        order = np.random.default_rng(slot).permutation(40)
        found = {int(i): int(copy[i]["image"][0, 0, 0]) for i in order}
        results[slot] = [found[i] for i in range(40)]

    threads = [threading.Thread(target=read, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [values(source)] * 4
    assert len(copy._files) == 2


# === Labels ===


def test_labels(tmp_path):
    spec = write_shards(tmp_path / "a", labels=True)
    source = open_source(spec, "all")
    assert source.labels.tolist() == [n % 3 for n in range(20)]
    assert source.num_classes == 3
    assert source[4]["label"] == 1
    part = take_subset(source, count=6)
    assert np.bincount(part.labels).tolist() == [2, 2, 2]
    assert (
        [v % 3 for v in values(part)]
        == part.labels.tolist()
        == [e["label"] for e in part.fetch(range(6))]
    )
    images, labels = next(iter(Loader(source, 8, labels=True)))
    assert (images[:, 0, 0, 0] % 3).tolist() == labels.tolist()
    bare = open_source(write_shards(tmp_path / "b"), "all")
    assert not bare.labelled
    assert "label" not in bare[0]
    with pytest.raises(ValueError, match=r"has no labels; labels come from a file 0001\.cls"):
        _ = bare.labels
    field = open_source(f"shards:{tmp_path}/b/{{00000..00003}}.tar#label=class", "all")
    assert field.labels.tolist() == source.labels.tolist()


def test_labels_that_are_none(tmp_path, caplog):
    write_tar(tmp_path / "0.tar", [("1.jpg", png(1)), ("1.cls", b"1"), ("2.jpg", png(2))])
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        assert not open_source(f"shards:{tmp_path}", "all").labelled
    assert "is read without labels: 1 of 2 images have none" in caplog.text
    write_tar(
        tmp_path / "0.tar", [("1.jpg", png(1)), ("1.cls", b"1"), ("2.cls", b"5"), ("2.jpg", png(2))]
    )
    assert open_source(f"shards:{tmp_path}", "all").labels.tolist() == [1, 5]


# === Parts ===


def test_holdout_divides_by_keys(tmp_path, reads):
    spec = write_shards(tmp_path / "a", count=8, samples=25)
    train, held = open_source(spec), open_source(spec, "validation")
    assert not reads
    assert sorted(values(train) + values(held)) == list(range(200))
    assert values(held) == sorted(values(held))
    assert 8 <= len(held) <= 34
    half = open_source(spec, "validation", holdout=0.5)
    assert set(names(held)) < set(names(half))
    # Where a key lies does not matter, and new shards move nobody.
    write_shards(tmp_path / "a", count=2, samples=25, first=8)
    assert set(names(held)) < set(names(open_source(spec, "validation")))
    single = write_shards(tmp_path / "b", count=1, samples=2)
    for share in (1e-9, 0.999999):
        sides = [open_source(single, split, holdout=share) for split in ("train", "validation")]
        assert [len(side) for side in sides] == [1, 1]


def test_default_holdout_of_shards_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(ShardSource, "max_held_out", 4)
    spec = write_shards(tmp_path / "a", count=8, samples=25)
    assert len(open_source(spec, "validation")) < 12
    assert len(open_source(spec, "validation", holdout=0.3)) > 40


def test_named_subsets_read_the_index_only(tmp_path, monkeypatch, reads):
    for name, count in (("coyo500k", 20), ("coyo1m", 60)):
        monkeypatch.setitem(NAMED_SUBSETS, name, NamedSubset(count))
    source = open_source(write_shards(tmp_path / "a", count=8, samples=25, labels=True), "all")
    small, large = named_subset(source, "coyo500k"), named_subset(source, "coyo1m")
    assert not reads
    assert (len(small), len(large)) == (20, 60)
    assert set(small.numbers) < set(large.numbers)
    again = named_subset(open_source(f"shards:{tmp_path}/a", "all"), "coyo1m")
    assert isinstance(again.numbers.base, np.memmap)
    np.testing.assert_array_equal(again.numbers, large.numbers)
    # The same images as of a folder of such files.
    for index, name in enumerate(names(source)):
        path = tmp_path / "files" / str(index % 3) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.encoded(index)[0])
    files = open_source(tmp_path / "files", "all")
    assert set(values(named_subset(files, "coyo1m"))) == set(values(large))
    rows = "\n".join(f"{name},{i % 2}" for i, name in enumerate(names(source)))
    (tmp_path / "scores.csv").write_text(f"id,score\n{rows}\n")
    scores = read_scores(tmp_path / "scores.csv")
    kept = named_subset(source, "coyo1m", "filtered", scores, 1)
    assert all(value % 2 for value in values(kept))
    assert set(values(kept)) == set(values(named_subset(files, "coyo1m", "filtered", scores, 1)))
    assert np.bincount(named_subset(source, "coyo1m", "stratified").labels).tolist() == [20, 20, 20]
    # A part of a part reads what it needs.
    reads.clear()
    train = open_source(f"shards:{tmp_path}/a", holdout=0.5)
    part = named_subset(train, "coyo500k")
    assert set(part.numbers) < set(train.numbers)
    assert not reads
    values(part)
    assert len(reads) == 20
    with pytest.raises(ValueError, match=r"coyo1m is 60 images, and .* has 20"):
        named_subset(part, "coyo1m")


def test_one_id_twice_has_no_named_subset(tmp_path):
    write_tar(tmp_path / "0.tar", [("cat/1.jpg", png(1)), ("dog/2.jpg", png(2))])
    write_tar(tmp_path / "1.tar", [("dog/1.jpg", png(3))])
    source = open_source(f"shards:{tmp_path}", "all")
    assert source.damage is None
    with pytest.raises(
        ValueError,
        match=r"several examples of one name \(cat/1.jpg in 0.tar and dog/1.jpg in 1.tar\)",
    ):
        named_subset(source, "in1k10")


# === What is broken ===


def cut_off(path):
    """In the middle of the second image."""
    path.write_bytes(path.read_bytes()[: 6 * 512 + 512 + 20])


def test_damaged_and_missing_shards_are_named(tmp_path, caplog):
    write_shards(tmp_path / "a", count=10)
    cut_off(tmp_path / "a" / "00002.tar")
    (tmp_path / "a" / "00005.tar").unlink()
    (tmp_path / "a" / "00007.tar").write_bytes(b"junk" * 1000)
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        source = open_source(f"shards:{tmp_path}/a/{{00000..00009}}.tar", "all")
    message = (
        f"3 of the 10 shards in {tmp_path}/a cannot be used whole: 00002.tar is cut off in the "
        "middle of an image or other member (images before that: 1); 00005.tar is missing; "
        "00007.tar is damaged or no uncompressed tar file, at byte 0 (images before that: 0)"
    )
    assert caplog.messages == [message]
    assert values(source) == [*range(11), *range(15, 25), *range(30, 35), *range(40, 50)]
    with pytest.raises(TooManyCorruptError) as caught:
        Loader(take_subset(source, count=20), 4)
    assert str(caught.value) == (
        f"{message}: more than max_corrupt=0.01 allows; fetch these shards again, or raise "
        "max_corrupt to continue without"
    )
    assert len(Loader(source, 4, max_corrupt=0.3)) == 9
    # A shard that was mended is whole again.
    write_shards(tmp_path / "a", count=10)
    mended = open_source(f"shards:{tmp_path}/a/{{00000..00009}}.tar", "all")
    assert mended.damage is None
    assert values(mended) == list(range(50))


def test_a_shard_cut_between_members_is_named(tmp_path):
    write_shards(tmp_path / "a", count=1)
    path = tmp_path / "a" / "00000.tar"
    path.write_bytes(path.read_bytes()[: 1024 * 6])
    assert "is cut off: it has no end mark (images before that: 2)" in str(
        open_source(f"shards:{path}", "all").damage
    )


def test_repeated_keys_are_left_out(tmp_path):
    write_shards(tmp_path / "a", count=3)
    write_tar(
        tmp_path / "a" / "00003.tar",
        [("000010002.png", png(77)), ("x.jpg", png(78)), ("x.png", png(79))],
    )
    source = open_source(f"shards:{tmp_path}/a", "all")
    assert values(source) == [*range(15), 78]
    with pytest.raises(TooManyCorruptError) as caught:
        Loader(source, 4)
    assert str(caught.value) == (
        f"2 of the 18 images in {tmp_path}/a repeat the key of an earlier one and are left out: "
        "000010002.png in 00003.tar; x.png in 00003.tar: more than max_corrupt=0.01 allows; give "
        "each image a key of its own, or raise max_corrupt to continue without"
    )
    Loader(source, 4, max_corrupt=0.2)
    write_tar(tmp_path / "a" / "00001.tar", [("y.jpg", png(80))])
    assert values(open_source(f"shards:{tmp_path}/a", "all")) == [
        *range(5),
        80,
        *range(10, 15),
        77,
        78,
    ]


def test_images_that_cannot_be_decoded_are_named(tmp_path, caplog):
    write_tar(tmp_path / "0.tar", [(f"{n}.jpg", b"junk" if n == 3 else png(n)) for n in range(8)])
    loader = Loader(open_source(f"shards:{tmp_path}", "all"), 4, shuffle=False)
    with caplog.at_level(logging.WARNING, "mimzoo.data"):
        seen = np.concatenate(list(loader))[:, 0, 0, 0].tolist()
    assert seen == [0, 1, 2, 4, 4, 5, 6, 7]
    assert loader.corrupt == {
        3: f"{tmp_path}/0.tar:3.jpg: not an image in a format that Pillow reads"
    }


def test_shards_that_change_during_a_run(tmp_path):
    source = open_source(write_shards(tmp_path / "a"), "all")
    (tmp_path / "a" / "00001.tar").unlink()
    with pytest.raises(ImageError, match=r"00001.tar cannot be read: No such file or directory"):
        source[5]
    cut_off(tmp_path / "a" / "00002.tar")
    with pytest.raises(
        ImageError, match=r"00002.tar is not what it was when it was indexed; start"
    ):
        source[14]
    assert len(list(Loader(source, 4, shuffle=False, max_corrupt=1.0))) == 5


def test_shards_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("empty", "no shards at .*empty: looked for .*empty/.*tar"),
        ("nowhere.tar", "no shards at"),
        ("{000..009}.tar", "none of the 10 shards .* is there"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            open_source(f"shards:{tmp_path}/{path}")
    for path, message in (
        ("{009..000}.tar", "a range has to rise"),
        ("{a,b}.tar", r"write a range of shards as \{00000\.\.00999\}"),
        ("empty#class", "only label=FIELD is understood"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(f"shards:{tmp_path}/{path}")
    write_tar(tmp_path / "none" / "0.tar", [("1.txt", b"words")])
    with pytest.raises(ValueError, match=r"no images in the 1 shards .*samples like 0001\.jpg"):
        open_source(f"shards:{tmp_path}/none")
    (tmp_path / "none" / "0.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no images in the 1 shards .*: 0.tar is cut off"):
        open_source(f"shards:{tmp_path}/none")


# === The loader ===


@pytest.mark.parametrize("sorted_at_most", [0, 10**6])
def test_loader_resumes_and_divides_among_processes(tmp_path, monkeypatch, sorted_at_most):
    monkeypatch.setattr(loader_module, "MAX_SORTED", sorted_at_most)
    source = open_source(write_shards(tmp_path / "a", count=5, samples=9), "all")
    options = {"seed": 3, "epochs": None, "transform": ResizeCrop(3)}
    whole = Loader(source, 6, **options)
    stream = iter(whole)
    seen = [next(stream) for _ in range(16)]
    for epoch in (0, 1):
        order = np.concatenate(seen[7 * epoch : 7 * epoch + 7])[:, 0, 0, 0].tolist()
        assert len(set(order)) == 42
        assert order != sorted(order)
    again = Loader(source, 6, **options)
    again.resume(whole.state(9))
    for one, other in zip(seen[9:], again, strict=False):
        np.testing.assert_array_equal(one, other)
    parts = [iter(Loader(source, 6, shard=(number, 3), **options)) for number in range(3)]
    for batch in seen[:8]:
        np.testing.assert_array_equal(batch, np.concatenate([next(part) for part in parts]))


def test_the_input_needs_no_tensorflow(tmp_path):
    """Our own modules: KerasHub, which `mimzoo` itself imports, brings TensorFlow."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "jpeg")
    write_tar(tmp_path / "0.tar", [(f"{n}.jpg", buffer.getvalue()) for n in range(4)])
    code = (
        "import sys, types; p = types.ModuleType('mimzoo'); p.__path__ = ['mimzoo']; "
        "sys.modules['mimzoo'] = p; sys.modules['tensorflow'] = None\n"
        "from mimzoo.data import *\n"
        f"source = open_source('shards:{tmp_path}', 'all')\n"
        "t = Compose([RandomResizedCrop(8), RandomFlip()])\n"
        "l = Loader(source, 2, transform=t, normalize=Normalize(), num_threads=2)\n"
        "assert [x.shape for x in l.dataset()] == [(2, 8, 8, 3)] * 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
