"""data2vec 2.0: what the official code computes, and its task."""

import json

import keras
import numpy as np
import pytest
from checkpoints import GOLDEN
from keras import ops

from mimzoo.pretraining import (
    EMA,
    ConvDecoder,
    Data2Vec,
    Data2VecBackbone,
    Data2VecTarget,
    InverseBlockMasking,
)

IMAGE = "modality_encoders.IMAGE."


@pytest.fixture(scope="module")
def figures() -> dict:
    """Of facebookresearch/fairseq, examples/data2vec (commit 3d262bb), a tiny model."""
    return dict(np.load(GOLDEN / "data2vec.npz"))


def names(backbone: Data2VecBackbone, decoder: ConvDecoder | None = None) -> dict:
    """Official name -> our variable, transposed where `T` ends the name."""
    found = {
        f"{IMAGE}local_encoder.proj.weight": (backbone.patch_embed.projection.kernel, "patch"),
        f"{IMAGE}local_encoder.proj.bias": (backbone.patch_embed.projection.bias, None),
        f"{IMAGE}extra_tokens": (backbone.class_token_layer.token, None),
        **_norm(f"{IMAGE}context_encoder.norm", backbone.pre_norm),
    }
    for number, block in enumerate(backbone.blocks):
        stem = f"{IMAGE}context_encoder.blocks.0" if number == 0 else f"blocks.{number - 1}"
        found |= _norm(f"{stem}.norm1", block.norm1) | _norm(f"{stem}.norm2", block.norm2)
        for name, layer in (
            ("attn.qkv", block.attention.qkv),
            ("attn.proj", block.attention.projection),
            ("mlp.fc1", block.mlp.expand),
            ("mlp.fc2", block.mlp.contract),
        ):
            found |= _linear(f"{stem}.{name}", layer)
    if decoder is not None:
        found |= _decoder(f"{IMAGE}decoder.", decoder)
    return found


def _decoder(stem: str, decoder: ConvDecoder) -> dict:
    found = _linear(f"{stem}proj", decoder.prediction)
    for number, layer in enumerate(decoder.convolutions):
        found[f"{stem}blocks.{number}.0.weight"] = layer.kernel, "convolution"
        found[f"{stem}blocks.{number}.0.bias"] = layer.bias, None
    return found


def _norm(name: str, layer: keras.layers.Layer) -> dict:
    return {f"{name}.weight": (layer.gamma, None), f"{name}.bias": (layer.beta, None)}


def _linear(name: str, layer: keras.layers.Layer) -> dict:
    return {f"{name}.weight": (layer.kernel, "linear"), f"{name}.bias": (layer.bias, None)}


def ours(value: np.ndarray, kind: str | None) -> np.ndarray:
    if kind == "patch":  # (D, C, p, p): rows are (row, col, channel)
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return {"linear": (1, 0), "convolution": (2, 3, 1, 0), None: None}[kind] and value.transpose(
        {"linear": (1, 0), "convolution": (2, 3, 1, 0)}[kind]
    )


def load(figures: dict, group: str, wanted: dict) -> None:
    for name, (variable, kind) in wanted.items():
        value = figures[f"{group}/{name}"]
        variable.assign(value if kind is None else ours(value, kind))


@pytest.fixture
def official(figures):
    """Our task with the official weights, its inputs, and the configuration."""
    config = json.loads(str(figures["config"]))
    count = config["masks_per_image"]
    backbone = Data2VecBackbone((24, 24, 3), 4, 24, 4, 3)
    masks = figures["masks"].reshape(-1, count, 36).astype("uint8")
    masking = InverseBlockMasking(0.75, masks_per_image=count)
    task = Data2Vec(
        backbone,
        masking,
        ConvDecoder(config["decoder_layers"], groups=config["decoder_groups"]),
        Data2VecTarget(EMA(0.9, 0.9, 0), top=config["average_top_k_layers"]),
        class_loss=0.06,  # 0.01 of the sum over 6 rows
        preprocessor=None,
    )
    load(figures, "student/w", names(backbone, task.decoder))
    follow(task, figures)
    images = np.ascontiguousarray(figures["images"].transpose(0, 2, 3, 1))
    return task, {"images": images, "masks": masks}


def follow(task: Data2Vec, figures: dict) -> None:
    """Gives the teacher its official weights, which differ from the student's."""
    places = {id(v): n for n, v in enumerate(task.backbone.weights)}
    for name, (variable, kind) in names(task.backbone).items():
        value = figures[f"teacher/w/{name}"]
        task.teacher.held[places[id(variable)]].assign(value if kind is None else ours(value, kind))


