# %% [markdown]
# # Training on many devices
#
# The images of a training step do not depend on each other. So eight GPUs can take an eighth of
# them each and share the work: *data-parallel* training. This guide shows what is split and what is
# not, what a batch is then, what it has to do with the learning rate, what each process reads, and
# that the losses are the same on one device and on several, also after a crash.
#
# You need no second device: CPUs pretend to be several, in the same way that tests of mimzoo do it.
# So nothing here gets faster. The code runs on JAX, torch and TensorFlow, which do this in
# different ways (last section). [Training at scale](../docs/at_scale.md) has all options. A few
# minutes on two CPU cores.

# %%
import mimzoo

print("mimzoo", mimzoo.__version__)

# %%
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from mimzoo_training.cli import main
from mimzoo_training.recipes import get_recipe
from PIL import Image

from mimzoo.data import Loader, RandomFlip, open_source, take_subset

FAST = os.environ.get("MIMZOO_GUIDE_FAST") == "1"  # mimzoo's tests run all of it, only smaller
BACKEND = keras.config.backend()
RECIPE = "vit_nano_mae_fmnist_20ep"
NUM_IMAGES, BATCH_SIZE, EPOCHS = (128, 16, 2) if FAST else (256, 32, 8)
RUNS = {"one": 1} if FAST else {"one": 1, "two": 2}  # name -> devices
OUT = Path("runs/many_devices").resolve()
shutil.rmtree(OUT, ignore_errors=True)
(OUT / "images").mkdir(parents=True)

# %% [markdown]
# ## A step, split
#
# All devices have the same weights. Each computes the gradient of its part of the batch; the parts'
# gradients are averaged; each device makes the same step with the average. Is that the gradient of
# the whole batch? For a loss that is a mean over the images it is, if the parts are equally large.
# A straight line through eight points shows it:

# %%
rng = np.random.default_rng(0)
x, y = rng.normal(size=(2, 8))


def gradient(x: np.ndarray, y: np.ndarray, slope: float = 0.5) -> float:
    """Of the mean squared error of `slope * x`."""
    return float(np.mean(2 * (slope * x - y) * x))


print(f"whole batch of 8: {gradient(x, y):.6f}")
for first in (4, 5):
    parts = gradient(x[:first], y[:first]), gradient(x[first:], y[first:])
    print(f"average of a part of {first} and one of {8 - first}: {np.mean(parts):.6f}")

# %% [markdown]
# So mimzoo refuses a batch that does not fall into equal parts.
#
# ## The global batch
#
# The *global batch* is all images of a step, over all devices. mimzoo's batch sizes are always
# global: a recipe with 256 has 128 on each of two devices, 32 on each of eight, and is the same
# recipe. Elsewhere a batch size is often that of one device: then more devices silently make
# another training run of it.
#
# More devices can also be used for a larger batch. Then there are fewer steps, and each must be
# larger. The usual rule is a learning rate in proportion to the batch (Goyal et al., [arXiv
# 1706.02677](https://arxiv.org/abs/1706.02677)), with a warm-up, since the first steps do not bear
# it. Recipes name a rate at a certain batch, and mimzoo scales it:

# %%
recipe = get_recipe(RECIPE)
for batch_size in (64, 256, 1024):
    scaled = dataclasses.replace(recipe, batch_size=batch_size)
    total, warmup = scaled.steps(60_000)
    print(
        f"batch {batch_size:4d}: {total:6,} steps ({warmup:,} of warm-up), "
        f"peak learning rate {scaled.peak_learning_rate:.2e}"
    )

# %% [markdown]
# It is a rule of thumb: it holds over a range of batch sizes, and not without end. If in doubt,
# leave the batch as it is and take devices only to be faster.
#
# ## What each process reads
#
# On several machines there is a *process* on each, or one for each device. Each draws the same
# order of all images, from seed and epoch, and loads only its rows of each batch. Nothing has to be
# sent, and no image is read twice. Below are the first two batches of eight, on one process and on
# two.

# %%
train = take_subset(open_source("embedded", "train"), count=NUM_IMAGES)
loaders = {"one process": Loader(train, 8, transform=RandomFlip(), epochs=None)}
for number in range(2):
    part = Loader(train, 8, transform=RandomFlip(), epochs=None, shard=(number, 2))
    loaders[f"process {number} of 2"] = part

