"""Classifiers know what their outputs are called."""

import json

import keras_hub
import numpy as np
import pytest
from checkpoints import golden, write
from mimzoo_training import cli
from PIL import Image

import mimzoo
from mimzoo.convert import convert
from mimzoo.models import ImageClassifier, ViTBackbone

pytestmark = pytest.mark.one_backend
NAMES = ["cat", "dog", "owl"]


def classifier(**options) -> ImageClassifier:
    backbone = ViTBackbone((8, 8, 3), patch_size=4, embed_dim=8, depth=1, num_heads=2)
    cls = ImageClassifier.for_backbone(ViTBackbone)
    return cls(backbone, **{"num_classes": 3, "class_names": NAMES, **options})


def test_predictions_have_names_and_probabilities():
    logits = np.log([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]])
    first, second = classifier().decode_predictions(logits, top=2)
    assert [name for name, _ in first] == ["dog", "cat"]
    assert [share for _, share in first] == pytest.approx([0.7, 0.2])
    assert second[0] == ("cat", pytest.approx(0.5))
    # Logits of any size, and probabilities that stay what they are.
    assert classifier().decode_predictions(logits + 1e4)[0][0][1] == pytest.approx(0.7)
    soft = classifier(activation="softmax").decode_predictions([[0.1, 0.2, 0.7]])
    assert soft[0][0] == ("owl", pytest.approx(0.7))
    assert classifier(class_names=None).decode_predictions(logits)[0][0][0] == "1"
    with pytest.raises(ValueError, match=r"must be \(images, 3\), got \(1, 4\)"):
        classifier().decode_predictions(np.zeros((1, 4)))


def test_imagenet_has_its_names():
    model = classifier(num_classes=1000, class_names="imagenet")
    scores = np.zeros((1, 1000))
    scores[0, 1] = 9.0
    assert model.decode_predictions(scores, top=1)[0][0][0] == "goldfish"


def test_names_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match="names 2 classes, num_classes is 3: give as many"):
        classifier(class_names=["a", "b"])
    with pytest.raises(ValueError, match="names 1000 classes, num_classes is 3"):
        classifier(class_names="imagenet")
    with pytest.raises(ValueError, match='a list of names, "imagenet" or None'):
        classifier(class_names="cifar")


def test_names_are_saved_and_forgotten_with_the_head(tmp_path):
    classifier().save_to_preset(str(tmp_path))
    assert ImageClassifier.from_preset(str(tmp_path)).class_names == tuple(NAMES)
    assert ImageClassifier.from_preset(str(tmp_path), num_classes=5).class_names is None
    renamed = ImageClassifier.from_preset(str(tmp_path), num_classes=2, class_names=["a", "b"])
    assert renamed.class_names == ("a", "b")
    theirs = keras_hub.models.ImageClassifier.from_preset(str(tmp_path))
    assert theirs.class_names == tuple(NAMES)
    assert keras_hub.models.ImageClassifier.from_preset(str(tmp_path), num_classes=5) is not None


def test_a_photograph_is_classified(tmp_path, capsys):
    classifier().save_to_preset(str(tmp_path / "preset"))
    Image.fromarray(np.full((30, 20, 3), 90, np.uint8)).save(tmp_path / "a.png")
    command = ["classify", str(tmp_path / "preset"), str(tmp_path / "a.png"), "--top", "2"]
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(tmp_path / "a.png")
    assert len(lines) == 3
    assert lines[1].split()[-1] in NAMES
    model = ImageClassifier.from_preset(str(tmp_path / "preset"))
    best = model.decode_predictions(model.predict(np.full((1, 8, 8, 3), 90), verbose=0))[0]
    assert lines[1].split() == [f"{100 * best[0][1]:.1f}", "%", best[0][0]]
    assert cli.main(["classify", "vit_nano_mae_fmnist_20ep", str(tmp_path / "a.png")]) == 1
    assert "is no classifier: `mimzoo finetune` makes one" in capsys.readouterr().err


def test_converted_classifiers_of_a_thousand_are_imagenets(tmp_path):
    _, state, facts = golden("swinv2_cls")
    rng = np.random.default_rng(0)
    state["head.weight"] = rng.normal(size=(1000, state["head.weight"].shape[1])).astype("float32")
    state["head.bias"] = np.zeros(1000, "float32")
    convert(write(state, tmp_path / "a.safetensors"), tmp_path / "preset", **facts)
    assert ImageClassifier.from_preset(str(tmp_path / "preset")).class_names == "imagenet"


def test_fine_tuning_keeps_the_names_of_the_data(tmp_path):
    from mimzoo_training import classify
    from mimzoo_training.recipes import get_recipe

    recipe = get_recipe("vit_nano_mae_finetune_fmnist_28")
    names = mimzoo.data.open_source("embedded", "train").class_names
    model = classify.build_classifier(
        "vit_nano_mae_fmnist_20ep", recipe, 10, False, "float32", names
    )
    model.save_to_preset(str(tmp_path))
    stored = json.loads((tmp_path / "task.json").read_text())["config"]["class_names"]
    assert stored == list(names)
