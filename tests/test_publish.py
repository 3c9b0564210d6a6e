"""Publishing on a Hub on this machine: read back, resumed after a kill, refused, failing."""

import collections
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from mimzoo_training.cli import main
from mimzoo_training.publish.command import draw
from mimzoo_training.publish.fingerprint import compare, fingerprint, noise
from mimzoo_training.publish.items import find_item
from mimzoo_training.publish.publisher import tag_of
from PIL import Image
from released import Released
from test_convert_layouts import mae, randomized

from mimzoo.convert.importing import load
from mimzoo.hub import cache_folder, preset_info
from mimzoo.hub.catalogue import catalogue, grids
from mimzoo.hub.contents import Contents
from mimzoo.hub.manifest import read_manifest
from mimzoo.models import Backbone, ImageClassifier, ViTBackbone
from mimzoo.pretraining import SimMIM

GOLDEN = Path(__file__).parent / "golden" / "fingerprint_nano.json"
NANO = "vit_nano_mae_fmnist_20ep"
CELLS = [f"swinv2_small_simmim_{data}_125k" for data in ("in1k10", "in1k20", "in1k50")]
TUNED = [f"{name}_in1k_224" for name in CELLS[:2]]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A folder of small official checkpoints, one of them cut off."""
    released = Released(tmp_path_factory.mktemp("official"))
    for seed, name in enumerate((*CELLS, *TUNED)):
        path = released.write(preset_info(name), seed)
    path.write_bytes(path.read_bytes()[:-5000])
    return released.folder


@pytest.fixture
def tiny_grid(monkeypatch):
    """A grid of two models with their classifiers, and one with a recipe only."""
    monkeypatch.setitem(grids(), "tiny", {"title": "Tiny", "paper": "", "metrics": {}})
    for name in (*CELLS[:2], *TUNED, "swinv2_small_simmim_in22k_125k"):
        monkeypatch.setitem(catalogue(), name, dataclasses.replace(preset_info(name), grid="tiny"))


def publish(capsys, *arguments, code=0, org="mimzoo"):
    """Runs the command; gives (what happened, the rest of the line) by preset."""
    assert main(["publish", "--org", org, *map(str, arguments)]) == code
    out = capsys.readouterr().out
    assert "hf_test_token" not in out
    lines = out.partition("outcome")[2].splitlines()[1:]
    lines = lines[: next(n for n, line in enumerate(lines) if re.match(r"\d+ ", line))]
    rows = [line.partition("  ")[::2] for line in lines if not line.startswith(" ")]
    return {name: printed.strip() for name, printed in rows}


def says(capsys, *arguments):
    """Runs a command that does not begin; gives its one sentence."""
    assert main(["publish", *map(str, arguments)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert "hf_" not in lines[0]
    return lines[0]


def uploads(hub) -> dict[str, int]:
    return collections.Counter(entry.path for entry in hub.requests("^PUT /_lfs/"))


def nothing_left() -> bool:
    """Whether only the lock is in the work folder."""
    return [path.name for path in (cache_folder() / "publishing").iterdir()] == ["lock"]


def features(model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(noise(2, model.image_shape)))


# benchmarks/publish_grid.py reads on all backends.
@pytest.mark.one_backend
def test_what_was_published_loads_by_name(hub, official, capsys):
    names = (NANO, CELLS[0], TUNED[0])
    done = publish(capsys, *names, "--checkpoints", official)
    assert all(printed.startswith("published") for printed in done.values())
    theirs, ours = (ViTBackbone.from_preset(n) for n in (f"hf://mimzoo/{NANO}", NANO))
    np.testing.assert_array_equal(features(theirs), features(ours))
    for name, cls in ((CELLS[0], SimMIM), (TUNED[0], ImageClassifier)):
        checkpoint = official / preset_info(name).checkpoint.file
        _, converted, _ = load([checkpoint], None, {})
        loaded = cls.from_preset(name)
        assert type(loaded) is type(converted)
        np.testing.assert_array_equal(features(loaded.backbone), features(converted.backbone))
    assert ImageClassifier.from_preset(TUNED[0]).num_classes == 5


def test_the_fingerprint_is_the_same_on_every_backend():
    compare(fingerprint(preset_info(NANO).folder), json.loads(GOLDEN.read_text()))


@pytest.mark.one_backend
def test_a_bundled_preset(hub, capsys):
    assert publish(capsys, NANO)[NANO].startswith("published")
    repository = hub.repositories[f"mimzoo/{NANO}"]
    assert list(repository.tags) == [tag_of(json.loads(hub_file(hub, NANO, "manifest.json")))]
    assert b"](reconstruction.png)" in hub_file(hub, NANO, "README.md")
    (collection,) = hub.collections.values()
    assert collection["title"] == grids()["nano"]["title"]
    assert [item["id"] for item in collection["items"]] == [f"mimzoo/{NANO}"]
    assert nothing_left()

    # Once more: nothing changes, and no weights are downloaded.
    asked = hub.count()
    assert publish(capsys, NANO) == {NANO: "was there already"}
    after = [entry.line for entry in hub.log[asked:]]
    assert not [line for line in after if line.startswith(("POST", "PUT")) or "_cdn" in line]
    # A new card moves no tag and sends no weights.
    assert publish(capsys, NANO, "--again")[NANO].startswith("published")
    assert set(uploads(hub).values()) == {1}
    assert len(repository.tags) == 1


def hub_file(hub, name: str, file: str) -> bytes:
    return hub.repositories[f"mimzoo/{name}"].files()[file]


@pytest.mark.one_backend
def test_a_grid(hub, official, tiny_grid, capsys, monkeypatch):
    arguments = ("--grid", "tiny", "--checkpoints", official)
    before = hub.count()
    planned = publish(capsys, *arguments, "--dry-run", code=1)
    assert [printed.split("  ")[0] for printed in planned.values()].count("would be published") == 3
    changing = [e.line for e in hub.log[before:] if e.method != "GET"]
    assert set(changing) == {"POST /api/validate-yaml"}
    assert not hub.repositories

    done = publish(capsys, *arguments, code=1)
    assert len(done) == 5
    good = [*CELLS[:2], TUNED[0]]
    assert all(done[name].startswith("published") for name in good)
    assert done["swinv2_small_simmim_in22k_125k"] == "recipe only"
    assert done[TUNED[1]].startswith("failed")
    assert "cut off" in done[TUNED[1]]
    (collection,) = hub.collections.values()
    assert {item["id"] for item in collection["items"]} == {f"mimzoo/{name}" for name in good}
    manifest = json.loads(hub_file(hub, CELLS[0], "manifest.json"))
    assert manifest["licence"] == "MIT"
    recipe = json.loads(hub_file(hub, CELLS[0], "recipe.json"))["recipe"]
    assert recipe["name"] == CELLS[0]

    # The next run does what is left: the file is whole now.
    Released(official).write(preset_info(TUNED[1]), 77)
    commits = hub.count("POST .*/commit/")
    again = publish(capsys, *arguments)
    assert [again[name] for name in good] == ["was there already"] * 3
    assert again[TUNED[1]].startswith("published")
    assert hub.count("POST .*/commit/") == commits + 1
    assert set(uploads(hub).values()) == {1}
    assert nothing_left()


@pytest.mark.one_backend
def test_killed_and_started_again(hub, official, tmp_path, capsys):
    """SIGKILL while a commit is answered: it is there, but neither read back nor tagged."""
    hub.fail(f"POST /api/models/mimzoo/{CELLS[1]}/commit/", hang_after=0, times=1)
    arguments = ["publish", *CELLS, "--org", "mimzoo", "--checkpoints", str(official)]
    process = subprocess.Popen(
        [sys.executable, "-m", "mimzoo_training.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        hub.wait_for(f"POST /api/models/mimzoo/{CELLS[1]}/commit/", 90)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not nothing_left()
    done = publish(capsys, *CELLS, "--checkpoints", official)
    assert done[CELLS[0]] == "was there already"
    assert done[CELLS[1]].endswith("had been uploaded before")
    assert done[CELLS[2]].startswith("published")
    assert set(uploads(hub).values()) == {1}
    assert len(uploads(hub)) == 6
    assert hub.count("POST .*/commit/") == 3
    assert all(len(r.tags) == 1 for r in hub.repositories.values())
    assert nothing_left()


@pytest.mark.one_backend
def test_the_official_file_is_downloaded(hub, official, capsys):
    file = preset_info(CELLS[0]).checkpoint.file
    hub.add("zdaxie/SimMIM", {f"simmim_swinv2_pretrain_models/{file}": official / file})
    planned = publish(capsys, CELLS[0], "--dry-run")
    assert planned[CELLS[0]].startswith("would be published")
    assert hub.count("GET /_cdn/") == 1
    assert publish(capsys, CELLS[0])[CELLS[0]].startswith("published")
    downloads = hub.count("GET /_cdn/")
    assert publish(capsys, CELLS[0]) == {CELLS[0]: "was there already"}
    assert hub.count("GET /_cdn/") == downloads
    assert nothing_left()
    assert not (cache_folder() / "downloads").exists()
    assert not (cache_folder() / "converted").exists()


@pytest.mark.one_backend
def test_a_hub_that_fails(hub, official, capsys):
    arguments = (*CELLS[:2], "--checkpoints", official)
    hub.fail(f"POST .*{CELLS[0]}/commit/", status=500, times=1)
    hub.fail("GET /_cdn/", corrupt=True, times=1)
    done = publish(capsys, *arguments, code=1)
    assert "the Hub answers 500 (injected)" in done[CELLS[0]]
    assert done[CELLS[1]].startswith("failed")
    assert "sha256" in done[CELLS[1]]
    assert not any(r.tags for r in hub.repositories.values())
    # What was sent is not sent again, and what came back wrong is read once more.
    done = publish(capsys, *arguments)
    assert done[CELLS[0]].startswith("published")
    assert done[CELLS[1]].endswith("had been uploaded before")
    assert set(uploads(hub).values()) == {1}


@pytest.mark.one_backend
def test_licences(hub, tmp_path, capsys):
    names = ("mixmim_base_in1k_600ep", "vit_base_mae_in1k_1600ep")
    done = publish(capsys, *names, "--checkpoints", tmp_path, code=1)
    assert all(printed.startswith("refused: licence") for printed in done.values())
    assert "--allow-licence unknown" in done[names[0]]
    assert hub.count("POST") == 0
    allowed = ("--allow-licence", "unknown", "--allow-licence", "CC-BY-NC-4.0")
    done = publish(capsys, *names, "--checkpoints", tmp_path, *allowed, code=1)
    assert all(f"{tmp_path} has no m" in printed for printed in done.values())
    done = publish(capsys, names[0], *allowed, code=1)
    assert "in a browser" in done[names[0]]


@pytest.mark.one_backend
def test_a_folder_of_ones_own(hub, tmp_path, capsys):
    backbone = randomized(mae().backbone)
    backbone.save_to_preset(str(tmp_path / "my_vit"))
    (tmp_path / "my_vit" / "notes.py").write_text("import os")
    assert publish(capsys, tmp_path / "my_vit", org="me", code=1)["my_vit"].startswith("refused")
    allowed = ("--allow-licence", "unknown")
    done = publish(capsys, tmp_path / "my_vit", *allowed, org="me")
    assert done["my_vit"].startswith("published")
    assert "notes.py" not in hub.repositories["me/my_vit"].files()
    assert not hub.collections
    loaded = Backbone.from_preset("hf://me/my_vit")
    np.testing.assert_array_equal(features(loaded), features(backbone))
    # Other weights: a new commit and a tag of its own; a file that somebody added stays.
    hub.add("me/my_vit", {"LICENSE": "mine"})
    randomized_again = mae().backbone
    (tmp_path / "my_vit" / "metadata.json").unlink()
    randomized_again.save_to_preset(str(tmp_path / "my_vit"))
    assert publish(capsys, tmp_path / "my_vit", *allowed, org="me")["my_vit"].startswith("publ")
    repository = hub.repositories["me/my_vit"]
    assert len(repository.tags) == 2
    assert "LICENSE" in repository.files()


@pytest.mark.one_backend
def test_the_gate(hub, official, tmp_path, capsys, monkeypatch):
    run = (CELLS[0], "--checkpoints", official)
    assert "is no member of strangers" in says(capsys, *run, "--org", "strangers")
    assert "nothing to publish" in says(capsys, "--org", "mimzoo")
    assert "Nearest names" in says(capsys, "swinv2_smal_simmim_in1k_125k", "--org", "mimzoo")
    assert "is no preset" in says(capsys, tmp_path, "--org", "mimzoo")
    assert "unknown grid" in says(capsys, "--grid", "none", "--org", "mimzoo")
    assert "no folder" in says(
        capsys, CELLS[0], "--checkpoints", tmp_path / "none", "--org", "mimzoo"
    )
    assert "no image" in says(capsys, *run, "--org", "mimzoo", "--images", tmp_path / "a.png")
    monkeypatch.setattr("shutil.disk_usage", lambda path: collections.namedtuple("D", "free")(9))
    assert "9 B free" in says(capsys, *run, "--org", "mimzoo")
    monkeypatch.undo()
    asked = hub.count()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert "the Hub refuses the token" in says(capsys, *run, "--org", "mimzoo")
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token" in says(capsys, *run, "--org", "mimzoo")
    assert {entry.path for entry in hub.log[asked:]} == {"/api/whoami-v2"}
    # A dry run goes without, and says so.
    assert main(["publish", *map(str, run), "--org", "mimzoo", "--dry-run"]) == 0
    assert "a dry run only: there is no token" in capsys.readouterr().err


@pytest.mark.one_backend
@pytest.mark.parametrize(("preset", "own"), [(NANO, False), ("mixmim_nano_fmnist_10ep", True)])
def test_reconstructions_are_drawn_for_the_card(preset, own, tmp_path):
    """Of Fashion-MNIST, or of one image that is given."""
    images = [tmp_path / "a.png"] if own else []
    if own:
        Image.new("RGB", (50, 40), "red").save(images[0])
    draw(Contents.read(preset_info(preset).folder), tmp_path / "drawn.png", images)
    with Image.open(tmp_path / "drawn.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    red = (pixels[..., 0] > 200) & (pixels[..., 1:] < 60).all(-1)
    assert red.any() == own


@pytest.mark.one_backend
def test_the_fingerprint_knows_a_model_again(tmp_path):
    folder = preset_info(NANO).folder
    wanted = fingerprint(folder)
    compare(fingerprint(folder), json.loads(json.dumps(wanted)))
    assert wanted["tensors"] == {"model.weights.h5": 78, "task.weights.h5": 32}
    for part, name, value in (("features", "mean", 0.1), ("outputs", "std", float("nan"))):
        other = json.loads(json.dumps(wanted))
        other[part][name] = value
        with pytest.raises(ValueError, match=f"the {part} of the fingerprints differ"):
            compare(other, wanted)
    with pytest.raises(ValueError, match="tensors"):
        compare({**wanted, "tensors": {}}, wanted)
    pixels = noise(2, (3, 4, 3))
    assert pixels.dtype == np.float32
    assert abs(pixels).max() <= 2
    assert pixels[0, 0, 0, 0] != pixels[1, 0, 0, 0]


@pytest.mark.one_backend
def test_a_work_directory(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "preset").symlink_to(preset_info(NANO).folder)
    assert find_item(str(tmp_path / "run")).name == NANO
    assert read_manifest(tmp_path) is None
