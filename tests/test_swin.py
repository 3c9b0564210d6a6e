"""SwinBackbone and SwinV2Backbone: geometry, presets, training."""

import keras_hub
import numpy as np
import pytest
from contracts import SHAPE, STAGES, awake, pixels
from gradients import forward

from mimzoo.layers import Windows
from mimzoo.models import SwinBackbone, SwinV2Backbone
from mimzoo.models.layer_decay import swin_layer_decay_scales
from mimzoo.optimizers.groups import multipliers
from mimzoo.pretraining import SimMIM

BACKBONES = [SwinBackbone, SwinV2Backbone]
SMALL = {"image_shape": SHAPE, **STAGES}


# Counts of the sizes of paper A, in millions.
@pytest.mark.parametrize(
    ("size", "millions"),
    [("small", 48.96), ("base", 86.89), ("large", 195.20), ("huge", 655.21), ("giant", 1060.98)],
)
def test_published_parameter_counts_of_v2(size, millions):
    config = SwinV2Backbone.sizes[size]
    assert swin_v2_parameters(**config) / 1e6 == pytest.approx(millions, abs=0.006)


def swin_v2_parameters(embed_dim: int, depths: tuple, num_heads: tuple, **_: object) -> int:
    """By formula, which `test_the_formula_counts_what_is_there` compares with real models."""
    total = 3 * 16 * embed_dim + embed_dim + 2 * embed_dim
    for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
        dim = embed_dim * 2**stage
        bias = 2 * 512 + 512 + 512 * heads
        attention = 3 * dim * dim + 2 * dim + dim * dim + dim + heads + bias
        total += depth * (attention + 8 * dim * dim + 5 * dim + 4 * dim)
        if stage < len(depths) - 1:
            total += 8 * dim * dim + 4 * dim
    return total + 2 * embed_dim * 2 ** (len(depths) - 1)


@pytest.mark.parametrize(
    "sizes",
    [
        {"embed_dim": 16, "depths": (1, 1, 3, 1), "num_heads": (1, 2, 4, 8)},
        {"embed_dim": 32, "depths": (2, 1), "num_heads": (2, 4)},
    ],
    ids=str,
)
def test_the_formula_counts_what_is_there(sizes):
    assert SwinV2Backbone((64, 64, 3), **sizes, window_size=4).count_params() == (
        swin_v2_parameters(**sizes)
    )


@pytest.mark.one_backend
def test_published_parameter_counts_of_v1():
    """mmpretrain's metafile of SimMIM: Swin-B, 192 px, window 6, with mask token and decoder."""
    task = SimMIM(SwinBackbone.from_size("base", image_shape=(192, 192, 3), window_size=6))
    assert task.count_params() / 1e6 == pytest.approx(89.87, abs=0.006)


