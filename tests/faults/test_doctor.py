"""`mimzoo doctor` names what is wrong with data, and says so by its exit status."""

import os
import shutil

import numpy as np
import pytest
from mimzoo_training import cli
from PIL import Image
from shard_files import png, write_shards, write_tar

pytestmark = pytest.mark.one_backend


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMZOO_CACHE", str(tmp_path / "cache"))


def write(path, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(abs(hash(str(path)))).integers(0, 256, (side, side + 1, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path, "png")


def doctor(capsys, *arguments):
    code = cli.main(["doctor", *map(str, arguments)])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    return code, lines


def test_good_data(tmp_path, capsys):
    for split, count in (("train", 3), ("valid", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                write(tmp_path / "d" / split / name / f"{number}.png", 20 + number)
    code, lines = doctor(capsys, tmp_path / "d")
    assert code == 0
    assert lines[-1] == "nothing is wrong"
    assert "cat 3 2" in lines
    split = next(line for line in lines if line.startswith("train"))
    assert split.startswith("train 6 6 ")
    assert split.endswith("20 x 21 21 x 22 22 x 23")


def test_everything_that_can_be_wrong(tmp_path, capsys):
    root = tmp_path / "d"
    for name in ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "valid/dog/1.png"):
        write(root / name)
    write(root / "train/dog/small.png", 9)
    (root / "train/cat/broken.png").write_bytes(b"junk")
    (root / "train/cat/[red]a\x1b.heic").write_bytes(b"x")
    os.mkfifo(root / "train/cat/pipe.jpg")
    for copy in ("train/cat/again.png", "train/dog/again.png", "valid/dog/again.png"):
        shutil.copy(root / "train/cat/1.png", root / copy)
    code, lines = doctor(capsys, root)
    assert code == 1
    found = "\n".join(lines)
    for row in (
        r"left out 2 train/cat/[red]a\x1b.heic (Pillow reads it only with",
        f"cannot be read 1 {root}/train/cat/broken.png: not an image",
        "too small 1 train/dog/small.png (9 x 10)",
        "same image twice 1 train/cat/again.png = train/cat/1.png",
        "same image in two classes 1 train/dog/again.png = train/cat/1.png",
        "same image in two splits 1 valid/dog/again.png = train/cat/1.png",
        "empty class 1 cat in validation",
        "train/cat/pipe.jpg (a pipe)",
    ):
        assert row in found
    assert doctor(capsys, root, "--sample", 1, "--min-side", 5)[1][2].startswith("train 7 1")


@pytest.mark.parametrize("spec", ["{}", "shards:{}"])
def test_shards(tmp_path, capsys, spec):
    write_shards(tmp_path / "a")
    code, lines = doctor(capsys, spec.format(tmp_path / "a"), "--min-side", 1)
    assert (code, lines[-1]) == (0, "nothing is wrong")
    write_tar(tmp_path / "a" / "00001.tar", [("x.jpg", png(99)), ("x.cls", b"cat")])
    (tmp_path / "a" / "00002.tar").write_bytes(b"junk" * 500)
    code, lines = doctor(capsys, spec.format(tmp_path / "a"), "--min-side", 1)
    assert code == 1
    assert any(line.startswith("shards 1 1 of the 4 shards") for line in lines)
    assert any(line.startswith("labels 1 00001.tar:x.cls holds 'cat'") for line in lines)
    path = next((tmp_path / "a").rglob("keys-*"))
    np.save(path, np.load(path) + 1)
    assert any(
        "is damaged: remove" in line for line in doctor(capsys, spec.format(tmp_path / "a"))[1]
    )


def test_what_cannot_be_read_at_all(tmp_path, capsys):
    write_tar(tmp_path / "a.tar", [("1.png", png(1))])
    os.truncate(tmp_path / "a.tar", 600)
    assert cli.main(["doctor", str(tmp_path / "a.tar")]) == 1
    assert "a.tar is cut off" in capsys.readouterr().err
    assert cli.main(["doctor", str(tmp_path / "nowhere")]) == 1
    assert cli.main(["doctor", "embedded", "--sample", "3"]) == 0
