"""A run leaves a preset, can be stopped anywhere, and says what is wrong."""

import csv
import dataclasses
import errno
import json
import signal

import keras
import numpy as np
import pytest
from mimzoo_training import checkpoint, loop, parts, workdir
from mimzoo_training.finetune import finetune
from mimzoo_training.interrupt import Interrupted
from mimzoo_training.loop import segments
from mimzoo_training.recipes import get_recipe, recipe_from_json
from mimzoo_training.runner import pretrain
from mimzoo_training.workdir import RunError, Workdir
from safetensors.numpy import load_file

from mimzoo.data import ArraySource
from mimzoo.downstream import extract_features, linear_probe
from mimzoo.models import ImageClassifier, ViTBackbone
from mimzoo.models.vit import VIT_SIZES
from mimzoo.pretraining import MAE

COUNT = 22  # of which 20 fill the 5 batches of an epoch


@pytest.fixture(autouse=True)
def _pico(monkeypatch):
    monkeypatch.setitem(VIT_SIZES, "pico", (16, 2, 2, 4))


@pytest.fixture
def source() -> ArraySource:
    random = np.random.default_rng(1)
    labels = np.arange(COUNT) % 2
    images = random.integers(0, 100, (COUNT, 8, 8, 3)) + 120 * labels[:, None, None, None]
    return ArraySource(images.astype("uint8"), labels, ("dark", "light"), "tiny train")


@pytest.fixture
def recipe():
    return dataclasses.replace(
        get_recipe("vit_nano_mae_fmnist_20ep"),
        name="vit_pico_mae_tiny_12it",
        size="pico",
        data="tiny",
        num_examples=COUNT,
        image_size=8,
        length="12it",
        batch_size=4,
        crop_padding=1,
        drop_path_rate=0.3,
        mask_ratio=0.5,
        decoder_dim=16,
        decoder_depth=1,
        decoder_heads=2,
        preset_dtype="float32",
    )


@pytest.fixture
def tuning():
    return dataclasses.replace(
        get_recipe("vit_nano_mae_finetune_fmnist_28"),
        name="vit_pico_mae_finetune_tiny_8",
        size="pico",
        data="tiny",
        num_examples=COUNT,
        image_size=8,
        length="8it",
        batch_size=4,
        crop_padding=1,
        warmup="5%",
        drop_path_rate=0.3,
    )


@pytest.fixture
def quiet():
    lines = []
    return lines, lines.append


def tensors(folder, step):
    return load_file(folder / "checkpoints" / f"step_{step:09d}.safetensors")


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=1e-6, err_msg=name)


def at_step(monkeypatch, step, act):
    """Calls `act` when the run has done `step` steps, once."""
    usual = loop._Steps.on_train_batch_end
    done = []

    def watched(self, batch, logs=None):
        if self.trainer.state["step"] + 1 == step and not done:
            done.append(step)
            act()
        usual(self, batch, logs)

    monkeypatch.setattr(loop._Steps, "on_train_batch_end", watched)


def crash():
    raise MemoryError("the machine went away")


def test_segments():
    assert list(segments(0, 10, 5)) == [(0, 2, 5)]
    assert list(segments(3, 12, 5)) == [(0, 1, 2), (1, 2, 5), (2, 3, 2)]
    assert list(segments(10, 12, 5)) == [(2, 3, 2)]
    assert list(segments(6, 8, 5)) == [(1, 2, 2)]
    assert list(segments(10, 10, 5)) == []


