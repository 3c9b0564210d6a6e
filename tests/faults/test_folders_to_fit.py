"""Faults of folders given by name to `fit` and to commands: which images, and which classes."""

import json

import keras
import numpy as np
import pytest
from mimzoo_training.splits import open_asked, open_parts, open_test
from PIL import Image

from mimzoo.data import Loader, open_source
from mimzoo.models import ImageClassifier, ViTBackbone
from mimzoo.pretraining import MAE, MAEDecoder, MIMTask

pytestmark = pytest.mark.one_backend
NAMES = ("cat", "dog", "eel")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Folders of grey images, the brightness of which says the class; the names are relative."""
    for folder, count, names in (
        ("train", 20, NAMES),
        ("check", 10, NAMES),
        ("few", 10, NAMES[1:]),
    ):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(count):
                image = np.full((8, 8), 100 * NAMES.index(name) + number, "uint8")
                Image.fromarray(image).save(tmp_path / folder / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)


def backbone() -> ViTBackbone:
    return ViTBackbone((8, 8, 3), patch_size=4, embed_dim=8, depth=1, num_heads=2)


def classifier(num_classes=3, **options) -> ImageClassifier:
    model = ImageClassifier.for_backbone(ViTBackbone)(backbone(), num_classes, **options)
    model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    return model


def test_a_folder_is_used_whole_unless_it_is_given_twice(own):
    for model in (classifier(), MAE(backbone(), decoder=MAEDecoder(8, 1, 2))):
        model.compile(keras.optimizers.SGD(0.0))
        whole = model.evaluate("check", verbose=0, return_dict=True)["loss"]
        history = model.fit("train", validation_data="check", verbose=0).history
        assert history["val_loss"] == [pytest.approx(whole, rel=1e-5)]
        half = model.evaluate(open_source("train", "validation"), verbose=0, return_dict=True)
        history = model.fit("train", validation_data="./train/", verbose=0).history
        assert history["val_loss"] == [pytest.approx(half["loss"], rel=1e-5)]


def test_the_images_of_a_run(own):
    def counts(source, validation=None, test=None):
        train, held_out = open_parts(source, validation)
        tested = open_test(source, validation, test, held_out)
        return tuple(None if part is None else len(part) for part in (train, held_out, tested))

    kept = len(open_source("train", "validation"))
    assert 0 < kept < 20
    assert counts("train") == (60 - kept, kept, kept)
    assert counts("train", "check") == (60, 30, 30)
    assert counts("train", "check", "few") == (60, 30, 20)
    assert counts("train", None, "check") == (60 - kept, kept, 30)
    assert counts("embedded") == (1000, 2000, 10000)
    assert counts("embedded", "check") == (1000, 30, 10000)
    train = open_source("train", "all")
    assert counts(train) == (60, None, None)
    assert counts(train, "check") == (60, 30, 30)


def test_what_a_command_measures_on(own, tmp_path):
    def counts(trained_on, asked, split=None):
        described = {"fingerprint": trained_on.fingerprint(), "root": trained_on.describe()["root"]}
        (tmp_path / "recipe.json").write_text(json.dumps({"run": described}))
        return len(open_asked(asked, split, tmp_path))

    part, whole = (open_source("train", split) for split in ("train", "all"))
    assert counts(part, "train") == 60 - len(part)
    assert counts(part, "train", "train") == len(part)
    assert counts(part, "check") == counts(whole, "check") == 30
    with pytest.warns(UserWarning, match="the run was trained on these images"):
        assert counts(whole, "train") == 60


def test_classes_are_matched_by_name(own, tmp_path):
    model = classifier()
    model.fit("train", verbose=0)
    assert model.class_names == NAMES
    # Dogs are all that it knows.
    model.output_dense.bias.assign([0.0, 99.0, 0.0])
    assert model.evaluate("few", verbose=0)[1] == pytest.approx(0.5)
    assert model.fit("few", verbose=0).history["accuracy"] == [pytest.approx(0.5)]
    model.save_to_preset(tmp_path / "preset")
    same = ImageClassifier.from_preset(str(tmp_path / "preset"))
    same.compile(metrics=["accuracy"])
    assert same.class_names == NAMES
    assert same.evaluate("few", verbose=0)[1] == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"few numbers its classes in another way than the model"):
        model.evaluate(Loader(open_source("few", "all"), 4), verbose=0)
    other = classifier(class_names=("ant", "bee", "cow"))
    with pytest.raises(ValueError, match=r"does not know .* load the model with class_names=None"):
        other.fit("train", verbose=0)
    for count in (2, 4):
        with pytest.raises(ValueError, match=rf"the classifier {count} without .* num_classes=3"):
            classifier(count).fit("train", verbose=0)


def test_what_a_preset_cannot_give_is_asked_for(tmp_path, caplog):
    backbone().save_to_preset(str(tmp_path / "vit"))
    with pytest.raises(ValueError, match=r"holds no ImageClassifier .* give num_classes=…"):
        ImageClassifier.from_preset(str(tmp_path / "vit"))
    model = ImageClassifier.from_preset(str(tmp_path / "vit"), class_names=NAMES)
    assert model.num_classes == 3
    assert not caplog.records
    task = MAE.from_preset(str(tmp_path / "vit"), decoder=MAEDecoder(8, 1, 2))
    assert "vit holds no MAE: its backbone is loaded, and the decoder starts" in caplog.text
    task.save_to_preset(str(tmp_path / "mae"))
    path = tmp_path / "mae" / "task.json"
    path.write_text(path.read_text().replace("mimzoo>MAE", "mine>Own"))
    (tmp_path / "mae" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="holds a mine>Own, which is not known here: import"):
        MIMTask.from_preset(str(tmp_path / "mae"))
