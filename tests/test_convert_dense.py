"""Dense models of other libraries through their files, against transformers' own.

Names are those of transformers' conversion scripts (convert_swin_upernet_to_pytorch.py,
convert_beit_unilm_to_pytorch.py) and of mmsegmentation (mmseg/models/backbones/swin.py, beit.py,
mae.py, necks/featurepyramid.py); of detectron2 those of modeling/backbone/vit.py.
"""

import pickle
import re

import keras
import numpy as np
import pytest
import torch
from checkpoints import write
from gradients import forward
from safetensors.numpy import load_file
from test_reference_swin import images, randomize
from test_segment_reference import (
    CLASSES,
    random_statistics,
    random_upernet,
    resized_auxiliary,
)
from test_vit_windows import check_same_map
from transformers import BeitConfig, BeitForSemanticSegmentation, VitDetConfig, VitDetModel

from mimzoo.convert import convert, export
from mimzoo.convert.importing import load
from mimzoo.models import ImageSegmenter, ViTBackbone

# Part of a name in transformers' files -> in mmsegmentation's.
HEADS = (
    ("batch_norm", "bn"),
    ("head.classifier", "head.conv_seg"),
    ("intermediate.dense", "ffn.layers.0.0"),
)
SWIN = (
    *HEADS,
    ("embeddings.patch_embeddings", "patch_embed"),
    ("embeddings.norm", "patch_embed.norm"),
    ("encoder.layers", "stages"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.self.relative", "attn.w_msa.relative"),
    ("attention.output.dense", "attn.w_msa.proj"),
    (".output.dense", ".ffn.layers.1"),
)
VIT = (
    *HEADS,
    ("beit.embeddings.patch_embeddings", "backbone.patch_embed"),
    ("beit.embeddings.position_embeddings", "backbone.pos_embed"),
    ("beit.embeddings", "backbone"),
    ("beit.encoder.layer", "backbone.layers"),
    ("layernorm_before", "ln1"),
    ("layernorm_after", "ln2"),
    ("lambda_", "gamma_"),
    ("attention.attention.relative_position_bias.", "attn."),
    ("attention.output.dense", "attn.proj"),
    (".output.dense", ".ffn.layers.1"),
    ("fpn1", "neck.upsample_4x"),
    ("fpn2", "neck.upsample_2x"),
)


def renamed(folder, rules) -> dict[str, np.ndarray]:
    state = {}
    for name, value in load_file(folder / "model.safetensors").items():
        for old, new in rules:
            name = name.replace(old, new)
        state[name] = value
    return state


def joined(state: dict, pattern: str, biases: str) -> None:
    """Queries, keys and values of a block in one tensor, under `pattern`'s name."""
    for query in [name for name in state if name.endswith(".query.weight")]:
        prefix = query.removesuffix("query.weight")
        new = re.sub(r"(\.attention)+(\.self)?\.$", pattern, prefix)
        parts = [prefix + part for part in ("query", "key", "value")]
        state[f"{new}.qkv.weight"] = np.concatenate([state.pop(f"{p}.weight") for p in parts])
        if biases == "qv":
            state[f"{new}.q_bias"] = state.pop(f"{parts[0]}.bias")
            state[f"{new}.v_bias"] = state.pop(f"{parts[2]}.bias")
            continue
        zeros = np.zeros_like(state[f"{parts[0]}.bias"])
        biased = [state.pop(f"{part}.bias", zeros) for part in parts]
        state[f"{new}.qkv.bias"] = np.concatenate(biased)


def of_swin(folder) -> dict[str, np.ndarray]:
    state = renamed(folder, SWIN)
    joined(state, ".attn.w_msa", "qkv")
    for name in list(state):
        if "layernorm" in name:  # of a model without heads
            del state[name]
        elif match := re.fullmatch(r"backbone\.hidden_states_norms\.stage(\d)(.*)", name):
            state[f"backbone.norm{int(match[1]) - 1}{match[2]}"] = state.pop(name)
        elif "downsample" in name:
            # (…, 4 neighbours, channels) -> (…, channels, 4 neighbours in the order of an unfold)
            value = state[name]
            four = value.reshape(*value.shape[:-1], 4, -1)[..., [0, 2, 1, 3], :]
            state[name] = four.swapaxes(-1, -2).reshape(value.shape)
    return state


def converted(state: dict, folder, **hints) -> ImageSegmenter:
    """Through files, and back again bit for bit."""
    state["data_preprocessor.mean"] = np.zeros((3, 1, 1), "float32")
    entry = convert(write(state, folder / "x.safetensors"), folder / "preset", **hints)
    export(folder / "preset", entry["layout"], folder / "y.safetensors")
    again = load_file(folder / "y.safetensors")
    buffers = {name for name in state if re.search("num_batches|data_prep|_index", name)}
    assert set(again) == set(state) - buffers
    assert all(value.tobytes() == state[name].tobytes() for name, value in again.items())
    return ImageSegmenter.from_preset(str(folder / "preset"))


def compare(ours: ImageSegmenter, theirs, x, auxiliary: bool = True) -> None:
    with torch.no_grad():
        logits = theirs(torch.tensor(x).permute(0, 3, 1, 2))
        expected = [
            torch.nn.functional.interpolate(one, x.shape[1:3], mode="bilinear") for one in logits
        ]
    both = forward(
        lambda x: keras.ops.concatenate([ours(x), resized_auxiliary(ours, x)], axis=-1), x
    )
    for number, one in enumerate(expected):
        found = both[..., number * CLASSES : (number + 1) * CLASSES]
        np.testing.assert_allclose(found, one.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_swin(tmp_path):
    theirs = random_upernet(128, 160)
    theirs.save_pretrained(tmp_path)
    state = of_swin(tmp_path)
    ours = converted(state, tmp_path, image_size=(128, 160), shorter_side=96)
    assert (ours.shorter_side, ours.auxiliary_weight) == (96, 0.4)
    compare(
        ours,
        lambda x: (theirs(x).logits, theirs.auxiliary_head(theirs.backbone(x).feature_maps)),
        images(128, 160),
    )


@pytest.mark.parametrize("positions", [False, True], ids=["beit", "mae"])
def test_vit(positions, tmp_path):
    """transformers takes the maps of the blocks before those it names, so it has one block more."""
    config = BeitConfig(
        hidden_size=16,
        num_hidden_layers=7,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        layer_norm_eps=1e-6,
        layer_scale_init_value=0.1,
        use_mask_token=False,
        use_relative_position_bias=True,
        use_absolute_position_embeddings=positions,
        out_indices=[3, 4, 5, 7],
        num_labels=CLASSES,
        auxiliary_channels=6,
    )
    theirs = BeitForSemanticSegmentation(config).eval()
    randomize(theirs)
    random_statistics(theirs)
    theirs.save_pretrained(tmp_path)
    state = renamed(tmp_path, VIT)
    state = {name: value for name, value in state.items() if "layers.6." not in name}
    joined(state, ".attn", "qkv" if positions else "qv")
    ours = converted(state, tmp_path, shorter_side=0)
    assert ours.shorter_side is None
    backbone = ours.backbone
    assert backbone.position_embedding == ("learned" if positions else "none")
    maps = []
    theirs.fpn.register_forward_hook(lambda module, inputs, outputs: maps.append(outputs))
    compare(
        ours,
        lambda x: (theirs(x).logits, theirs.auxiliary_head(maps[-1])),
        images(64, 64),
    )


VITDET = (
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.projection", "patch_embed.proj"),
    ("encoder.layer", "blocks"),
    ("attention.", "attn."),
)


def vitdet(folder, relative: bool) -> tuple[VitDetModel, dict[str, np.ndarray]]:
    config = VitDetConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        pretrain_image_size=24,
        image_size=(40, 56),
        patch_size=4,
        window_size=4,
        window_block_indices=[0, 2],
        use_relative_position_embeddings=relative,
    )
    theirs = VitDetModel(config).eval()
    randomize(theirs)
    theirs.save_pretrained(folder)
    state = {f"backbone.net.{name}": value for name, value in renamed(folder, VITDET).items()}
    heads = ("backbone.simfp_2.0.weight", "roi_heads.box_head.fc1.weight", "pixel_mean")
    return theirs, state | dict.fromkeys(heads, np.ones(2, "float32"))


def test_vitdet(tmp_path):
    theirs, state = vitdet(tmp_path, False)
    assert state["backbone.net.pos_embed"][0, 0].all()  # the row that ViTDet does not read
    path = write(state, tmp_path / "x.safetensors")
    entry = convert(path, tmp_path / "preset", num_heads=2, window_size=4)
    assert (entry["layout"], entry["ignored"]) == ("detectron2_vitdet", 3)
    ours = ViTBackbone.from_preset(
        str(tmp_path / "preset"), image_shape=(40, 56, 3), global_attention_blocks=(1, 3)
    )
    assert ours.window_size == 4
    check_same_map(ours, theirs)


def test_vitdet_with_decomposed_positions(tmp_path):
    """As detectron2's model zoo has it, and at another size than it was trained at."""
    theirs, state = vitdet(tmp_path, True)
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"model": state, "__author__": "…"}, protocol=2))
    convert(path, tmp_path / "preset", num_heads=2)
    with pytest.raises(ValueError, match="num_heads cannot be inferred"):
        ViTBackbone.from_preset(str(path))
    ours = ViTBackbone.from_preset(str(tmp_path / "preset"))
    assert ours.image_shape == (40, 56, 3)
    assert (ours.window_size, ours.global_attention_blocks) == (4, (1, 3))
    check_same_map(ours, theirs)
    _, other, _ = load([path], None, {"num_heads": 2, "image_size": (32, 72)})
    check_same_map(other, theirs)
    export(tmp_path / "preset", "detectron2_vitdet", tmp_path / "y.safetensors")
    again = load_file(tmp_path / "y.safetensors")
    assert set(again) == {name for name in state if ".net." in name}
    # The table of positions is now that of the image size, 10 x 14.
    assert again.pop("backbone.net.pos_embed").shape == (1, 141, 16)
    assert all(value.tobytes() == state[name].tobytes() for name, value in again.items())


