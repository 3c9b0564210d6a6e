"""Presets that are incomplete, damaged or hostile: refused in one sentence, or made harmless."""

import json
import os
import re
import shutil
import tracemalloc
from pathlib import Path

import h5py
import keras
import keras_hub
import numpy as np
import pytest
import torch
from mimzoo_training.cli import main
from PIL import Image
from test_convert_layouts import state_of

from mimzoo import preset_info
from mimzoo.convert import convert, export
from mimzoo.convert.files import read_tensors, weight_files
from mimzoo.downstream import knn, knn_accuracy, linear_probe
from mimzoo.hub import resolve
from mimzoo.hub.card import card
from mimzoo.hub.escape import code, markdown, one_line
from mimzoo.hub.manifest import check_manifest, parse_manifest, portable
from mimzoo.hub.saving import RECORDS
from mimzoo.models import Backbone, ImageClassifier
from mimzoo.pretraining import MAE

pytestmark = pytest.mark.one_backend
NANO = "vit_nano_mae_fmnist_20ep"


@pytest.fixture
def old(tmp_path) -> Path:
    """A preset of today, without a manifest."""
    folder = tmp_path / "old"
    shutil.copytree(preset_info(NANO).folder, folder)
    (folder / "manifest.json").unlink(missing_ok=True)
    return folder


@pytest.fixture
def new(tmp_path) -> Path:
    """A preset with the manifest that `save_to_preset` writes."""
    MAE.from_preset(NANO).save_to_preset(tmp_path / "new")
    return tmp_path / "new"


def change(path: Path, *names: str, to) -> None:
    """Changes an entry of a JSON file, in place."""
    data = json.loads(path.read_text())
    inner = data
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = to
    path.write_text(json.dumps(data))


def fewer_blocks(folder: Path) -> None:
    change(folder / "config.json", "config", "depth", to=4)


def smaller_decoder(folder: Path) -> None:
    change(folder / "task.json", "config", "decoder", "config", "depth", to=1)


def no_class_token(folder: Path) -> None:
    change(folder / "config.json", "config", "class_token", to=False)


def cut_off(folder: Path) -> None:
    path = folder / "model.weights.h5"
    path.write_bytes(path.read_bytes()[:-5000])


def without(name: str):
    return lambda folder: (folder / name).unlink()


def not_finite(folder: Path) -> None:
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        file[names[0]][...] = np.nan


def no_mean(folder: Path) -> None:
    path = folder / "image_converter.json"
    data = json.loads(path.read_text())
    del data["config"]["mean"]
    path.write_text(json.dumps(data))


def pipe(name: str):
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


DAMAGES = {
    "finite": (not_finite, "model.weights.h5"),
    "mean": (no_mean, "image_converter.json"),
    "pipe": (pipe("config.json"), "config.json"),
    "pipe of weights": (pipe("task.weights.h5"), "task.weights.h5"),
    "head": (without("task.weights.h5"), "task.weights.h5"),
    "statistics": (without("image_converter.json"), "image_converter.json"),
    "task": (without("task.json"), "task.json"),
    "weights": (without("model.weights.h5"), "model.weights.h5"),
    "blocks": (fewer_blocks, "config.json"),
    "part": (no_class_token, "config.json"),
    "decoder": (smaller_decoder, "task"),
    "end": (cut_off, "model.weights.h5"),
}


@pytest.mark.parametrize("kind", ["old", "new"])
@pytest.mark.parametrize("name", DAMAGES)
def test_an_incomplete_preset_is_refused(name, kind, request):
    """D1: it loaded with a random head, other statistics, or without the surplus."""
    folder = request.getfixturevalue(kind)
    MAE.from_preset(folder)
    damage, file = DAMAGES[name]
    damage(folder)
    with pytest.raises(ValueError, match=re.escape(file)) as caught:
        MAE.from_preset(folder)
    assert "\n" not in str(caught.value)
    if name != "decoder":
        with pytest.raises(ValueError, match=re.escape(file)):
            ImageClassifier.from_preset(folder, num_classes=10, drop_path_rate=0.1)


def flipped(folder: Path) -> None:
    path = folder / "model.weights.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("cls", [keras_hub.models.Backbone, keras_hub.models.ImageClassifier])
