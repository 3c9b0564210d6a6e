"""The traps of each layout, and the settings that no tensor shows."""

from pathlib import Path

import keras
import numpy as np
import pytest
from checkpoints import golden, of_state, write
from safetensors.numpy import load_file
from test_convert_layouts import MODELS, Memory, randomized, simmim, state_of, swin_v2

from mimzoo.convert import all_layouts, convert, export, get_layout
from mimzoo.convert.exporting import to_tensors
from mimzoo.convert.files import Safetensors, Tensors
from mimzoo.convert.hints import ConversionHints
from mimzoo.convert.importing import assign, load
from mimzoo.convert.transforms import Unfolded, UnfoldedKernel
from mimzoo.models import ViTBackbone


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
    with pytest.raises(ValueError, match="windows of 8 tokens, not of 7"):
        converted(state, tmp_path, image_size=32, window_size=7)


def test_widths_of_an_mlp_survive_rounding():
    from mimzoo.convert.vit import mlp_ratio

    pairs = [(width, hidden) for width in range(1, 60) for hidden in range(width, 6 * width)]
    assert all(int(width * mlp_ratio(hidden, width)) == hidden for width, hidden in pairs)
    assert mlp_ratio(3072, 768) == 4.0


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


def test_a_hint_has_to_be_used(tmp_path):
    state, _, _ = state_of("mae_encoder_only")
    path = write(state, tmp_path / "x.safetensors")
    with pytest.raises(TypeError, match="window_size is inferred from the tensors, or unused"):
        load([path], None, {"num_heads": 3, "window_size": 7})
    with pytest.raises(TypeError, match="did you mean 'num_heads'"):
        load([path], None, {"num_head": 3})
    with pytest.raises(ValueError, match="num_heads cannot be inferred from the tensors"):
        load([path], None, {})
    known = ConversionHints({"std": 1}, {"std": 2, "mean": 2}, {"mask_ratio": 4})
    assert [known.get(n, 3) for n in ("std", "mean", "mask_ratio")] == [1, 2, 3]
    assert known.get("mask_ratio", default=5) == 4


def test_safetensors_reads_one_tensor_at_a_time(tmp_path):
    file = Safetensors(write({"a": np.arange(6.0).reshape(2, 3)}, tmp_path / "x.safetensors"))
    assert file.shape("a") == (2, 3)
    np.testing.assert_array_equal(file["a"], np.arange(6.0).reshape(2, 3))


def test_learned_positions_of_a_swin_are_not_mixmims(tmp_path):
    state, facts, _ = state_of("mixmim_classifier")
    state["absolute_pos_embed"] = state["absolute_pos_embed"] + 1
    with pytest.raises(ValueError, match="is not MixMIM's fixed table"):
        converted(state, tmp_path, **facts)


def test_mmpretrain_encodes_the_row_first(tmp_path):
    """models/utils/position_encoding.py: the other way round than MAE's and MixMIM's own code."""
    _, state, facts = golden("mixmim")
    name = "absolute_pos_embed"
    table = state[name].reshape(32, 32, -1).swapaxes(0, 1)
    model = of_state({**state, name: table.reshape(state[name].shape)}, tmp_path, **facts)
    found = keras.ops.convert_to_numpy(model.backbone.positions.table)
    np.testing.assert_array_equal(found, table)


def test_beit_leaves_its_own_task_behind(tmp_path):
    state, facts, _ = state_of("beit")
    state |= {"mask_token": np.zeros((1, 1, 24), "f4"), "lm_head.bias": np.zeros(9, "f4")}
    found, model, _ = converted(state, tmp_path, **facts)
    assert (found["layout"].name, found["ignored"]) == ("beit", 2)
    assert model.relative_position_bias == "shared"


def test_hub_ids_name_a_revision_and_a_file(tmp_path, hub):
    state, facts, _ = state_of("simmim_swinv2_pretrain")
    name = "folder/swinv2_small_1kper10_125k.safetensors"
    path = write(state, tmp_path / "x.safetensors")
    hub.add("zdaxie/SimMIM", {name: path, "other.pth": b"other", "setup.py": "exit()"}, tag="v1")
    entry = convert(f"hf://zdaxie/SimMIM@v1/{name}", tmp_path / "preset", **facts)
    assert [e.path.rpartition("/")[2] for e in hub.requests("HEAD")] == [name.rpartition("/")[2]]
    assert entry["source"] == f"hf://zdaxie/SimMIM@v1/{name}"
    assert entry["licence"] == "MIT"
