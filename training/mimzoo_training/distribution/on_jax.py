"""JAX: `keras.distribution`. Every process runs the same program on the whole batch."""

import contextlib
from typing import Any

import jax
import keras
import numpy as np

from mimzoo_training.distribution.base import ASK_EVERY, Devices, too_few
from mimzoo_training.distribution.environment import Job


def start(job: Job, count: int | None, model_parallel: int) -> Devices:
    """Joins the job; see `distribution.start`."""
    if job.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        # On TPUs all three are found out.
        known = (None, None, None) if job.launcher == "tpu" else _numbers(job)
        keras.distribution.initialize(*known)
        job = Job(jax.process_index(), jax.process_count(), job.address, job.local, job.launcher)
    local, kind = jax.local_devices(), jax.default_backend()
    if count is None:
        count = len(local) if kind != "cpu" or job.processes > 1 else 1
    if count > len(local):
        raise too_few(count, len(local), kind)
    if count != len(local) and job.processes > 1:
        raise ValueError("--devices chooses among the devices of one process only.")
    if count * job.processes == 1:
        return Devices(job, 1, kind, local[0].device_kind)
    return JaxDevices(job, count, kind, local[0].device_kind, model_parallel)


def _numbers(job: Job) -> tuple[str | None, int, int]:
    return job.address, job.processes, job.process


class JaxDevices(Devices):
    """A mesh over all devices: axis "batch", and "model" where models are split."""

    def __init__(self, job: Job, local: int, kind: str, name: str, model_parallel: int) -> None:
        super().__init__(job, local, kind, name)
        self.model_parallel = model_parallel
        if local % model_parallel:
            raise ValueError(
                f"a model cannot be split over {model_parallel} of {local} devices: "
                "give a divisor of their number."
            )
        names = keras.distribution.list_devices()[: self.count]
        if model_parallel == 1:
            self.distribution = keras.distribution.DataParallel(
                devices=names, auto_shard_dataset=False
            )
            return
        mesh = keras.distribution.DeviceMesh(
            (self.count // model_parallel, model_parallel), ("batch", "model"), names
        )
        self.distribution = keras.distribution.ModelParallel(
            layout_map=layout_map(mesh), batch_dim_name="batch", auto_shard_dataset=False
        )

    @property
    def replicas(self) -> int:
        """Parts that a batch is split into."""
        return self.count // self.model_parallel

    def scope(self) -> contextlib.AbstractContextManager:
        """Variables made here lie on all devices."""
        return self.distribution.scope()

    def agree(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        """Asks the others now and then, since that waits for all of them."""
        if self.job.processes == 1:
            return stop, save
        if step % ASK_EVERY:
            return False, False
        from jax.experimental import multihost_utils

        asked = multihost_utils.process_allgather(np.array([stop, save]))
        stop, save = asked.any(axis=0)
        return bool(stop), bool(save)

    def whole(self, value: Any) -> np.ndarray:
        """A variable's value; its parts may lie with other processes."""
        if self.job.processes > 1 and not value.is_fully_replicated:
            from jax.experimental import multihost_utils

            value = multihost_utils.process_allgather(value, tiled=True)
        return super().whole(value)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.job.processes > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("mimzoo")


def layout_map(mesh: keras.distribution.DeviceMesh) -> keras.distribution.LayoutMap:
    """How blocks are split over the axis "model": as in Megatron-LM, arXiv 1909.08053.

    The layers that widen (query, key and value; the MLP's first) hold a part of their columns,
    those that narrow (attention's and the MLP's last) a part of their rows. The optimizer's
    moments lie where their weights lie. All else is on every device.
    """
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[r"attention/qkv/kernel$"] = (None, "model")
    layouts[r"attention/projection/kernel$"] = ("model", None)
    layouts[r"mlp/expand/kernel$"] = (None, "model")
    layouts[r"mlp/expand/bias$"] = ("model",)
    layouts[r"mlp/contract/kernel$"] = ("model", None)
    return layouts
