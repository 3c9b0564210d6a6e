"""Every layout: in and out again bit for bit, and the traps of each."""

from pathlib import Path

import keras
import numpy as np
import pytest
from checkpoints import golden, write
from safetensors.numpy import load_file

from mimzoo.convert import all_layouts, convert, export, get_layout
from mimzoo.convert.exporting import to_tensors
from mimzoo.convert.facts import Facts
from mimzoo.convert.files import Safetensors, Tensors
from mimzoo.convert.importing import assign, load
from mimzoo.convert.transforms import Unfolded, UnfoldedKernel
from mimzoo.models import (
    ImageClassifier,
    MixMIMBackbone,
    SwinBackbone,
    SwinV2Backbone,
    ViTBackbone,
)
from mimzoo.pretraining import (
    MAE,
    MAEDecoder,
    MixMIM,
    MixMIMDecoder,
    PixelTarget,
    RandomMasking,
    SimMIM,
)

FACTS = {"num_heads": 3, "decoder_num_heads": 4}


def vit(**kwargs) -> ViTBackbone:
    return ViTBackbone((16, 16, 3), 4, 24, 2, 3, name="backbone", **kwargs)


def simmim_vit(**kwargs) -> ViTBackbone:
    return vit(position_embedding="none", qkv_bias="qv", layer_scale_init=0.1, **kwargs)


def swin(cls=SwinBackbone, **kwargs):
    # Stage 2 has 4 x 4 tokens: its window is smaller than the first stage's.
    return cls((32, 32, 3), 4, 12, (1, 2), (2, 3), 8, name="backbone", **kwargs)


def swin_v2(**kwargs):
    return swin(SwinV2Backbone, **kwargs)


def mae(**kwargs) -> MAE:
    return MAE(vit(**kwargs), RandomMasking(0.75), MAEDecoder(16, 1, 4), preprocessor=None)


def simmim(backbone) -> SimMIM:
    side = backbone.stride
    return SimMIM(backbone, RandomMasking(0.6, mask_patch_size=side), target=PixelTarget(False))


def classifier(backbone, **kwargs):
    return ImageClassifier.for_backbone(type(backbone))(backbone, 5, **kwargs)


# Layout -> a small model of it, and what the tensors do not tell.
WINDOWS = {"image_size": 32, "window_size": 8}
MODELS = {
    "mae_encoder_only": (vit, {"num_heads": 3}),
    "mae_full": (mae, FACTS),
    "mae_vit_classifier_gap": (
        lambda: classifier(vit(position_embedding="learned", final_norm=False)),
        {"num_heads": 3},
    ),
    "timm_vit": (lambda: vit(position_embedding="learned"), {"num_heads": 3}),
    "timm_vit_classifier": (lambda: classifier(vit(), pooling="token"), {"num_heads": 3}),
    "timm_swin": (lambda: classifier(swin()), {}),
    "timm_swinv2": (lambda: classifier(swin_v2()), WINDOWS),
    "hf_vit_mae": (mae, FACTS),
    "hf_vit": (vit, {"num_heads": 3}),
    "hf_swin": (swin, {}),
    "hf_swin_classifier": (lambda: classifier(swin()), {}),
    "hf_swin_simmim": (lambda: simmim(swin()), {"mask_patch_size": 8}),
    "hf_swinv2": (swin_v2, WINDOWS),
    "hf_swinv2_classifier": (lambda: classifier(swin_v2()), WINDOWS),
    "hf_swinv2_simmim": (lambda: simmim(swin_v2()), {**WINDOWS, "mask_patch_size": 8}),
    "simmim_swin_pretrain": (lambda: simmim(swin()), {"mask_patch_size": 8}),
    "simmim_swinv2_pretrain": (lambda: simmim(swin_v2()), {**WINDOWS, "mask_patch_size": 8}),
    "simmim_vit_pretrain": (
        lambda: simmim(simmim_vit(relative_position_bias="shared")),
        {"mask_patch_size": 4},
    ),
    "simmim_vit_classifier": (
        lambda: classifier(simmim_vit(relative_position_bias="per_block", final_norm=False)),
        {},
    ),
    "swin_classifier": (lambda: classifier(swin()), {}),
    "swinv2_classifier": (lambda: classifier(swin_v2()), WINDOWS),
    "mmpretrain_mae": (mae, FACTS),
    "mmpretrain_simmim": (lambda: simmim(swin4()), {"mask_patch_size": 32}),
    "mmpretrain_swin_classifier": (lambda: classifier(swin4()), {}),
}
MODELS |= {
    "mixmim_pretrain": (lambda: mixmim(), {"decoder_num_heads": 4}),
    "mixmim_classifier": (lambda: classifier(mixmim_backbone()), {}),
    "mmpretrain_mixmim": (lambda: mixmim(), {"decoder_num_heads": 4}),
    "mmpretrain_mixmim_classifier": (lambda: classifier(mixmim_backbone()), {}),
}


