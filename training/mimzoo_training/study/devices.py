"""Where cells run: GPUs with their memory, or parts of this machine's cores."""

import glob
import os
import shutil
import subprocess
from dataclasses import dataclass, field

# A cell may take so much of a device's memory as was planned for it, and a little is left.
SHARE = 0.85


@dataclass
class Device:
    """A GPU, or this machine's CPU.

    Attributes:
        name: for people.
        memory: bytes that cells may take.
        slots: cells that may run at a time, whatever their size.
        env: variables of a process that runs there.
        cores: CPU cores of each slot; empty: any.
        running: name of a cell -> (bytes, slot).
    """

    name: str
    memory: float
    slots: int
    env: dict[str, str] = field(default_factory=dict)
    cores: list[set[int]] = field(default_factory=list)
    running: dict[str, tuple[float, int]] = field(default_factory=dict)

    def fits(self, needed: float) -> bool:
        """Whether a cell has room; where nothing runs, any cell may try."""
        if not self.running:
            return True
        used = sum(taken for taken, _ in self.running.values())
        return len(self.running) < self.slots and used + needed <= self.memory

    def take(self, name: str, needed: float) -> int:
        """Notes a cell; gives its slot."""
        taken = {slot for _, slot in self.running.values()}
        slot = next(n for n in range(self.slots) if n not in taken)
        self.running[name] = needed, slot
        return slot


def find_devices(jobs: int | None = None) -> list[Device]:
    """GPUs if NVIDIA's tool finds any, else the CPU's cores.

    A TPU is one device that one process uses whole.

    Args:
        jobs: cells at a time; default: on GPUs as many as fit, up to a core each; on a CPU one a
            core.

    Raises:
        ValueError: fewer than one job.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}.")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    number = len(cores) or os.cpu_count() or 1
    gpus = _gpus()
    if gpus:
        each = max(1, (jobs or number) // len(gpus))
        made = [_gpu(name, memory, each if memory or jobs else 1) for name, memory in gpus]
        return made if jobs is None else made[:jobs]
    if glob.glob("/dev/accel*") or {"TPU_WORKER_ID", "TPU_ACCELERATOR_TYPE"} & set(os.environ):
        return [Device("TPU", float("inf"), 1)]
    jobs = jobs or number
    threads = max(1, number // jobs)
    parts = [set(cores[n * threads : (n + 1) * threads]) for n in range(jobs)]
    memory = float("inf")  # Windows has no sysconf
    if hasattr(os, "sysconf"):
        memory = SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    env = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
    # More jobs than cores: they share all of them.
    parts = parts if all(parts) else []
    return [Device("CPU", memory, jobs, env, parts)]


def _gpus() -> list[tuple[str, float | None]]:
    """Names for CUDA_VISIBLE_DEVICES, and bytes of memory; None: not known."""
    found = _memory()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(found.items())
    wanted = [name.strip() for name in visible.split(",")]
    # A part of a GPU (MIG-…) or a UUID (GPU-…) is passed on as it is.
    return [(n, found.get(n)) for n in wanted if n in found or n.startswith(("MIG-", "GPU-"))]


def _memory() -> dict[str, float | None]:
    """Number of each NVIDIA GPU of this machine -> bytes; None where it shares the machine's."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    command = [tool, "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (subprocess.SubprocessError, OSError):
        return {}
    rows = [line.split(", ") for line in listed.stdout.splitlines() if line.strip()]
    return {index: float(m) * 2**20 if m.isdigit() else None for index, m in rows}


def _gpu(name: str, memory: float | None, slots: int) -> Device:
    env = {"CUDA_VISIBLE_DEVICES": name}
    if slots > 1:  # JAX and TensorFlow would each take all of the memory
        env |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return Device(f"GPU {name}", SHARE * memory if memory else float("inf"), slots, env)


def place(devices: list[Device], name: str, needed: float) -> tuple[Device, int] | None:
    """A device with room for a cell, the emptiest first, and its slot there; None: no room."""
    for device in sorted(devices, key=lambda d: len(d.running)):
        if device.fits(needed):
            return device, device.take(name, needed)
    return None


def describe(devices: list[Device]) -> str:
    """How many cells run where, in a line."""
    slots = sum(d.slots for d in devices)
    names = ", ".join(d.name for d in devices)
    return f"up to {slots} cell{'s' if slots > 1 else ''} at a time on {names}"
