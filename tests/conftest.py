"""One backend per run, chosen by KERAS_BACKEND."""

import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "torch")
# XLA spends most of a test's time on optimising programs that run once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# No test talks to the real Hub; `hub_server.hub` is one on this machine.
os.environ["HF_HUB_OFFLINE"] = "1"

import keras
import numpy as np
import pytest
from hub_server import hub

__all__ = ["hub"]

# Files of tests that no backend computes in, or only to carry tensors from file to file.
NUMPY_ONLY = {
    f"test_data_{n}"
    for n in ("images", "loader", "shards", "shard_index", "sources", "tfds", "transforms")
}
NUMPY_ONLY |= {f"test_convert_{n}" for n in ("files", "layouts", "traps")}
NUMPY_ONLY |= {"test_masking", "test_recipes"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On JAX and TensorFlow, leaves out what torch's run has shown for all, unless it is named."""
    if keras.backend.backend() == "torch" or any(".py" in argument for argument in config.args):
        return

    def shown(item: pytest.Item) -> bool:
        return item.path.stem in NUMPY_ONLY or item.get_closest_marker("one_backend") is not None

    config.hook.pytest_deselected(items=[item for item in items if shown(item)])
    items[:] = [item for item in items if not shown(item)]


@pytest.fixture(autouse=True, scope="session")
def _in_a_terminal():
    """A process in the background of a shell, or under nohup, ignores signals that tests send."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def _compile_once(tmp_path_factory):
    """Many tests compile the same steps anew; JAX can keep them, for all workers of a run."""
    if keras.backend.backend() == "jax":
        import jax

        root = tmp_path_factory.getbasetemp()
        root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
        jax.config.update("jax_compilation_cache_dir", str(root / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(autouse=True, scope="module")
def _fresh_names():
    """Layer names start at zero in every file."""
    keras.utils.clear_session()


@pytest.fixture(autouse=True)
def _fresh_seed():
    """Every test starts from the same seed, in float32, with subnormal numbers kept."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    if keras.backend.backend() == "torch":
        import torch

        # Commands switch this on for the whole process on CPUs; the next test needs it off.
        torch.set_flush_denormal(False)


@pytest.fixture
def images() -> np.ndarray:
    """Sixteen random images, 16 x 24 px."""
    return np.random.default_rng(0).integers(0, 256, (16, 16, 24, 3), "uint8")