def mixmim_backbone() -> MixMIMBackbone:
    return MixMIMBackbone((32, 32, 3), 4, 12, (1, 2), (2, 3), (4, 2), name="backbone")


def mixmim() -> MixMIM:
    return MixMIM(mixmim_backbone(), decoder=MixMIMDecoder(16, 1, 4), preprocessor=None)


def swin4() -> SwinBackbone:
    # mmpretrain's final norm is named after the fourth stage.
    return SwinBackbone((64, 64, 3), 4, 4, (1, 1, 1, 1), (1, 1, 1, 1), 2, name="backbone")


class Memory(dict):
    """A state dict as `Tensors` takes it."""

    def shape(self, name: str) -> tuple[int, ...]:
        return self[name].shape


def randomized(model):
    """Every weight another number; fixed positions stay."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape).astype("float32"))
    return model


def state_of(layout: str, **changes) -> tuple[dict, dict, object]:
    make, facts = MODELS[layout]
    model = randomized(make(**changes))
    return to_tensors(get_layout(layout), model), facts, model


def test_all_layouts_have_a_model_here():
    assert set(MODELS) == set(all_layouts())


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name, tmp_path):
    state, facts, before = state_of(name)
    found, after, _ = load([write(state, tmp_path / "x.safetensors")], name, facts)
    assert found["tensors"] == len(state)
    for weight, copy in zip(before.weights, after.weights, strict=True):
        old, new = (keras.ops.convert_to_numpy(x) for x in (weight, copy))
        np.testing.assert_array_equal(old, new, err_msg=weight.path)
    again = to_tensors(get_layout(name), after)
    assert set(again) == set(state)
    for key, value in state.items():
        assert value.shape == again[key].shape
        np.testing.assert_array_equal(value, again[key], err_msg=key)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "timm_vit"])
def test_detected(name, tmp_path):
    # timm's ViT has MAE's names: what is converted is the same.
    state, facts, _ = state_of(name)
    found, _, _ = load([write(state, tmp_path / "x.safetensors")], None, facts)
    assert found["layout"].name == name


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("mae", MAE),
        ("mixmim", MixMIM),
        ("simmim_swin", SimMIM),
        ("simmim_swinv2", SimMIM),
        ("simmim_vit", SimMIM),
        ("swinv2_cls", ImageClassifier),
    ],
)
def test_official_state_dict_through_files(name, cls, tmp_path):
    figures, state, facts = golden(name)
    entry = convert(write(state, tmp_path / "x.safetensors"), tmp_path / "preset", **facts)
    task = cls.from_preset(str(tmp_path / "preset"))
    if cls is ImageClassifier:
        logits = keras.ops.convert_to_numpy(task(figures["x"]))
        np.testing.assert_allclose(logits, figures["out/logits"], atol=1e-4)
    else:  # pretraining goes on, pictures are drawn
        size = task.backbone.image_shape[0]
        images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), "uint8")
        assert task.reconstruct(images)["reconstruction"].shape == images.shape
        assert np.isfinite(task.fit(images, batch_size=2, verbose=0).history["loss"][0])
    export(tmp_path / "preset", entry["layout"], tmp_path / "y.safetensors")
    again = load_file(tmp_path / "y.safetensors")
    assert set(again) == set(state)
    for key, value in state.items():
        assert value.shape == again[key].shape
        assert value.tobytes() == again[key].tobytes()


# --- the traps ------------------------------------------------------------------------------------


def converted(state: dict, folder: Path, name: str | None = None, **facts):
    return load([write(state, folder / "x.safetensors")], name, facts)


def test_older_name_of_the_bias_network_and_buffers(tmp_path):
    state, facts, before = state_of("simmim_swinv2_pretrain")
    state = {k.replace("cpb_mlp", "rpe_mlp"): v for k, v in state.items()}
    state["encoder.layers.0.blocks.0.attn.relative_coords_table"] = np.zeros((1, 15, 15, 2), "f4")
    state["encoder.layers.0.blocks.0.attn.relative_position_index"] = np.zeros((64, 64), "i8")
    state["encoder.layers.1.blocks.1.attn_mask"] = np.zeros((4, 64, 64), "f4")
    found, after, _ = converted(state, tmp_path, **facts)
    assert (found["layout"].name, found["ignored"]) == ("simmim_swinv2_pretrain", 3)
    np.testing.assert_array_equal(*(m.stages_weight() for m in (Weights(before), Weights(after))))


class Weights:
    def __init__(self, model):
        self.model = model

    def stages_weight(self) -> np.ndarray:
        bias = self.model.backbone.stages[1][1].attention.position_bias
        return keras.ops.convert_to_numpy(bias.kernel2)


def test_clamped_window_of_the_last_stage_tells_the_image(tmp_path):
    # As Swin-L, window 12 at 192 px: the last table has fewer rows than the others.
    state, facts, _ = state_of("simmim_swin_pretrain")
    tables = [k for k in state if k.endswith("bias_table")]
    assert [len(state[k]) for k in tables] == [15**2, 7**2, 7**2]
    _, model, _ = converted(state, tmp_path, **facts)
    assert (model.backbone.window_size, model.backbone.image_shape) == (8, (32, 32, 3))


def test_shapes_of_a_released_size_tell_all(tmp_path):
    # mmpretrain calls a model w7 whose tensors are of window 6: the tensors count.
    state, _, _ = state_of("mmpretrain_simmim")
    _, model, _ = converted(state, tmp_path / "swin-base-w7_224px")
    assert (model.backbone.window_size, model.backbone.image_shape) == (2, (64, 64, 3))


def test_mmcv_merging_order():
    """The rule of mmpretrain's own converter, as checkpoints.json words it, backwards."""
    rng = np.random.default_rng(0)
    official = rng.normal(size=(6, 12)).astype("float32")
    order = [0, 2, 1, 3]
    theirs = official.reshape(6, 4, 3)[:, order].swapaxes(1, 2).reshape(6, 12)
    np.testing.assert_array_equal(UnfoldedKernel().to_ours(theirs)[0], official.T)
    vector = official[0]
    theirs = vector.reshape(4, 3)[order].T.reshape(-1)
    np.testing.assert_array_equal(Unfolded().to_ours(theirs)[0], vector)


