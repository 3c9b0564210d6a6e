"""One run on several devices and in several processes. A file for each backend, nothing elsewhere.

Order, masks and augmentation follow from (seed, epoch, example index), so the loss of a run is
the same on any number of devices but for rounding.
"""

import importlib

from mimzoo_training.distribution.base import Devices
from mimzoo_training.distribution.environment import Job, job_of

__all__ = ["Devices", "Job", "job_of", "start"]


def start(count: int | None = None, model_parallel: int = 1) -> Devices:
    """Joins the processes of the job and takes their devices. To be called before any model.

    What job this process belongs to is read from the environment, see `job_of`.

    Args:
        count: devices of this process to use; default: all GPUs or TPU cores, and one CPU.
        model_parallel: over how many devices each model is split (JAX); 1: data-parallel only.

    Returns:
        The devices that the run is to use.

    Raises:
        ValueError: fewer devices than asked for, or what the backend cannot do.
    """
    import keras

    backend = keras.config.backend()
    home = importlib.import_module(f"mimzoo_training.distribution.on_{backend}")
    return home.start(job_of(), count, model_parallel)