def test_kerashub_refuses_it_as_well(cls, tmp_path):
    """Its own `from_preset` does not call ours, but loads by `load_weights`."""
    mine = tmp_path / "mine"
    ImageClassifier.from_preset(NANO, num_classes=10).save_to_preset(mine)
    assert cls.from_preset(str(mine))
    for damage in (flipped, without("image_converter.json"), without("task.weights.h5")):
        bad = shutil.copytree(mine, tmp_path / "bad")
        damage(bad)
        with pytest.raises(ValueError, match=r"manifest.json|lacks"):
            cls.from_preset(str(bad))
        shutil.rmtree(bad)


quantises = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")


@quantises
@pytest.mark.parametrize("cls", [Backbone, ImageClassifier])
def test_quantised_presets_load(cls, tmp_path):
    more = {"num_classes": 3, "head_init_std": 0.1} if cls is ImageClassifier else {}
    model = cls.from_preset(NANO, **more)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3)).astype("float32")
    model.quantize("int8")
    expected = model.predict(pixels, verbose=0)
    model.save_to_preset(tmp_path / "int8")
    loaded = cls.from_preset(tmp_path / "int8")
    np.testing.assert_array_equal(loaded.predict(pixels, verbose=0), expected)
    with pytest.raises(ValueError, match=r"is quantised.*load it without dtype"):
        cls.from_preset(tmp_path / "int8", dtype="float32")
    if cls is ImageClassifier:
        other = keras_hub.models.ImageClassifier.from_preset(str(tmp_path / "int8"))
        np.testing.assert_array_equal(other.predict(pixels, verbose=0), expected)


@quantises
def test_a_backbone_is_not_saved_over_a_task(old, new, tmp_path):
    task = MAE.from_preset(NANO)
    for folder in (old, new):
        before = (folder / "model.weights.h5").read_bytes()
        with pytest.raises(ValueError, match="holds a task, whose head would stay with this ba"):
            task.backbone.save_to_preset(folder)
        assert (folder / "model.weights.h5").read_bytes() == before
        for name in RECORDS:  # over which no weights are saved
            (folder / name).unlink(missing_ok=True)
        for _ in range(2):
            task.save_to_preset(folder)
        MAE.from_preset(str(folder))
    for _ in range(2):
        task.backbone.save_to_preset(tmp_path / "alone")


def test_a_task_of_kerashub_is_saved(tmp_path):
    task = MAE.from_preset(NANO)
    head = keras.layers.Dense(2)
    other = keras_hub.models.Task(task.backbone.input, head(task.backbone.output))
    other.backbone, other.head, other.preprocessor = task.backbone, head, None
    for _ in range(2):
        keras_hub.models.Task.save_to_preset(other, str(tmp_path))
        head.kernel.assign(head.kernel + 1)
    assert (tmp_path / "task.json").is_file()


def test_a_quantised_decoder_is_not_saved(tmp_path):
    task = MAE.from_preset(NANO)
    task.backbone.quantize("int8")
    task.save_to_preset(tmp_path / "backbone")
    assert MAE.from_preset(tmp_path / "backbone")
    task = MAE.from_preset(NANO)
    task.quantize("int8")
    with pytest.raises(ValueError, match="quantise the backbone alone"):
        task.save_to_preset(tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_changes_that_are_asked_for_are_no_damage(old, new):
    for folder in (old, new):
        assert MAE.from_preset(folder, image_shape=(56, 56, 3)).backbone.grid == (14, 14)
        assert Backbone.from_preset(folder, final_norm=False).norm is None
        (folder / "README.md").write_text("other words")
        assert Backbone.from_preset(folder)
    check_manifest(new)


def test_a_work_directory_is_a_preset(old, tmp_path):
    """E9: the command line took it, Python did not."""
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    shutil.move(old, run / "preset")
    assert resolve(run) == run / "preset"
    assert MAE.from_preset(run).backbone
    shutil.rmtree(run / "preset")
    (run / "checkpoints").mkdir()
    (run / "recipe.json").write_text("{}")
    with pytest.raises(ValueError, match="has written no preset yet: run its command again"):
        MAE.from_preset(run)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a\\..\\..\\x", "C:\\x", "C:x", "a//b", "a/./b", "NUL", "aux.json", ""],
)
def test_names_that_leave_their_folder(name, tmp_path):
    """D10: a backslash leads out of the folder on Windows."""
    assert not portable(name)
    (tmp_path / "manifest.json").write_text(
        json.dumps({"files": {name: {"sha256": "0", "size": 1}}})
    )
    with pytest.raises(ValueError, match="no portable file name"):
        check_manifest(tmp_path)