@pytest.mark.parametrize("how", ["signal", "crash"])
def test_a_stopped_run_goes_on_exactly(how, recipe, source, tmp_path, monkeypatch, quiet):
    _, say = quiet
    pretrain(recipe, source, tmp_path / "whole", say=say)
    stopping = {"checkpoint_seconds": 0.0} if how == "crash" else {}
    with monkeypatch.context() as patch:
        if how == "signal":
            at_step(patch, 7, lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(Interrupted, match="same command again") as stop:
                pretrain(recipe, source, tmp_path / "parts", say=say)
            assert stop.value.exit_code == 130
            assert checkpoint.latest(tmp_path / "parts" / "checkpoints").stem[-1] == "7"
        else:
            at_step(patch, 8, crash)
            with pytest.raises(MemoryError):
                pretrain(recipe, source, tmp_path / "parts", say=say, **stopping)
            assert checkpoint.latest(tmp_path / "parts" / "checkpoints").stem[-1] == "5"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Other numbers may have been drawn in the meantime.
    keras.utils.set_random_seed(99)
    pretrain(recipe, source, tmp_path / "parts", say=say)
    assert_same_state(tensors(tmp_path / "whole", 12), tensors(tmp_path / "parts", 12))
    for name in ("step", "epoch", "loss", "lr", "images"):
        whole, again = ([row[name] for row in log_of(tmp_path / run)] for run in ("whole", "parts"))
        np.testing.assert_allclose(whole, again, atol=1e-6)
    assert list((tmp_path / "parts").rglob(".*")) == []


def test_what_a_run_leaves(recipe, source, tmp_path, quiet):
    _, say = quiet
    recipe = dataclasses.replace(recipe, preset_dtype="float16")
    place = pretrain(
        recipe, source, tmp_path, validation=source, command="mimzoo pretrain x", say=say
    )
    names = {p.name for p in tmp_path.iterdir()}
    assert {"recipe.json", "log.csv", "log.jsonl", "curve.png", "preset", "results.json"} <= names
    assert {"reconstruction_1.png", "reconstruction_2.png", "reconstruction_2.4.png"} <= names
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["5", "10", "12"]
    assert list(rows[0]) == list(workdir.COLUMNS)
    assert float(rows[-1]["images"]) == 48
    assert float(rows[-1]["lr"]) == 0
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    # --- the preset ---
    assert recipe_from_json(json.loads((place.preset / "recipe.json").read_text())["recipe"])
    result = json.loads((place.preset / "results.json").read_text())[0]
    assert result["command"] == "mimzoo pretrain x"
    assert result["date"]
    card = (place.preset / "README.md").read_text()
    assert card.partition("```python\n")[2].startswith("import mimzoo\n")
    task = MAE.from_preset(str(place.preset))
    loss = parts.masked_loss(task, source, parts.test_transform(recipe), parts.normalize(recipe), 4)
    assert loss == pytest.approx(result["value"], abs=1e-5)
    assert loss == pytest.approx(float(rows[-1]["val_loss"]), abs=0.01)
    pixels = keras.Model.predict(task, {"images": np.zeros((1, 8, 8, 3)), "masks": masks(task)})
    assert pixels.shape == (1, 4, 48)
    classifier = ImageClassifier.from_preset(str(place.preset), num_classes=3)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(classifier.backbone.weights[0]),
        tensors(tmp_path, 12)["model/0000"],
        atol=1e-3,
    )


def masks(task):
    return task.draw_masks(np.arange(1))


def test_tensorboard_reads_the_events(recipe, source, tmp_path, quiet):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    pretrain(recipe, source, tmp_path, validation=source, say=quiet[1])
    events = loader.EventFileLoader(str(next(tmp_path.glob("events.*")))).Load()
    values = {
        (event.step, value.tag): value.tensor.float_val[0]
        for event in events
        for value in event.summary.value
    }
    row = log_of(tmp_path)[-1]
    assert values[12, "val_loss"] == pytest.approx(row["val_loss"])
    assert values[12, "loss"] == pytest.approx(row["loss"])


def test_a_finished_run_does_nothing(recipe, source, tmp_path, quiet, monkeypatch):
    lines, say = quiet
    pretrain(recipe, source, tmp_path, say=say)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    monkeypatch.setattr(loop.Trainer, "run", crash)
    pretrain(recipe, source, tmp_path, say=say)
    assert "finished" in lines[-1]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_another_recipe_is_refused_by_its_fields(recipe, source, tmp_path, quiet):
    pretrain(recipe, source, tmp_path, say=quiet[1])
    other = dataclasses.replace(recipe, weight_decay=0.1, mask_ratio=0.75)
    with pytest.raises(RunError, match=r"mask_ratio .*weight_decay \(was 0.05, is 0.1\)"):
        pretrain(other, source, tmp_path, say=quiet[1])
    with pytest.raises(RunError, match="precision"):
        pretrain(recipe, source, tmp_path, precision="mixed_bfloat16", say=quiet[1])


def test_a_foreign_folder_is_left_alone(recipe, source, tmp_path, quiet):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"thesis\.tex"):
        pretrain(recipe, source, tmp_path, say=quiet[1])


def test_a_loss_that_is_not_finite_names_the_step(recipe, source, tmp_path, quiet, monkeypatch):
    usual = parts.Loader.batch

    def broken(self, step):
        batch = usual(self, step)
        if step == 7:  # the eighth
            batch["images"][:] = np.nan
        return batch

    monkeypatch.setattr(parts.Loader, "batch", broken)
    with pytest.raises(RunError, match="at step 8"):
        pretrain(recipe, source, tmp_path, checkpoint_seconds=0.0, say=quiet[1])
    found = load_file(checkpoint.latest(tmp_path / "checkpoints"))
    assert all(np.isfinite(value).all() for value in found.values())


