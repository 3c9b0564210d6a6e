"""Every layout: in and out again bit for bit, and the traps of each."""

import keras
import numpy as np
import pytest
from checkpoints import golden, write
from safetensors.numpy import load_file

from mimzoo.convert import all_layouts, convert, export, get_layout
from mimzoo.convert.exporting import to_tensors
from mimzoo.convert.importing import load
from mimzoo.models import (
    ImageClassifier,
    ImageSegmenter,
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


def vit(side: int = 16, patch_size: int = 4, **kwargs) -> ViTBackbone:
    return ViTBackbone((side, side, 3), patch_size, 24, 2, 3, name="backbone", **kwargs)


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


def segmenter(backbone):
    cls = ImageSegmenter.for_backbone(type(backbone))
    return cls(backbone, 5, head_dim=6, auxiliary_dim=4)


# Layout -> a small model of it, and the settings that no tensor shows.
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
    "beit": (lambda: simmim_vit(relative_position_bias="shared"), {}),
    "mixmim_pretrain": (lambda: mixmim(), {"decoder_num_heads": 4}),
    "mixmim_classifier": (lambda: classifier(mixmim_backbone()), {}),
    "mmpretrain_mixmim": (lambda: mixmim(), {"decoder_num_heads": 4}),
    "detectron2_vitdet": (
        lambda: vit(
            class_token=False, position_embedding="learned", final_norm=False, window_size=2
        ),
        {"num_heads": 3, "window_size": 2},
    ),
    "mmseg_vit_upernet": (
        lambda: segmenter(
            vit(
                64,
                16,
                position_embedding="learned",
                relative_position_bias="per_block",
                layer_scale_init=0.1,
                final_norm=False,
            )
        ),
        {"shorter_side": 0},
    ),
    "mmseg_swin_upernet": (lambda: segmenter(swin4(128)), {"image_size": 128, "shorter_side": 96}),
    "mmpretrain_mixmim_classifier": (lambda: classifier(mixmim_backbone()), {}),
}


def mixmim_backbone() -> MixMIMBackbone:
    return MixMIMBackbone((32, 32, 3), 4, 12, (1, 2), (2, 3), (4, 2), name="backbone")


def mixmim() -> MixMIM:
    return MixMIM(mixmim_backbone(), decoder=MixMIMDecoder(16, 1, 4), preprocessor=None)


def swin4(side: int = 64) -> SwinBackbone:
    # mmpretrain's final norm is named after the fourth stage.
    return SwinBackbone((side, side, 3), 4, 4, (1, 1, 1, 1), (1, 1, 1, 1), 2, name="backbone")


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
def test_detected_and_there_and_back(name, tmp_path):
    state, facts, before = state_of(name)
    # timm's ViT has MAE's names, so it is detected as MAE's: the converted preset is the same.
    asked = name if name == "timm_vit" else None
    found, after, _ = load([write(state, tmp_path / "x.safetensors")], asked, facts)
    assert found["layout"].name == name
    assert found["tensors"] == len(state)
    for weight, copy in zip(before.weights, after.weights, strict=True):
        old, new = (keras.ops.convert_to_numpy(x) for x in (weight, copy))
        np.testing.assert_array_equal(old, new, err_msg=weight.path)
    again = to_tensors(get_layout(name), after)
    assert set(again) == set(state)
    for key, value in state.items():
        assert value.shape == again[key].shape
        np.testing.assert_array_equal(value, again[key], err_msg=key)


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
    _, state, facts = golden(name)
    entry = convert(write(state, tmp_path / "x.safetensors"), tmp_path / "preset", **facts)
    task = cls.from_preset(str(tmp_path / "preset"))
    assert isinstance(task, cls)
    if name == "mae":  # pretraining continues, pictures are drawn; numbers: test_reference_*
        images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), "uint8")
        assert task.reconstruct(images)["reconstruction"].shape == images.shape
        assert np.isfinite(task.fit(images, batch_size=2, verbose=0).history["loss"][0])
    export(tmp_path / "preset", entry["layout"], tmp_path / "y.safetensors")
    again = load_file(tmp_path / "y.safetensors")
    assert set(again) == set(state)
    for key, value in state.items():
        assert value.shape == again[key].shape
        assert value.tobytes() == again[key].tobytes()
