"""Window attention of a ViT: against transformers' `VitDetModel`, and weights of a plain ViT."""

import keras
import numpy as np
import pytest
import torch
from checkpoints import of_state
from gradients import forward
from test_reference_swin import images, randomize
from transformers import VitDetConfig, VitDetModel

from mimzoo.layers.resize import resize_position_table, resize_relative_table
from mimzoo.models import ViTBackbone
from mimzoo.pretraining import MAE, MAEDecoder, RandomMasking

PLAIN = {"patch_size": 4, "embed_dim": 16, "depth": 4, "num_heads": 2}
NAMES = {
    "embeddings.projection": "patch_embed.proj",
    "encoder.layer": "blocks",
    "attention.": "attn.",
}


DECOMPOSED = {"relative_position_bias": "decomposed", "class_token": False, "final_norm": False}


def mae_state(theirs: VitDetModel) -> dict[str, np.ndarray]:
    """The weights under MAE's names, with the class token and norm that ViTDet lacks."""
    state = {}
    for name, value in theirs.state_dict().items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        if "rel_pos" not in name:
            state[name] = value.numpy()
    state["pos_embed"] = state.pop("embeddings.position_embeddings")
    state |= {"norm.weight": np.ones(16, "float32"), "norm.bias": np.ones(16, "float32")}
    return {**state, "cls_token": np.ones((1, 1, 16), "float32")}


def vitdet(side, **options) -> VitDetModel:
    config = VitDetConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        pretrain_image_size=24,
        image_size=side,
        patch_size=4,
        window_block_indices=[0, 2, 3],
        **options,
    )
    theirs = VitDetModel(config).eval()
    randomize(theirs)
    return theirs


def check_same_map(ours: ViTBackbone, theirs: VitDetModel) -> None:
    x = images(*ours.image_shape[:2])
    with torch.no_grad():
        expected = theirs(torch.tensor(x).permute(0, 3, 1, 2)).last_hidden_state
    found = ours.feature_map(forward(ours, x))
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-4)


# Windows that do not divide the grid of 10 x 14, and one that is larger.
@pytest.mark.parametrize("window", [4, 16])
def test_windows_are_those_of_vitdet(window, tmp_path):
    theirs = vitdet((40, 56), window_size=window)
    plain = of_state(mae_state(theirs), tmp_path / "state", num_heads=2)
    plain.save_to_preset(tmp_path / "plain")
    ours = ViTBackbone.from_preset(
        str(tmp_path / "plain"),
        image_shape=(40, 56, 3),
        class_token=False,
        final_norm=False,
        window_size=window,
        global_attention_blocks=[1],
    )
    check_same_map(ours, theirs)
    same = ViTBackbone.from_config(ours.get_config())
    assert same.get_config() == ours.get_config()
    assert [block.windows is None for block in same.blocks] == [False, True, False, False]


def test_decomposed_positions_are_those_of_vitdet(tmp_path):
    """From the weights of a plain ViT, whose tables are zeros, and at another size of image."""
    theirs = vitdet((40, 56), window_size=4, use_relative_position_embeddings=True)
    plain = of_state(mae_state(theirs), tmp_path / "state", num_heads=2)
    plain.save_to_preset(tmp_path / "plain")
    shape = {"image_shape": (40, 56, 3)}
    windows = {"window_size": 4, "global_attention_blocks": (1,)}
    ours = ViTBackbone.from_preset(str(tmp_path / "plain"), **shape, **windows, **DECOMPOSED)
    positions = [block.attention.relative_positions for block in ours.blocks]
    assert not any(table.any() for one in positions for table in one.get_weights())
    without = {**DECOMPOSED, "relative_position_bias": "none"}
    expected = ViTBackbone.from_preset(str(tmp_path / "plain"), **shape, **windows, **without)
    x = images(40, 56)
    np.testing.assert_allclose(forward(ours, x), forward(expected, x), atol=1e-5)
    for one, block in zip(positions, theirs.encoder.layer, strict=True):
        one.row_table.assign(block.attention.rel_pos_h.detach().numpy())
        one.column_table.assign(block.attention.rel_pos_w.detach().numpy())
    check_same_map(ours, theirs)
    ours.save_to_preset(tmp_path / "ours")
    larger = ViTBackbone.from_preset(str(tmp_path / "ours"), image_shape=(32, 72, 3))
    # Positions of images are resized once more than theirs, which is not what is compared here.
    table = keras.ops.convert_to_numpy(plain.positions.table)
    larger.positions.table.assign(resize_position_table(table, (8, 18)))
    check_same_map(larger, theirs)


