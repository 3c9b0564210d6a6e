"""Commands on a run of their own, on every backend."""

# ruff: noqa: F401, F811 (imported fixtures)

import json
import re

import pytest
from commands import RECIPE, photos, says
from mimzoo_training import cli
from PIL import Image


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """The work directory of a short run by the command line."""
    folder = tmp_path_factory.mktemp("runs") / "nano"
    arguments = ["--data", str(photos), "--workdir", str(folder), "--length", "3it"]
    assert cli.main(["pretrain", RECIPE, *arguments, "--batch-size", "8"]) == 0
    return folder


@pytest.mark.one_backend
def test_pretrain_names_the_run_after_what_was_changed(run):
    stored = json.loads((run / "recipe.json").read_text())
    # A folder without splits keeps some of its 40 images back for validation.
    assert stored["recipe"]["name"].endswith("_3it_batch8")
    assert "fmnist" not in stored["recipe"]["name"]
    assert stored["run"]["num_examples"] < 40
    result = json.loads((run / "preset" / "results.json").read_text())[0]
    assert result["command"].startswith(f"mimzoo pretrain {RECIPE} --data")


@pytest.mark.one_backend
def test_a_finished_run_says_so(run, photos, capsys):
    arguments = ["--data", str(photos), "--workdir", str(run), "--length", "3it"]
    assert cli.main(["pretrain", RECIPE, *arguments, "--batch-size", "8"]) == 0
    assert "is finished" in capsys.readouterr().out


def test_evaluate_reconstruct_and_finetune_a_run(run, photos, tmp_path, capsys):
    assert cli.main(["evaluate", str(run), "--data", str(photos), "--split", "validation"]) == 0
    loss = json.loads((run / "preset" / "results.json").read_text())[0]["value"]
    assert f"masked loss {loss:.4f}" in capsys.readouterr().out

    images = sorted(map(str, photos.rglob("*.png")))[:3]
    picture = tmp_path / "out.png"
    arguments = ["--out", str(picture), "--mask-ratio", "0.5"]
    assert cli.main(["reconstruct", str(run), *images, *arguments]) == 0
    assert Image.open(picture).width > 100
    assert "mask ratio 0.5" in capsys.readouterr().out

    assert cli.main(["probe", str(run), "--data", str(photos), "--num-labels", "8"]) == 0
    printed = capsys.readouterr().out
    for name in ("linear probe", "8 nearest neighbours"):
        assert re.search(rf"{name} +8 labels  accuracy [01]\.\d{{4}}", printed)

    tuned = tmp_path / "tuned"
    arguments = ["--data", str(photos), "--length", "2it", "--batch-size", "8"]
    assert cli.main(["finetune", str(run), "--workdir", str(tuned), *arguments]) == 0
    accuracy = json.loads((tuned / "results.json").read_text())[0]["value"]
    capsys.readouterr()
    assert cli.main(["evaluate", str(tuned), "--data", str(photos)]) == 0
    assert f"accuracy {accuracy:.4f}" in capsys.readouterr().out
    assert "reconstructs nothing" in says(
        capsys, "reconstruct", tuned, images[0], "--out", tmp_path / "no.png"
    )


@pytest.mark.one_backend
def test_labels_out_of_range(run, photos, tmp_path, capsys):
    where = ["--data", "embedded", "--workdir", tmp_path / "w", "--batch-size", "8"]
    assert "is out of range: 5 classes" in says(
        capsys, "finetune", run, *where, "--num-classes", "5"
    )
    assert "has no labels" in says(
        capsys, "finetune", run, "--data", photos / "dark", "--workdir", tmp_path / "w"
    )


@pytest.mark.one_backend
def test_an_image_that_cannot_be_read(run, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"")
    printed = says(capsys, "reconstruct", run, tmp_path / "a.png", "--out", tmp_path / "b.png")
    assert "the file is empty" in printed
    printed = says(capsys, "reconstruct", run, tmp_path / "x.png", "--out", tmp_path / "b.png")
    assert "no such file" in printed