def test_manifests_of_any_kind():
    assert portable("sub/model.weights.h5")
    for text in (b"", b"[]", b"{}", b'{"files": 1}', b'{"files": {"a": 1}}', b"[" * 100_000):
        with pytest.raises(ValueError, match="it is not JSON"):
            parse_manifest(text)


HOSTILE = (
    "x\n# y <script>a()</script> ![i](http://e/t.png) [l](http://e) `c` \x1b[31mred\x1b]0;t\x07"
)


def test_text_of_others_is_harmless(old, tmp_path, capsys):
    """D3: newlines, HTML, links and escape codes of a preset's files."""
    assert one_line("a\x1b[2Jb\nc\u202e") == "a b c"
    assert code("a`b``c") == "``` a`b``c ```"
    for name in ("name", "origin", "data"):
        change(old / "recipe.json", "recipe", name, to=HOSTILE)
    change(old / "recipe.json", "run", "source", to=HOSTILE)
    results = json.loads((old / "results.json").read_text())
    results[0] |= {"metric": HOSTILE, "data": HOSTILE, "command": HOSTILE, "date": HOSTILE}
    (old / "results.json").write_text(json.dumps(results))
    text = card(old)
    body = text.partition("\n---\n")[2]
    assert "\x1b" not in text
    assert "\n# y" not in text
    prose = re.sub(r"(`+) ?.*?\1", "", body)  # what stands in code is shown as it is
    assert "<script>" not in prose
    assert not re.search(r"(?<!\\)\]\(http://e", prose)
    # A name is a folder of the publisher's and a repository.
    assert main(["publish", str(old), "--org", "me", "--dry-run"]) == 1
    printed = capsys.readouterr()
    assert "is no name of a repository" in printed.err
    assert "\x1b" not in printed.err + printed.out
    assert markdown("100 % & <b>") == "100 % &amp; &lt;b&gt;"


# --- checkpoints of training scripts ------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module._orig_mod.", "model.", "model._orig_mod."]
)
@pytest.mark.parametrize("holder", [None, "state_dict", "model_ema"])
def test_wrappers_of_training_are_stripped(prefix, holder, tmp_path):
    """D8: no known layout."""
    state, hints, _ = state_of("mae_encoder_only")
    tensors = {prefix + name: torch.from_numpy(value) for name, value in state.items()}
    saved = tensors if holder is None else {holder: tensors, "epoch": 3}
    torch.save(saved, tmp_path / "x.pth")
    convert(tmp_path / "x.pth", tmp_path / "preset", **hints)
    export(tmp_path / "preset", "mae_encoder_only", tmp_path / "back.safetensors")
    back = read_tensors(weight_files(tmp_path / "back.safetensors"))
    for name in back:
        np.testing.assert_array_equal(back[name], state[name])


def test_weights_come_before_their_average(tmp_path):
    one, two = {"a.b": torch.ones(1)}, {"a.b": torch.zeros(1)}
    torch.save({"model_ema": two, "loss": torch.ones(1), "model": one}, tmp_path / "x.pth")
    assert read_tensors([tmp_path / "x.pth"])["a.b"] == 1


# --- memory --------------------------------------------------------------------------------------