canvas = np.full((6, 32, 8, 32, 3), 255, "uint8")  # six rows of eight images, with margins
for step in range(2):
    for row, (name, loader) in enumerate(loaders.items()):
        batch = loader.batch(step).astype("uint8")
        first = 4 if name == "process 1 of 2" else 0
        place = canvas[3 * step + row, 2:30, first : first + len(batch), 2:30]
        place[:] = batch.swapaxes(0, 1)
names = [f"step {step}, {name}" for step in range(2) for name in loaders]
figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
axes.imshow(canvas.reshape(6 * 32, 8 * 32, 3), interpolation="nearest")
axes.set(xticks=[], yticks=16 + 32 * np.arange(6), yticklabels=names)
axes.set_title("Which images are read, flipped or not")

for step in range(2):
    whole, *parts = [loader.batch(step) for loader in loaders.values()]
    print(
        f"step {step}, parts together are the batch:", np.array_equal(np.concatenate(parts), whole)
    )

# %% [markdown]
# Even the flips are the same. Order, masks, augmentation and dropped branches follow from (seed,
# epoch, example), never from a generator that each process would turn on its own.
#
# ## One device and two
#
# Now for real, with the command that you would use: `mimzoo pretrain`, a small ViT, MAE. The first
# run has one device, the second one two. Usually a launcher (`torchrun`, SLURM's `srun`, a TPU pod)
# starts the processes and says to each by environment variables which one it is. Here this is done
# by hand, to see that there is no magic in it.

# %%
for number in range(len(train)):
    Image.fromarray(train.image(number)).save(OUT / "images" / f"{number:04d}.png")


def free_port() -> int:
    """A port by which processes of this machine can find each other."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def variables(devices: int) -> list[dict]:
    """The environment variables of each process of a run."""
    if devices == 1:
        return [{}]
    if BACKEND == "jax":  # one process takes all devices; a CPU may pretend to be several
        return [{"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}]
    if BACKEND == "torch":  # a process for each device
        job = {"MIMZOO_PROCESSES": devices, "MIMZOO_ADDRESS": f"127.0.0.1:{free_port()}"}
        return [{**job, "MIMZOO_PROCESS": n} for n in range(devices)]
    workers = [f"127.0.0.1:{free_port()}" for _ in range(devices)]
    tasks = [{"type": "worker", "index": n} for n in range(devices)]
    return [{"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": t})} for t in tasks]


def start(name: str, devices: int) -> list[subprocess.Popen]:
    """Starts `mimzoo pretrain`, or resumes it; returns the processes."""
    command = f"pretrain {RECIPE} --data {OUT}/images --workdir {OUT}/{name}"
    command += f" --epochs {EPOCHS} --batch-size {BATCH_SIZE}"
    command += " --validation-every 100 --checkpoint-seconds 1"
    if BACKEND == "jax":
        command += f" --devices {devices}"
    if FAST and devices == 1:  # mimzoo's tests need no process more than they have
        with (OUT / f"{name}_0.txt").open("a") as log, contextlib.redirect_stdout(log):
            main(command.split())
        return []
    mimzoo_command = [sys.executable, "-m", "mimzoo_training.cli", *command.split()]
    common = {"KERAS_BACKEND": BACKEND, "OMP_NUM_THREADS": "1"}
    common |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}  # GPUs are left alone
    running = []
    for number, own in enumerate(variables(devices)):
        environment = os.environ | common | {key: str(value) for key, value in own.items()}
        log = (OUT / f"{name}_{number}.txt").open("a")
        running.append(subprocess.Popen(mimzoo_command, env=environment, stdout=log, stderr=log))
    return running


def finish(name: str, running: list[subprocess.Popen]) -> list[dict]:
    """Waits for a run; returns its log, a row for each epoch."""
    failed = [process.wait() for process in running]
    if any(failed):
        raise RuntimeError((OUT / f"{name}_0.txt").read_text()[-3000:])
    return [json.loads(line) for line in (OUT / name / "log.jsonl").read_text().splitlines()]


def said(name: str, *words: str) -> None:
    """Prints the lines of a run's output that have one of these words."""
    for line in (OUT / f"{name}_0.txt").read_text().splitlines():
        if any(word in line for word in words):
            print(f"  {line.strip()}")


