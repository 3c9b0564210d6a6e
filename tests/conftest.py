"""One backend per run, chosen by KERAS_BACKEND."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="session")
def _compile_once(tmp_path_factory):
    """Many tests compile the same steps anew; JAX can keep them."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


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