@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (SwinBackbone, {"window_size": 8, "image_shape": (32, 32, 3)}),
        (SwinBackbone, {"window_size": 2}),
        (SwinV2Backbone, {"image_shape": (32, 32, 3)}),
        (SwinV2Backbone, {"window_size": 6, "image_shape": (19, 45, 3)}),
    ],
    ids=str,
)
def test_load_at_another_window_and_size(cls, changes, tmp_path):
    awake(cls(**SMALL)).save_to_preset(tmp_path / "p")
    loaded = cls.from_preset(str(tmp_path / "p"), **changes)
    shape = loaded.image_shape
    out = forward(loaded, np.ones((1, *shape), "float32"))
    rows, cols = ((side + 3) // 4 for side in shape[:2])
    assert out.shape == (1, rows * cols, 32)
    assert np.isfinite(out).all()


@pytest.mark.parametrize(
    ("cls", "image", "window", "changes", "tokens"),
    [
        (SwinBackbone, 224, 7, {"window_size": 14}, 49),
        (SwinBackbone, 192, 6, {"window_size": 7, "image_shape": (224, 224, 3)}, 49),
        (SwinV2Backbone, 192, 12, {"window_size": 14, "image_shape": (224, 224, 3)}, 49),
        (SwinV2Backbone, 192, 12, {"image_shape": (200, 312, 3)}, 7 * 10),
    ],
    ids=str,
)
# What `test_load_at_another_window_and_size` shows on every backend, at sizes that take long.
@pytest.mark.one_backend
def test_load_as_the_papers_fine_tune(cls, image, window, changes, tokens, tmp_path):
    """Published windows and sizes, at a small width."""
    sizes = {"embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    backbone = awake(cls((image, image, 3), **sizes, window_size=window))
    backbone.save_to_preset(tmp_path / "p")
    loaded = cls.from_preset(str(tmp_path / "p"), **changes)
    out = forward(loaded, pixels(2, loaded.image_shape))
    assert out.shape == (2, tokens, 64)
    assert np.isfinite(out).all()
    if cls is SwinV2Backbone:
        assert loaded.pretrained_window_sizes == (12, 12, 12, 6)
    same = cls.from_preset(str(tmp_path / "p"), image_shape=(image, image, 3), window_size=window)
    x = pixels(2, (image, image, 3))
    np.testing.assert_array_equal(forward(same, x), forward(backbone, x))


def test_swin_v2_knows_the_windows_it_was_trained_with(tmp_path):
    backbone = SwinV2Backbone((64, 64, 3), 4, 16, (1, 1, 1, 1), (1, 1, 1, 1), window_size=8)
    backbone.save_to_preset(tmp_path / "p")

    def load(**changes):
        return SwinV2Backbone.from_preset(str(tmp_path / "p"), **changes)

    assert load().pretrained_window_sizes == (0, 0, 0, 0)
    assert load(drop_path_rate=0.1).pretrained_window_sizes == (0, 0, 0, 0)
    wider = load(window_size=12, image_shape=(96, 96, 3))
    assert wider.pretrained_window_sizes == (8, 8, 4, 2)
    wider.save_to_preset(tmp_path / "q")
    again = SwinV2Backbone.from_preset(str(tmp_path / "q"), image_shape=(128, 128, 3))
    assert again.pretrained_window_sizes == (8, 8, 4, 2)
    given = load(window_size=12, image_shape=(96, 96, 3), pretrained_window_sizes=(1, 2, 3, 4))
    assert given.pretrained_window_sizes == (1, 2, 3, 4)


def test_windows():
    assert Windows((6, 6), 12, True).size == 6
    assert Windows((6, 6), 12, True).shift == 0
    assert Windows((12, 12), 12, True).shift == 0
    assert Windows((24, 24), 12, True).shift == 6
    assert Windows((13, 24), 12, True).padded == (24, 24)
    assert Windows((8, 8), 4).mask() is None
    mask = Windows((8, 8), 4, True).mask()
    assert mask.shape == (4, 1, 16, 16)
    assert not mask[0].any()
    # The last window holds four corners, which do not see each other.
    assert (mask[3] == 0).sum() == 4 * 4 * 4


def test_pyramid():
    backbone = awake(SwinV2Backbone((64, 96, 3), 4, 16, (2, 1, 1, 1), (1, 1, 1, 1), 4))
    shapes = {name: tuple(x.shape[1:]) for name, x in backbone.pyramid_outputs.items()}
    assert shapes == {"P2": (16, 24, 16), "P3": (8, 12, 32), "P4": (4, 6, 64), "P5": (2, 3, 128)}
    assert len(backbone.intermediate_outputs) == 5
    assert isinstance(backbone, keras_hub.models.FeaturePyramidBackbone)


def test_layer_decay_groups_are_simmims():
    """SimMIM's code: 26 groups for Swin-B, merging with the last block of its stage."""
    backbone = SwinBackbone((64, 64, 3), 4, 16, (2, 2, 18, 2), (1, 1, 1, 1), 4)
    scales = swin_layer_decay_scales((2, 2, 18, 2), 0.8)
    variables = backbone.trainable_variables
    of = dict(zip([v.path for v in variables], multipliers(variables, scales), strict=True))
    assert len({round(value, 12) for value in of.values()}) == 26
    for part, layer in (
        ("patch_embed", 0),
        ("patch_norm", 0),
        ("stage_0_block_0", 1),
        ("stage_0_merging", 2),
        ("stage_2_block_0", 5),
        ("stage_2_block_17", 22),
        ("stage_2_merging", 22),
        ("stage_3_block_1", 24),
    ):
        found = {value for path, value in of.items() if part in path.split("/")}
        assert [*found] == [pytest.approx(0.8 ** (25 - layer))], part
    last = next(v.path for v in backbone.norm.trainable_variables)
    assert of[last] == 1


@pytest.mark.parametrize("cls", BACKBONES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_size": 13}, "window_size 13 does not fit the image: the first stage has 8x12"),
        ({"num_heads": (3, 4)}, "16 is not divisible by num_heads 3"),
        ({"num_heads": (2,)}, "one entry for each stage"),
        ({"qkv_bias": "k"}, "qkv_bias must be one of"),
    ],
    ids=str,
)
def test_bad_arguments(cls, changes, message):
    with pytest.raises(ValueError, match=message):
        cls(**{**SMALL, **changes})


def test_bad_calls(tmp_path):
    with pytest.raises(ValueError, match="choose one of nano, tiny"):
        SwinBackbone.from_size("huge")
    with pytest.raises(ValueError, match="one entry for each of the 2 stages"):
        SwinV2Backbone(**SMALL, pretrained_window_sizes=(4,))
    SwinBackbone(**SMALL).save_to_preset(tmp_path / "p")
    with pytest.raises(ValueError, match=r"holds a SwinBackbone, not a SwinV2Backbone"):
        SwinV2Backbone.from_preset(str(tmp_path / "p"))
    with pytest.raises(TypeError, match="Did you mean 'window_size'"):
        SwinBackbone.from_preset(str(tmp_path / "p"), window_sizes=4)