def test_mmcv_merging_reads_the_neighbours_of_an_unfold(tmp_path):
    import torch

    state, facts, _ = state_of("mmpretrain_simmim")
    _, model, _ = converted(state, tmp_path, **facts)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype("float32")
    prefix = "backbone.stages.0.downsample"
    weights = {
        k: torch.tensor(state[f"{prefix}.{k}"])
        for k in ("norm.weight", "norm.bias", "reduction.weight")
    }
    tokens = torch.nn.functional.unfold(torch.tensor(x).permute(0, 3, 1, 2), 2, stride=2)
    tokens = torch.nn.functional.layer_norm(
        tokens.transpose(1, 2), (16,), weights["norm.weight"], weights["norm.bias"]
    )
    expected = (tokens @ weights["reduction.weight"].T).reshape(1, 2, 2, 8)
    actual = keras.ops.convert_to_numpy(model.backbone.mergings[0](x))
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-4)


def test_timm_files_a_merging_under_the_next_stage():
    official, _, model = state_of("swin_classifier")
    timm = to_tensors(get_layout("timm_swin"), model)
    for part in ("reduction.weight", "norm.weight"):
        key = f"downsample.{part}"
        np.testing.assert_array_equal(official[f"layers.0.{key}"], timm[f"layers.1.{key}"])
    np.testing.assert_array_equal(official["head.weight"], timm["head.fc.weight"])


def test_timm_gets_no_mask_token_and_no_decoder(tmp_path):
    # timm takes a state dict with a mask token for DINOv2's.
    _, _, model = state_of("mae_full")
    model.save_to_preset(str(tmp_path / "preset"))
    done = export(tmp_path / "preset", "timm_vit", tmp_path / "y.safetensors")
    keys = set(load_file(tmp_path / "y.safetensors"))
    assert done["left_out"] > 0
    assert not any("mask_token" in k or "decoder" in k for k in keys)