logs = {}
for name, devices in RUNS.items():
    begun = time.monotonic()
    logs[name] = finish(name, start(name, devices))
    print(f"{name}: {len(logs[name])} epochs in {time.monotonic() - begun:.0f} s; it says")
    said(name, "cpu device")

# %%
print("epoch   " + "          ".join(logs), "         difference")
for rows in zip(*logs.values(), strict=True):
    losses = [row["loss"] for row in rows]
    each = "   ".join(f"{loss:.8f}" for loss in losses)
    print(f"{rows[0]['epoch']:5.0f}   {each}   {max(losses) / min(losses) - 1:.0e}")

# %% [markdown]
# The losses agree to six digits or more, and not to the last bit: sums of floating-point numbers
# depend on their order, and two devices add in another order than one. If you ever compare two
# libraries or machines, this is how close the same training should be: what differs by more has
# seen other images, masks or weights.
#
# ## A crash, and other devices
#
# Runs of days are interrupted. Below, a run with two devices is killed in the middle, as by a power
# cut: no process gets the chance to save anything. The same command on *one* device then resumes
# from the last checkpoint.

# %%
running = start("killed", 2)
while not list((OUT / "killed").glob("checkpoints/step_*.safetensors")):
    if any(process.poll() for process in running):
        finish("killed", running)
    time.sleep(0.05)
for process in running:
    process.kill()
for process in running:
    process.wait()
logs["resumed"] = finish("killed", start("killed", 1))
said("killed", "cpu device", "resumed")
differences = [
    abs(row["loss"] / one["loss"] - 1)
    for row, one in zip(logs["resumed"], logs["one"], strict=True)
]
print(f"{len(differences)} epochs, at most {max(differences):.0e} from the run on one device")

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
styles = {"one": "-", "two": "--s", "resumed": ":^"}
labels = {"one": "one device", "two": "two devices", "resumed": "two, killed, resumed on one"}
for name, rows in logs.items():
    epochs, losses = [row["epoch"] for row in rows], [row["loss"] for row in rows]
    axes.plot(epochs, losses, styles[name], label=labels[name])
axes.set(xlabel="epoch", ylabel="training loss", title="Three runs, one curve")
axes.legend()
axes.grid(alpha=0.3)

# %% [markdown]
# The step in the schedule, the place in the order of images, the optimizer's moments and the sums
# of the unfinished epoch are in the checkpoint, and none of them depends on the number of devices.
#
# ## What the backends do
#
# | | JAX | torch | TensorFlow |
# | --- | --- | --- | --- |
# | built on | `keras.distribution.DataParallel` | `torch.distributed` | `tf.distribute` |
# | processes on one machine | one | one for each device | one |
# | several machines | a process on each | a process for each device | `TF_CONFIG` on each |
# | started by | `mimzoo pretrain`, `srun` | `torchrun`, `srun` | `mimzoo pretrain` |
# | splits a model over devices | `--model-parallel M` | no | no |
#
# `keras.distribution` itself works on JAX only in the Keras that mimzoo uses. On torch, mimzoo
# averages the gradients where Keras hands them to the optimizer; on TensorFlow it uses the
# strategies of `tf.distribute`. In this guide TensorFlow ran as two processes, too, since a CPU is
# one device to it unless a program says otherwise. `fit` of a task in your own script uses one
# device: to train on several, use the command, or `mimzoo_training.runner.pretrain(…,
# devices=mimzoo_training.distribution.start())`.
#
# Segmentation and detection are trained on one device.
#
# ## Exercise
#
# 1. Run with three devices and a batch of 32. What does the error say, and which batch sizes are
#    possible?
# 2. Kill a run on one device and resume it on two. Are the losses still the same?
# 3. Train with a batch of 16 and of 256 for as many epochs: with the scaled learning rate, and with
#    `--learning-rate` such that the peak is the same for both. Which pair of curves is closer?
# 4. Two processes with a batch of 32 each, and the same learning rate: which run on one device is
#    that? Write its command.