def test_mixed_precision_leaves_a_float32_preset(recipe, source, tmp_path, quiet):
    place = pretrain(recipe, source, tmp_path, precision="mixed_bfloat16", say=quiet[1])
    task = MAE.from_preset(str(place.preset))
    assert task.backbone.compute_dtype == "float32"
    assert "mixed_bfloat16" in (place.preset / "README.md").read_text()


def test_data_that_is_not_the_recipes_gets_its_name(recipe, source, tmp_path, quiet):
    part = source.take(np.arange(12), "my photos")
    place = pretrain(recipe, part, tmp_path, say=quiet[1])
    stored = json.loads((place.preset / "recipe.json").read_text())["recipe"]
    assert stored["name"] == "vit_pico_mae_my-photos_12it"
    assert stored["num_examples"] == 12


# === Disks ===


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_the_start(recipe, source, tmp_path, quiet, monkeypatch):
    monkeypatch.setattr(workdir.os, "fsync", full)
    with pytest.raises(RunError, match=r"work directory.*No space left"):
        pretrain(recipe, source, tmp_path, say=quiet[1])


def test_too_little_room_is_told_before_training(recipe, source, tmp_path, quiet, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(workdir.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(loop.Trainer, "run", crash)
    with pytest.raises(RunError, match="make room"):
        pretrain(recipe, source, tmp_path, say=quiet[1])


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(
    recipe, source, tmp_path, quiet, monkeypatch
):
    import safetensors.numpy

    usual = safetensors.numpy.save_file
    calls = []

    def fills(tensors, path, metadata):
        calls.append(path)
        usual(tensors, path, metadata)
        if len(calls) == 2:
            full()

    monkeypatch.setattr(safetensors.numpy, "save_file", fills)
    with pytest.raises(RunError, match="No space left"):
        pretrain(recipe, source, tmp_path, checkpoint_seconds=0.0, say=quiet[1])
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_000000005.safetensors"]
    pretrain(recipe, source, tmp_path, say=quiet[1])


def test_a_file_in_place_of_the_folder(recipe, source, tmp_path, quiet):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(RunError, match="choose another"):
        pretrain(recipe, source, path, say=quiet[1])


def test_a_damaged_checkpoint_is_named(recipe, source, tmp_path, quiet, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 7, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted) as stop:
            pretrain(recipe, source, tmp_path, say=quiet[1])
    assert stop.value.exit_code == 143
    path = checkpoint.latest(tmp_path / "checkpoints")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match="damaged"):
        pretrain(recipe, source, tmp_path, say=quiet[1])


def test_only_two_checkpoints_are_kept(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, model, {"step": step})
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["step_000000002", "step_000000010"]
    assert checkpoint.load(checkpoint.latest(tmp_path), model) == {"step": 10}
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other.compile("adam", "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(RunError, match="another model"):
        checkpoint.load(checkpoint.latest(tmp_path), other)


def test_a_workdir_writes_whole_files_only(tmp_path):
    place = Workdir(tmp_path)
    (tmp_path / "a.txt").write_text("old")

    def half(path):
        path.write_text("ne")
        full()

    with pytest.raises(RunError):
        workdir.write_file(tmp_path / "a.txt", half)
    with pytest.raises(RunError):
        workdir.write_folder(place.preset, lambda folder: half(folder / "b.txt"))
    assert (tmp_path / "a.txt").read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", "checkpoints"}


# === Gradients ===


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch keeps gradients")
def test_every_gradient_is_cleared_between_steps(recipe):
    task = parts.build_task(recipe)
    classifier = ImageClassifier.for_backbone(ViTBackbone)(task.backbone, 2)
    for model in (task, task.backbone, classifier):
        listed = {id(parameter) for parameter in model.parameters()}
        assert all(id(v.value) in listed for v in model.trainable_variables)


# === Classification ===


@pytest.fixture
def preset(recipe, source, tmp_path, quiet):
    return str(pretrain(recipe, source, tmp_path / "pretrained", say=quiet[1]).preset)


def test_finetuning_learns_stops_and_goes_on(preset, source, tuning, tmp_path, quiet, monkeypatch):
    _, say = quiet
    tuning = dataclasses.replace(
        tuning,
        base_learning_rate=1.0,
        length="40it",
        mixup=0.2,
        cutmix=1.0,
        random_erasing=0.25,
        ema_momentum=0.9,
    )
    arguments = {"validation": source, "say": say, "validation_every": 4}
    place = finetune(preset, source, tmp_path / "whole", tuning, **arguments)
    result = json.loads((place.path / "results.json").read_text())[0]
    assert result["metric"] == "accuracy"
    assert result["value"] > 0.9
    with monkeypatch.context() as patch:
        at_step(patch, 23, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted):
            finetune(preset, source, tmp_path / "parts", tuning, **arguments)
    finetune(preset, source, tmp_path / "parts", tuning, **arguments)
    assert_same_state(tensors(tmp_path / "whole", 40), tensors(tmp_path / "parts", 40))

    name = json.loads((place.preset / "recipe.json").read_text())["recipe"]["name"]
    assert name == "vit_pico_mae_tiny_12it_ft_tiny_8"
    model = ImageClassifier.from_preset(str(place.preset))
    right = model.predict(source.images, verbose=0).argmax(1) == source.labels
    assert right.mean() == pytest.approx(result["value"], abs=1e-5)


def test_the_average_of_the_weights_is_put_in_place_at_the_end_only(
    preset, source, tuning, tmp_path, quiet
):
    tuning = dataclasses.replace(tuning, ema_momentum=0.5, base_learning_rate=0.1)
    place = finetune(preset, source, tmp_path / "w", tuning, say=quiet[1])
    state = tensors(place.path, 8)
    # The averages stand among the optimizer's tensors; the model's are equal to them.
    weight = next(v for k, v in sorted(state.items()) if k == "model/0000")
    averages = [v for k, v in state.items() if k[:5] == "optim" and v.shape == weight.shape]
    assert any(np.array_equal(weight, average) for average in averages)


def test_from_scratch_and_few_labels_are_told_by_the_name(preset, source, tuning, tmp_path, quiet):
    place = finetune(
        preset, source, tmp_path / "w", tuning, num_labels=8, from_scratch=True, say=quiet[1]
    )
    stored = json.loads((place.preset / "recipe.json").read_text())
    assert stored["recipe"]["name"] == "vit_pico_mae_tiny_12it_scratch_ft_tiny_8_8labels"
    assert stored["run"]["num_examples"] == 8


def test_a_linear_probe_run(preset, source, tuning, tmp_path, quiet):
    lines, say = quiet
    place = finetune(
        preset, source, tmp_path / "w", tuning, test=source, linear_probe=True, say=say
    )
    result = json.loads((place.path / "results.json").read_text())[0]
    assert result["protocol"] == "linear probe"
    assert result["value"] > 0.9
    finetune(preset, source, place.path, tuning, test=source, linear_probe=True, say=say)
    assert "is finished" in lines[-1]


def test_labels_are_checked_before_anything_is_computed(
    preset, source, tuning, tmp_path, quiet, monkeypatch
):
    monkeypatch.setattr(loop.Trainer, "run", crash)
    with pytest.raises(ValueError, match="label 1 at index 1 is out of range"):
        finetune(preset, source, tmp_path / "w", tuning, num_classes=1, say=quiet[1])
    bare = ArraySource(source.images, name="bare")
    with pytest.raises(ValueError, match="bare has no labels"):
        finetune(preset, bare, tmp_path / "v", tuning, say=quiet[1])
    with pytest.raises(ValueError, match="use `mimzoo finetune`"):
        pretrain(tuning, source, tmp_path / "u", say=quiet[1])


# === Linear probe ===


def test_linear_probe_separates_what_can_be_separated():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    features = np.eye(3)[labels] @ random.normal(size=(3, 8)) * 5 + random.normal(size=(90, 8))
    split = features[:60], labels[:60], features[60:], labels[60:]
    first = linear_probe(*split)
    assert first > 0.95
    assert linear_probe(*split) == first
    assert linear_probe(features[:60], random.permutation(labels[:60]), *split[2:]) < 0.8


def test_linear_probe_says_what_does_not_fit():
    features, labels = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="test: features must be"):
        linear_probe(features, labels, features, labels[:3])
    with pytest.raises(ValueError, match="out of range"):
        linear_probe(features, labels, features, labels + 1)


def test_features_are_pooled_tokens(source):
    backbone = ViTBackbone(image_shape=(8, 8, 3), patch_size=4, embed_dim=16, depth=1, num_heads=2)
    images = source.images.astype("float32") / 255
    batches = [(images[:16], source.labels[:16]), (images[16:], source.labels[16:])]
    tokens = keras.ops.convert_to_numpy(backbone(images))
    features, labels = extract_features(backbone, batches)
    np.testing.assert_allclose(features, tokens[:, 1:].mean(1), atol=1e-5)
    np.testing.assert_array_equal(labels, source.labels)
    features, labels = extract_features(backbone, [images], pooling="token")
    np.testing.assert_allclose(features, tokens[:, 0], atol=1e-5)
    assert labels is None
    with pytest.raises(ValueError, match="pooling"):
        extract_features(backbone, [images], pooling="max")
    with pytest.raises(ValueError, match="no batches"):
        extract_features(backbone, [])
