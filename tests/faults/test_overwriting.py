"""Faults of commands and `save_to_preset` that write where something is already."""

import json

import numpy as np
import pytest
from commands import RECIPE, photos, says
from keras.ops import convert_to_numpy
from mimzoo_training import cli
from mimzoo_training.files import RunError, write_file
from PIL import Image

from mimzoo.models import Backbone, ImageClassifier, ViTBackbone

# ruff: noqa: F401, F811 (imported fixtures)

pytestmark = pytest.mark.one_backend


def backbone(**options) -> ViTBackbone:
    return ViTBackbone((8, 8, 3), patch_size=4, embed_dim=16, depth=2, num_heads=2, **options)


def test_a_picture_replaces_neither_a_folder_nor_an_image(tmp_path, capsys):
    image = tmp_path / "a.png"
    Image.new("RGB", (28, 28)).save(image)
    before = image.read_bytes()
    (tmp_path / "pictures").mkdir()
    run = ("reconstruct", RECIPE, image, "--out")
    assert "is a folder: name a file in it" in says(capsys, *run, tmp_path / "pictures")
    assert "is one of the images" in says(capsys, *run, image)
    assert (tmp_path / "pictures").is_dir()
    assert image.read_bytes() == before
    with pytest.raises(RunError, match="is a folder: name a file"):
        write_file(tmp_path / "pictures", lambda path: path.write_text("a"))


def test_a_preset_has_one_set_of_weights(tmp_path):
    """Keras writes one file or shards, and would leave those of the other form."""
    model = backbone()
    for size in (10, 2e-5, 10, 1e-5):  # gigabytes
        model.patch_embed.projection.bias.assign(np.full(16, size))
        model.save_to_preset(tmp_path, max_shard_size=size)
        assert (tmp_path / "model.weights.h5").exists() == (size == 10)
        assert bool(list(tmp_path.glob("model_*.weights.h5"))) == (size != 10)
        loaded = Backbone.from_preset(str(tmp_path))
        for one, other in zip(model.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(*map(convert_to_numpy, (one, other)))
    (tmp_path / "model.weights.h5").write_bytes(b"old")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"has weights twice, in model\.weights\.h5"):
        Backbone.from_preset(str(tmp_path))


@pytest.mark.parametrize("name", ["results.json", "recipe.json", "conversion.json"])
def test_results_stay_with_their_weights(name, tmp_path):
    for model in (ImageClassifier(backbone(), 2), backbone()):
        folder = tmp_path / type(model).__name__
        model.save_to_preset(folder)
        (folder / name).write_text("[]")
        with pytest.raises(ValueError, match=f"holds {name}, which would speak of weights"):
            model.save_to_preset(folder)


def test_a_run_among_its_images(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    run = ("pretrain", RECIPE, "--data", ".", "--length", "1it", "--batch-size", "4")
    assert cli.main([*run, "--workdir", "runs/a"]) == 1
    assert "the work directory runs/a lies inside" in capsys.readouterr().err
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.main([*run, "--workdir=~/run"]) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())
