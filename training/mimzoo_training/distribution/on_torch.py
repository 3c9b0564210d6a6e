"""torch: `torch.distributed`, a process for each device, as torchrun starts them.

Keras 3.15 has no distribution on torch. Its training step calls the model itself and not a
wrapper, so the hooks of DistributedDataParallel would not run, and ranks would drift apart
without an error. What it does is done where Keras hands gradients to the optimizer: they are
averaged over the processes, in buckets. Keras 3.16 is to bring a distribution of its own, which
can take the place of this file.
"""

import os
from typing import Any

import keras
import torch
import torch.distributed as dist

from mimzoo import backend
from mimzoo_training.distribution.base import Devices, too_few
from mimzoo_training.distribution.environment import Job, local_index

# Numbers that are sent together: 25 MB of float32, as DistributedDataParallel's buckets.
BUCKET = 25 * 2**20 // 4


def start(job: Job, count: int | None, model_parallel: int) -> Devices:
    """Joins the job; see `distribution.start`."""
    kind = "gpu" if torch.cuda.is_available() else "cpu"
    if model_parallel > 1:
        raise ValueError("a model can be split over devices on JAX only: use --backend jax.")
    if count not in (None, 1):
        if kind == "gpu" and count > torch.cuda.device_count():
            raise too_few(count, torch.cuda.device_count(), kind)
        raise ValueError(
            f"on torch each device has its process: start {count} of them with "
            f"`torchrun --nproc-per-node {count} -m mimzoo_training.cli …`."
        )
    index = local_index(job, torch.cuda.device_count()) if kind == "gpu" else 0
    name = torch.cuda.get_device_name(index) if kind == "gpu" else ""
    if kind == "cpu":
        # Swin's -100 leaves exp(-100), too small for a normal number: CPUs multiply those many
        # times slower, unless they may take them for zero, as XLA and TensorFlow let them.
        torch.set_flush_denormal(True)
    if job.processes == 1:
        return Devices(job, 1, kind, name)
    host, _, port = job.address.rpartition(":")
    os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port}
    if kind == "gpu":
        torch.cuda.set_device(index)
    dist.init_process_group(
        "nccl" if kind == "gpu" else "gloo", rank=job.process, world_size=job.processes
    )
    backend.set_part(job.process, job.processes)
    return TorchDevices(job, 1, kind, name)


class TorchDevices(Devices):
    """One of several processes, each with one device and the whole model."""

    def prepare(self, model: keras.Model) -> None:
        """Gives all processes the weights of process 0, and the optimizer all gradients."""
        variables = [*model.variables, *model.optimizer.variables]
        with torch.no_grad():
            for variable in variables:
                value = variable.value.detach().contiguous()
                dist.broadcast(value, 0)
                variable.assign(value)
        self._wishes = (False, False)
        usual = model.optimizer.apply

        def apply(grads: list, trainable_variables: Any = None) -> Any:
            return usual(self._average(grads), trainable_variables)

        model.optimizer.apply = apply

    def _average(self, grads: list) -> list:
        """The mean of each gradient over the processes; the same bits on all of them."""
        present = [g for g in grads if g is not None]
        # The last bucket also carries what this process wishes all to do.
        wishes = torch.tensor(self._wishes, dtype=torch.float32, device=present[0].device)
        for bucket in buckets([*present, wishes]):
            flat = torch.cat([g.reshape(-1) for g in bucket])
            dist.all_reduce(flat)
            flat /= self.job.processes
            parts = flat.split([g.numel() for g in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        self._sum = wishes
        return grads

    def agree(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        """What was wished for before this step; what is wished now is heard with the next."""
        self._wishes = (stop, save)
        stop, save = (self._sum > 0).tolist()
        return stop, save

    def results(self, model: keras.Model, logs: dict) -> dict[str, float]:
        """Metrics over the rows of all processes, from the sums that they are made of."""
        own = [
            (variable, variable.value.detach().clone())
            for metric in model.metrics
            for variable in metric.variables
        ]
        for variable, part in own:
            total = part.clone()
            dist.all_reduce(total)
            variable.assign(total)
        known = model.get_metrics_result()
        for variable, part in own:  # the epoch may continue
            variable.assign(part)
        return {name: float(known.get(name, value)) for name, value in logs.items()}

    def wait(self) -> None:
        """Until all processes are here."""
        dist.barrier()


def buckets(tensors: list) -> list[list]:
    """Tensors of one type, in order, in groups of about `BUCKET` numbers."""
    groups: list[list] = []
    filled = 0
    for tensor in tensors:
        if not groups or filled >= BUCKET or groups[-1][0].dtype != tensor.dtype:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.numel()
    return groups