@pytest.mark.one_backend
def test_a_pickle_of_more_than_arrays_is_refused(tmp_path):
    for content, message in (
        (
            pickle.dumps({"model": {"x": print}}),
            r"refused: it holds builtins\.print, which is code",
        ),
        (pickle.dumps({"model": {"x": np.ones(9)}})[:-9], "is cut off, or is no pickle of arrays"),
        (pickle.dumps({"model": {"x": 1}}), "has no arrays by name under model"),
    ):
        (tmp_path / "x.pkl").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load([tmp_path / "x.pkl"], None, {})


@pytest.mark.one_backend
def test_what_differs_is_refused(tmp_path):
    _, state = vitdet(tmp_path, True)
    state["backbone.net.blocks.0.attn.rel_pos_w"] = np.ones((9, 8), "float32")
    with pytest.raises(ValueError, match="relative positions are of 4x4, 4x5, 10x14 tokens"):
        load([write(state, tmp_path / "x.safetensors")], None, {"num_heads": 2})
    random_upernet(128, 160).save_pretrained(tmp_path)
    state = of_swin(tmp_path)
    path = write(state, tmp_path / "y.safetensors")
    with pytest.raises(ValueError, match="64x96 has 2x3 tokens in the last stage, no more than"):
        load([path], None, {"image_size": (64, 96)})
    with pytest.raises(ValueError, match=r"images of its 5 classes are scaled: give shorter_side"):
        load([path], None, {"image_size": 128})
    ade20k = {
        name: np.resize(value, (150, *value.shape[1:])) if "conv_seg" in name else value
        for name, value in state.items()
    }
    path = write(ade20k, tmp_path / "ade20k.safetensors")
    assert load([path], None, {"image_size": 128})[1].shorter_side == 128
    state["auxiliary_head.convs.1.conv.weight"] = np.ones((6, 6, 3, 3), "float32")
    with pytest.raises(ValueError, match=r"no place for auxiliary_head\.convs\.1"):
        load([write(state, tmp_path / "z.safetensors")], None, {"shorter_side": 0})
