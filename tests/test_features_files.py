"""What a preset, a checkpoint and a stored step keep of a teacher: its name and digest."""

import json

import h5py
import keras_hub
import numpy as np
import pytest
from keras import ops
from mimzoo_training import checkpoint, export
from mimzoo_training.distribution import Devices
from test_features import mae, simmim, target_of, vit

from mimzoo.hub import resolve
from mimzoo.models import ViTBackbone
from mimzoo.pretraining import MAE


@pytest.mark.parametrize("make", [mae, simmim])
def test_a_preset_holds_the_name_and_the_digest_only(make, images, tmp_path):
    folder = str(tmp_path / "teacher")
    vit(embed_dim=32, depth=4).save_to_preset(folder)
    task = make(target_of(folder, layers=[1, 2], loss="mse", loss_on="all"))
    count = sum(int(np.prod(v.shape)) for v in task.frozen_variables)
    assert count > 40_000
    task.save_to_preset(tmp_path / "p")
    parameters = sum(int(np.prod(v.shape)) for v in checkpoint.own(task, task.weights))
    stored = sum(path.stat().st_size for path in (tmp_path / "p").glob("*.h5"))
    assert parameters == task.count_params() - count
    assert stored < 4 * parameters + 2000 * len(task.weights)
    config = json.loads((tmp_path / "p" / "task.json").read_text())["config"]["target"]["config"]
    assert config["teacher"] == folder
    assert len(config["digest"]) == 64

    expected = task.evaluate(images, verbose=0)
    loaded = type(task).from_preset(str(tmp_path / "p"))
    assert loaded.evaluate(images, verbose=0) == pytest.approx(expected, rel=1e-5)

    # Nor does the file that Keras writes of the whole task.
    task.save_weights(tmp_path / "all.weights.h5")
    with h5py.File(tmp_path / "all.weights.h5") as file:
        sizes = [0]
        for name, group in file.items():
            if name != "optimizer":
                group.visititems(lambda _, x: sizes.append(getattr(x, "size", 0)))
    assert sum(sizes) == parameters
    other = make(target_of(folder, layers=[1, 2], loss="mse", loss_on="all"))
    other.load_weights(tmp_path / "all.weights.h5")
    assert other.evaluate(images, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_a_teacher_that_is_not_found_or_another(images, tmp_path):
    folder = tmp_path / "teacher"
    vit().save_to_preset(folder)
    task = mae(target_of(str(folder)))
    task.save_to_preset(tmp_path / "p")
    expected = task.evaluate(images, verbose=0)

    folder.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"teacher '.*teacher' cannot be loaded .*FeatureTarget"):
        MAE.from_preset(str(tmp_path / "p"))
    # Given anew, the decoder is the stored one.
    for teacher in (str(tmp_path / "moved"), ViTBackbone.from_preset(str(tmp_path / "moved"))):
        loaded = MAE.from_preset(str(tmp_path / "p"), target=target_of(teacher))
        assert loaded.evaluate(images, verbose=0) == pytest.approx(expected, rel=1e-5)
    other = MAE.from_preset(str(tmp_path / "p"), target=target_of(teacher, loss="mse"))
    assert not np.array_equal(*(x.decoder.get_weights()[0] for x in (other, loaded)))

    vit(qkv_bias="none").save_to_preset(folder)
    with pytest.raises(ValueError, match=r"has other weights .*sha256"):
        MAE.from_preset(str(tmp_path / "p"))


def test_a_teacher_without_a_name_has_to_be_given_again(images, tmp_path):
    teacher = vit()
    task = mae(target_of(teacher))
    task.save_to_preset(tmp_path / "p")
    with pytest.raises(ValueError, match=r"given as a model .* give it again"):
        MAE.from_preset(str(tmp_path / "p"))
    loaded = MAE.from_preset(str(tmp_path / "p"), target=target_of(teacher))
    expected = task.evaluate(images, verbose=0)
    assert loaded.evaluate(images, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_a_preset_tells_its_normalisation(tmp_path):
    """Of the bundled preset; a backbone alone tells none."""
    target = target_of("vit_nano_mae_fmnist_20ep", image_size=16)
    target.load()
    stored = keras_hub.layers.ImageConverter.from_preset(str(resolve(target.name)))
    np.testing.assert_allclose(target.teacher_normalization, (stored.mean, stored.std), rtol=1e-6)
    assert target.model.inputs[0].shape[1:] == (16, 16, 3)
    vit().save_to_preset(tmp_path / "backbone")
    target = target_of(str(tmp_path / "backbone"))
    target.load()
    assert target.teacher_normalization[0] == (0.485, 0.456, 0.406)


def test_checkpoints_hold_no_teacher(images, tmp_path):
    tasks = [mae(target_of(vit(embed_dim=32, depth=4))) for _ in range(2)]
    for task in tasks:
        task.optimizer.build(task.trainable_variables)
    first, second = tasks
    whole = Devices().whole
    first.fit(images, verbose=0)
    parameters = sum(int(np.prod(v.shape)) for v in checkpoint.own(first, first.weights))
    path = checkpoint.save(tmp_path, checkpoint.tensors(first, whole), {"step": 1})
    assert path.stat().st_size < 12 * parameters + 200 * len(checkpoint.variables(first))
    teacher = [ops.convert_to_numpy(v) for v in second.frozen_variables]
    checkpoint.load(path, second)
    third = mae(target_of(vit(embed_dim=32, depth=4)))
    before = [ops.convert_to_numpy(v) for v in third.frozen_variables]
    export.set_weights(third, export.whole_weights(second, whole), "float32")
    for old, new in (
        *zip(teacher, second.frozen_variables, strict=True),
        *zip(before, third.frozen_variables, strict=True),
    ):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
    for old, new in zip(*(checkpoint.own(t, t.weights) for t in (first, second)), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(old), ops.convert_to_numpy(new))
