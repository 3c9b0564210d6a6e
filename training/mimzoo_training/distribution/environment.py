"""Which of how many processes this one is, by the environment variables of launchers."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

_PORT = 12_355


@dataclass(frozen=True)
class Job:
    """The processes of one run.

    Attributes:
        process: number of this one, from 0.
        processes: how many.
        address: host:port of process 0; None: the backend finds it.
        local: number of this process on its machine.
        launcher: whose variables these are.
    """

    process: int = 0
    processes: int = 1
    address: str | None = None
    local: int = 0
    launcher: str = "none"


def job_of(environment: Mapping[str, str] | None = None) -> Job:
    """The job this process belongs to.

    Read are, the first that is there: `MIMZOO_PROCESSES`, `MIMZOO_PROCESS` and `MIMZOO_ADDRESS`
    (host:port of process 0); torchrun's `WORLD_SIZE`, `RANK`, `MASTER_ADDR`; srun's
    `SLURM_NTASKS` with `SLURM_PROCID`; a TPU pod's `TPU_WORKER_HOSTNAMES` (also on GKE).

    Raises:
        ValueError: variables that contradict each other.
    """
    env = os.environ if environment is None else environment
    if "MIMZOO_PROCESSES" in env:
        processes, process = _numbers(env, "MIMZOO_PROCESSES", "MIMZOO_PROCESS")
        address = env.get("MIMZOO_ADDRESS")
        if processes > 1 and not address:
            raise ValueError("set MIMZOO_ADDRESS to host:port of process 0, too.")
        return Job(process, processes, address, int(env.get("MIMZOO_LOCAL", 0)), "environment")
    if "WORLD_SIZE" in env and "RANK" in env:
        processes, process = _numbers(env, "WORLD_SIZE", "RANK")
        address = f"{env.get('MASTER_ADDR', '127.0.0.1')}:{env.get('MASTER_PORT', _PORT)}"
        return Job(process, processes, address, int(env.get("LOCAL_RANK", 0)), "torchrun")
    # Inside `salloc` or a batch script the variables of the job are there, but no step's.
    if "SLURM_STEP_ID" in env and int(env.get("SLURM_NTASKS", 1)) > 1:
        processes, process = _numbers(env, "SLURM_NTASKS", "SLURM_PROCID")
        nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "127.0.0.1")
        # Each job its own port, so that two of them can share a machine.
        port = _PORT + int(env.get("SLURM_JOB_ID", 0)) % 10_000
        local = int(env.get("SLURM_LOCALID", 0))
        return Job(process, processes, f"{first_node(nodes)}:{port}", local, "slurm")
    hosts = [host for host in env.get("TPU_WORKER_HOSTNAMES", "").split(",") if host]
    if len(hosts) > 1:
        return Job(int(env.get("TPU_WORKER_ID", 0)), len(hosts), None, 0, "tpu")
    return Job()


def local_index(job: Job, visible: int) -> int:
    """Which of the devices that it sees is this process'.

    Args:
        job: of the process.
        visible: devices that it sees: all of the machine, or its own one where a scheduler
            hides the others (SLURM's --gpus-per-task).

    Raises:
        ValueError: more processes on the machine than devices.
    """
    if visible == 1:
        return 0
    if job.local >= visible:
        raise ValueError(
            f"this is process {job.local + 1} of its machine, which shows it {visible} devices: "
            "start one process for each device."
        )
    return job.local


def first_node(nodes: str) -> str:
    """The first name of SLURM's list: "gpu[03-05,9],cpu1" -> "gpu03"."""
    found = re.match(r"([^\[,]*)(?:\[(\d+))?", nodes)
    return f"{found[1]}{found[2] or ''}"


def _numbers(env: Mapping[str, str], count: str, number: str) -> tuple[int, int]:
    try:
        processes, process = int(env[count]), int(env[number])
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{count} and {number} must both be whole numbers: "
            f"they are {env.get(count)!r} and {env.get(number)!r}."
        ) from error
    if not 0 <= process < processes:
        raise ValueError(f"{number}={process} must lie in 0..{processes - 1} ({count}).")
    return processes, process