@pytest.mark.one_backend
def test_global_blocks_are_the_last_of_each_quarter():
    blocks = ViTBackbone(
        (8, 8, 3), **{**PLAIN, "depth": 12}, class_token=False, window_size=2
    ).blocks
    assert [n for n, block in enumerate(blocks) if block.windows is None] == [2, 5, 8, 11]


@pytest.mark.one_backend
def test_a_shared_bias_is_resized_to_the_windows(tmp_path):
    plain = ViTBackbone((24, 24, 3), **PLAIN, relative_position_bias="shared")
    table = np.random.default_rng(0).normal(size=plain.shared_bias.table.shape).astype("float32")
    plain.shared_bias.table.assign(table)
    plain.save_to_preset(tmp_path)
    windowed = ViTBackbone.from_preset(
        str(tmp_path), class_token=False, relative_position_bias="per_block", window_size=4
    )
    for block in windowed.blocks:
        side = 6 if block.windows is None else 4
        found = keras.ops.convert_to_numpy(block.attention.relative_position_bias.table)
        np.testing.assert_allclose(found, resize_relative_table(table, (side, side)), atol=1e-6)


@pytest.mark.one_backend
def test_a_plain_preset_takes_tables_in_each_block(tmp_path):
    plain = ViTBackbone((16, 16, 3), **PLAIN)
    plain.save_to_preset(tmp_path)
    own = ViTBackbone.from_preset(str(tmp_path), relative_position_bias="per_block")
    np.testing.assert_allclose(
        forward(own, images(16, 16)), forward(plain, images(16, 16)), atol=1e-5
    )


@pytest.mark.one_backend
def test_what_is_refused(tmp_path):
    for options, message in (
        ({"window_size": 2}, "windows have no place for a class token"),
        ({"global_attention_blocks": (1,)}, "give window_size, too"),
        ({"window_size": 0, "class_token": False}, "window_size must be a positive number"),
        (
            {"window_size": 2, "class_token": False, "global_attention_blocks": (1, 4)},
            r"global_attention_blocks \(1, 4\) must lie in 0\.\.3",
        ),
        (
            {"window_size": 2, "class_token": False, "relative_position_bias": "shared"},
            "one table for all blocks",
        ),
        ({"relative_position_bias": "decomposed"}, "no place for a class token"),
    ):
        with pytest.raises(ValueError, match=message):
            ViTBackbone((16, 16, 3), **PLAIN, **options)
    backbone = ViTBackbone((16, 16, 3), **PLAIN, class_token=False, window_size=2)
    with pytest.raises(ValueError, match="blocks need all tokens of an image"):
        backbone.encode(np.zeros((1, 3, 16), "float32"), np.array([[0, 1, 2]]))
    decomposed = ViTBackbone((16, 16, 3), **PLAIN, **DECOMPOSED)
    with pytest.raises(ValueError, match='with relative_position_bias="decomposed", blocks need'):
        MAE(decomposed, RandomMasking(0.75), MAEDecoder(16, 1, 4), preprocessor=None)
    decomposed.save_to_preset(tmp_path)
    for kind in ("none", "per_block"):
        with pytest.raises(ValueError, match=f"whose tables '{kind}' cannot take: load it with"):
            ViTBackbone.from_preset(str(tmp_path), relative_position_bias=kind)
