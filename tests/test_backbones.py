"""Every backbone keeps every promise of `contracts.py`."""

import functools

import contracts
import keras
import numpy as np
import pytest
from gradients import forward

from mimzoo.models import SwinBackbone, ViTBackbone

ON_TORCH = keras.config.backend() == "torch"
CHECKS = contracts.CHECKS + (contracts.ANYWHERE if ON_TORCH else [])
VARIANTS = {
    "vit of SimMIM": (
        ViTBackbone,
        {
            **contracts.VIT,
            "position_embedding": "none",
            "relative_position_bias": "shared",
            "qkv_bias": "qv",
            "layer_scale_init": 0.1,
        },
    ),
    "vit of BEiT": (
        ViTBackbone,
        {
            **contracts.VIT,
            "position_embedding": "learned",
            "relative_position_bias": "per_block",
            "class_token": False,
            "final_norm": False,
        },
    ),
    "swin without": (SwinBackbone, {**contracts.STAGES, "qkv_bias": "none", "final_norm": False}),
}


VITDET = {
    **contracts.VIT,
    "relative_position_bias": "decomposed",
    "class_token": False,
    "window_size": 3,
    "global_attention_blocks": (1,),
}


def run(check, family, folder):
    cls, arguments = family
    check(functools.partial(cls, **{"image_shape": contracts.SHAPE, **arguments}), folder)


@pytest.mark.parametrize(
    ("check", "family"),
    [
        pytest.param(check, family, id=f"{check.__name__}-{family}")
        for check in CHECKS
        for family in contracts.FAMILIES
        # What Keras does with any of them, one of them shows.
        if ON_TORCH or family == "swin_v2" or check not in contracts.SHOWN_BY_ONE
    ],
)
def test_contract(check, family, tmp_path):
    run(check, contracts.FAMILIES[family], tmp_path)


@pytest.mark.parametrize(
    "check",
    [check for check in CHECKS if ON_TORCH or check not in contracts.SHOWN_BY_ONE],
    ids=lambda check: check.__name__,
)
def test_vitdet(check, tmp_path):
    run(check, (ViTBackbone, VITDET), tmp_path)


@pytest.mark.one_backend
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, tmp_path):
    for check in (contracts.check_step, contracts.check_preset, contracts.check_bfloat16):
        run(check, VARIANTS[variant], tmp_path / check.__name__)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX's own way into a SavedModel")
def test_a_saved_model_of_jax_runs_in_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow")
    backbone = ViTBackbone.from_size("nano", image_shape=(28, 28, 3), depth=1)
    backbone.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    x = contracts.pixels(3, (28, 28, 3))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.serve(x).numpy(), forward(backbone, x), rtol=1e-4, atol=1e-5)
