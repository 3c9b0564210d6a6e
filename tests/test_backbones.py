"""Every backbone keeps every promise of `contracts.py`."""

import functools

import contracts
import keras
import numpy as np
import pytest
from gradients import forward

from mimzoo.models import ViTBackbone


@pytest.mark.parametrize("family", contracts.FAMILIES)
@pytest.mark.parametrize("check", contracts.CHECKS, ids=lambda check: check.__name__)
def test_contract(check, family, tmp_path):
    cls, arguments = contracts.FAMILIES[family]
    check(functools.partial(cls, **{"image_shape": contracts.SHAPE, **arguments}), tmp_path)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX's own way into a SavedModel")
def test_a_saved_model_of_jax_runs_in_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow")
    backbone = ViTBackbone.from_size("nano", image_shape=(28, 28, 3), depth=1)
    backbone.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    x = contracts.pixels(3, (28, 28, 3))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.serve(x).numpy(), forward(backbone, x), rtol=1e-4, atol=1e-5)