def test_mean_pooled_classifier_has_no_final_norm(tmp_path):
    state, facts, _ = state_of("mae_vit_classifier_gap")
    assert "fc_norm.weight" in state
    assert "norm.weight" not in state
    _, model, _ = converted(state, tmp_path, **facts)
    assert not model.backbone.final_norm
    assert model.pooling == "avg"


@pytest.mark.parametrize("interval", [0, 1, 2])
def test_extra_norms_are_read_from_the_file(interval, tmp_path):
    _, facts = MODELS["simmim_swinv2_pretrain"]
    model = randomized(simmim(swin_v2(norm_interval=interval)))
    state = to_tensors(get_layout("simmim_swinv2_pretrain"), model)
    assert any("enorm" in k for k in state) == bool(interval)
    _, after, _ = converted(state, tmp_path, **facts)
    assert after.backbone.norm_interval == interval


def test_windows_of_swin_v2_from_its_buffers(tmp_path):
    from mimzoo.layers.position_bias import log_offsets

    state, _, _ = state_of("swinv2_classifier")
    for stage, window in enumerate((8, 4)):
        prefix = f"layers.{stage}.blocks.0.attn"
        state[f"{prefix}.relative_coords_table"] = log_offsets(window, (6, 0)[stage])[None]
        state[f"{prefix}.relative_position_index"] = np.zeros((window**2, window**2), "int64")
    _, model, _ = converted(state, tmp_path, image_size=32)
    assert model.backbone.window_size == 8
    assert model.backbone.pretrained_window_sizes == (6, 0)


def test_position_of_the_class_token_in_mae_is_zero():
    layout = get_layout("mae_full")
    state, _, model = state_of("mae_full")
    assert not state["decoder_pos_embed"][0, 0].any()
    state["decoder_pos_embed"][0, 0] = 1.0
    with pytest.raises(ValueError, match=r"decoder_pos_embed.*not zero"):
        assign(layout, model, Tensors([Memory(state)]))


def test_decoder_of_transformers_5_has_another_name(tmp_path):
    state, facts, _ = state_of("hf_vit_mae")
    renamed = {
        k.replace("decoder.decoder_layers.", "decoder.decoder_encoder.layer."): v
        for k, v in state.items()
    }
    assert renamed.keys() != state.keys()
    found, _, _ = converted(renamed, tmp_path, **facts)
    assert found["tensors"] == len(state)


def test_half_precision_comes_out_as_it_came_in(tmp_path):
    state, facts, _ = state_of("mae_encoder_only")
    state = {k: v.astype("float16") for k, v in state.items()}
    convert(write(state, tmp_path / "x.safetensors"), tmp_path / "preset", **facts)
    assert ViTBackbone.from_preset(str(tmp_path / "preset")).position_embedding == "sincos"
    export(tmp_path / "preset", "mae_encoder_only", tmp_path / "y.safetensors")
    again = load_file(tmp_path / "y.safetensors")
    assert all(again[k].tobytes() == v.tobytes() for k, v in state.items())


def test_layouts_are_declared_once():
    names = [layout.name for layout in all_layouts().values()]
    assert len(names) == len(set(names))
    assert all(layout.origin and layout.licence for layout in all_layouts().values())


def test_a_fact_has_to_be_of_use(tmp_path):
    state, _, _ = state_of("mae_encoder_only")
    path = write(state, tmp_path / "x.safetensors")
    with pytest.raises(TypeError, match="window_size is told by the tensors or has no use"):
        load([path], None, {"num_heads": 3, "window_size": 7})
    with pytest.raises(TypeError, match="did you mean 'num_heads'"):
        load([path], None, {"num_head": 3})
    with pytest.raises(ValueError, match="do not tell num_heads"):
        load([path], None, {})
    assert Facts({}, {"num_heads": 3}).get("num_heads") == 3


def test_safetensors_reads_one_tensor_at_a_time(tmp_path):
    file = Safetensors(write({"a": np.arange(6.0).reshape(2, 3)}, tmp_path / "x.safetensors"))
    assert file.shape("a") == (2, 3)
    np.testing.assert_array_equal(file["a"], np.arange(6.0).reshape(2, 3))