def test_targets_predictions_and_loss_are_the_official_ones(official, figures):
    task, inputs = official
    targets = task.target.targets(
        task.step({k: ops.convert_to_tensor(v) for k, v in inputs.items()})
    )
    np.testing.assert_allclose(ops.convert_to_numpy(targets), figures["out/targets"], atol=1e-4)
    whole = ops.convert_to_numpy(task.backbone(inputs["images"]))
    np.testing.assert_allclose(whole, figures["out/features_unmasked"], atol=1e-4)
    masks = ops.convert_to_tensor(inputs["masks"].reshape(-1, 36))
    features = task.encode_visible(ops.convert_to_tensor(inputs["images"]), masks, 3)
    noise = ops.convert_to_tensor(figures["noise"])
    predicted = task.decoder(features[:, 1:], masks, noise=noise)
    np.testing.assert_allclose(
        ops.convert_to_numpy(predicted), figures["out/prediction"], atol=1e-4
    )
    y_pred = {
        "patches": ops.reshape(predicted, (2, 3, 36, 24)),
        "class_token": ops.reshape(features[:, 0], (2, 3, 24)),
    }
    loss = float(ops.convert_to_numpy(task.compute_loss(x=inputs, y_pred=y_pred)))
    assert loss == pytest.approx(float(figures["out/loss"]), abs=1e-4)
    error = ops.convert_to_numpy(task.target.error(targets[:, None], y_pred["patches"]))
    np.testing.assert_allclose(
        (error * inputs["masks"]).reshape(6, 36), figures["out/loss_per_position"], atol=1e-4
    )


def test_an_update_of_the_teacher_is_the_official_one(official, figures):
    task, _ = official
    task.teacher.updates.assign(1)
    task.teacher.follow(task.backbone)
    places = {id(v): n for n, v in enumerate(task.backbone.weights)}
    for name, (variable, kind) in names(task.backbone).items():
        expected = figures[f"ema/w/{name}"]
        expected = expected if kind is None else ours(expected, kind)
        held = ops.convert_to_numpy(task.teacher.held[places[id(variable)]])
        np.testing.assert_allclose(held, expected, atol=1e-5, err_msg=name)


def test_a_narrow_decoder_has_no_first_residual(figures):
    decoder = ConvDecoder(3, 5, 4, embed_dim=16)
    decoder.build_for(Data2VecBackbone((24, 24, 3), 4, 24, 1, 3), 24)
    load(figures, "narrow_decoder/w", _decoder("", decoder))
    x = figures["narrow_decoder/x"]
    y = decoder(ops.convert_to_tensor(x), np.zeros((1, 36), "uint8"))
    np.testing.assert_allclose(ops.convert_to_numpy(y), figures["narrow_decoder/y"], atol=1e-4)


@pytest.mark.one_backend
@pytest.mark.parametrize(("size", "ratio", "adjust"), [("base", 0.8, 0.07), ("large", 0.75, 0.1)])
def test_masks_have_the_official_statistics(figures, size, ratio, adjust):
    masks = InverseBlockMasking(ratio, adjust=adjust).draw(np.arange(1500), 0, (14, 14), 16)
    visible = 1 - masks.reshape(-1, 14, 14).astype(int)
    stem = f"mask_statistics/{size}"
    assert set(visible.sum((1, 2))) == set(figures[f"{stem}/visible"].ravel().tolist())
    rate = figures[f"{stem}/keep_rate"].reshape(14, 14)
    np.testing.assert_allclose(visible.mean(0), rate, atol=0.02)
    pairs = (visible[:, 1:] * visible[:, :-1]).sum((1, 2))
    pairs = pairs + (visible[:, :, 1:] * visible[:, :, :-1]).sum((1, 2))
    mean, std = map(float, figures[f"{stem}/adjacent_visible_pairs"])
    assert pairs.mean() == pytest.approx(mean, abs=4 * std / len(pairs) ** 0.5)
    assert pairs.std() == pytest.approx(std, rel=0.05)


@pytest.mark.one_backend
def test_the_momentum_rises_as_published(figures):
    from mimzoo.pretraining.ema import FollowingTeacher

    teacher = FollowingTeacher(Data2VecBackbone((8, 8, 3), 4, 24, 1, 3), EMA())
    steps, decays = figures["ema_schedule"]
    found = [float(ops.convert_to_numpy(teacher.momentum(int(step)))) for step in steps]
    np.testing.assert_allclose(found, decays, atol=1e-7)


@pytest.mark.one_backend
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_teacher_begins_as_the_student_and_follows_it(dtype):
    backbone = Data2VecBackbone((8, 8, 3), 4, 24, 1, 3, dtype=dtype)
    target = Data2VecTarget()
    target._follow(backbone)
    teacher = target.teacher
    student = [ops.convert_to_numpy(ops.cast(w, "float32")) + 1 for w in backbone.weights]
    backbone.set_weights(student)  # loaded after the task was made
    teacher.follow(backbone)
    for held, weight in zip(teacher.held, backbone.weights, strict=True):
        weight = ops.convert_to_numpy(ops.cast(weight, "float32"))
        np.testing.assert_array_equal(ops.convert_to_numpy(held), weight)
    before = [ops.convert_to_numpy(held) for held in teacher.held]
    backbone.set_weights([weight + 1 for weight in student])
    for _ in range(100):
        teacher.follow(backbone)
    moved = [
        np.abs(ops.convert_to_numpy(h) - b).mean()
        for h, b in zip(teacher.held, before, strict=True)
    ]
    assert 0.01 < min(moved) <= max(moved) < 0.03  # 1 - 0.9998^100