def test_probes_need_little_memory(monkeypatch):
    """D11: one-hot labels and float64 copies of all training features."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 1000, 200_000)
    features = random.normal(size=(200_000, 8)).astype("float32")
    tracemalloc.start()
    knn_accuracy(features, labels, features[:64], labels[:64])
    linear_probe(features, labels, features[:64], labels[:64], steps=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # 800 MB of one-hot labels before
    few = (features[:999], labels[:999] % 9, features[999:1500], labels[999:1500] % 9)
    found = knn_accuracy(*few)
    monkeypatch.setattr(knn, "TRAIN_CHUNK", 100)
    monkeypatch.setattr(knn, "CHUNK", 64)
    assert knn_accuracy(*few) == found


# --- cards and lists ----------------------------------------------------------------------------


def test_a_card_is_of_this_model(tmp_path):
    """E4: of a model tuned on photographs it said that it has seen grey clothes only."""
    model = ImageClassifier.from_preset(NANO, num_classes=3, class_names=["ant", "bee", "wasp"])
    model.save_to_preset(tmp_path / "mine")
    recipe = json.loads((preset_info(NANO).folder / "recipe.json").read_text())["recipe"]
    recipe |= {"kind": "finetune", "name": "mine", "data": "insects", "length": "20ep"}
    run = {"source": "insects", "num_examples": 894, "num_classes": 3, "start": NANO}
    run |= {"backend": "torch", "precision": "float32"}
    (tmp_path / "mine" / "recipe.json").write_text(json.dumps({"recipe": recipe, "run": run}))
    result = {"metric": "held-out accuracy", "value": 0.6321, "data": "insects (106 images)"}
    result |= {"date": "2026-11-26", "command": "mimzoo finetune"}
    (tmp_path / "mine" / "results.json").write_text(json.dumps([result]))
    text = card(tmp_path / "mine")
    assert "Fine-tuned on `insects`, 894 images in 3 classes." in text
    assert "Held-out accuracy 0.6321 on insects (106 images)." in text
    assert "## Classes\n\nant, bee, wasp." in text
    assert "clothes" not in text
    assert "fashion_mnist" not in text.partition("\n---\n")[0]
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == len(set(lines))


def test_a_card_shows_the_accuracy_of_each_class(tmp_path):
    model = ImageClassifier.from_preset(NANO, num_classes=30)
    model.save_to_preset(tmp_path)
    classes = [{"name": f"c|{n}", "images": 9, "accuracy": n / 30} for n in range(30)]
    classes[7]["accuracy"] = None  # no image of it
    result = {"metric": "accuracy", "value": 0.5, "data": "mine (270 images)", "classes": classes}
    result |= {"date": "2026-11-26", "command": "mimzoo finetune"}
    (tmp_path / "results.json").write_text(json.dumps([result]))
    text = card(tmp_path)
    assert "each class of mine (270 images), the lowest first; 9 more in `results.json`." in text
    assert "| c\\|0 | 9 | 0.0000 |" in text
    assert "c\\|7 |" not in text
    (tmp_path / "results.json").write_text(json.dumps([{**result, "classes": [1, {}, None]}]))
    assert "each class of" not in card(tmp_path)


def test_a_card_of_a_recipe_of_mimzoo_0_1_is_complete(old):
    stored = json.loads((old / "recipe.json").read_text())
    recipe = stored["recipe"]
    del recipe["task"]
    recipe |= {"mask_ratio": 0.75, "mask_patch_size": None, "patch_size": 4, "target": "hog"}
    recipe |= {"decoder_dim": 64, "decoder_depth": 2, "decoder_heads": 4, "target_options": {}}
    recipe["inferred"] = {"decoder_dim": "half of the width"}
    (old / "recipe.json").write_text(json.dumps(stored))
    text = card(old)
    assert "| masking | mask_ratio 0.75 |" in text
    assert "| decoder | decoder_dim 64, decoder_depth 2, decoder_heads 4 | half of the" in text
    assert "| target | target hog |" in text


@pytest.mark.parametrize(
    "change",
    [{"task": 5}, {"crop_scale": None, "crop": "random"}, {"inferred": ["a"]}, {"data": []}],
)
def test_a_card_of_a_damaged_recipe_is_one_sentence(change, old):
    stored = json.loads((old / "recipe.json").read_text())
    stored["recipe"] |= change
    (old / "recipe.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"recipe\.json is no recipe .*make the preset again"):
        card(old)


def test_a_manifest_lists_all_that_is_read(new):
    manifest = json.loads((new / "manifest.json").read_text())
    del manifest["files"]["model.weights.h5"]
    (new / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"model\.weights\.h5 is not in its folder's manifest"):
        MAE.from_preset(new)


def test_list_begins_with_what_loads_at_once(capsys):
    """E12: 406 lines without a heading."""
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Load at once")
    assert lines[1].split()[:5] == ["preset", "size", "pixels", "licence", "result"]
    assert lines[2].startswith(NANO)
    assert len(lines) < 40
    assert main(["list", "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 300
    assert main(["list", "--json", "--grid", "mae"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {"name", "axes", "checkpoint", "published", "pixels", "how_to_get"} <= set(entries[0])
    assert main(["list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 261


def test_pictures_are_not_read_for_cards(old):
    Image.new("RGB", (1, 1)).save(old / "curve.png")
    assert "](curve.png)" in card(old)
