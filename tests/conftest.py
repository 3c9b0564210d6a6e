"""One backend per run, chosen by KERAS_BACKEND."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="module")
def _fresh_names():
    """Layer names start at zero in every file."""
    keras.utils.clear_session()


@pytest.fixture(autouse=True)
def _fresh_seed():
    """Every test starts from the same seed and in float32."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def images() -> np.ndarray:
    """Sixteen random images, 16 x 24 px."""
    return np.random.default_rng(0).integers(0, 256, (16, 16, 24, 3), "uint8")
