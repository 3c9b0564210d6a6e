"""TensorFlow: `tf.distribute`, mirrored over the devices of one process or of several."""

import contextlib
import json
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mimzoo_training.distribution.base import ASK_EVERY, Devices, too_few
from mimzoo_training.distribution.environment import Job


def start(job: Job, count: int | None, model_parallel: int) -> Devices:
    """Joins the job; see `distribution.start`. `TF_CONFIG` describes a job, too."""
    if model_parallel > 1:
        raise ValueError("a model can be split over devices on JAX only: use --backend jax.")
    cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {}).get("worker", [])
    if len(cluster) > 1:
        task = json.loads(os.environ["TF_CONFIG"])["task"]
        job = Job(int(task["index"]), len(cluster), cluster[0], launcher="TF_CONFIG")
    elif job.processes > 1:
        raise ValueError(
            "TensorFlow wants the addresses of all processes: set TF_CONFIG to "
            '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}.'
        )
    if job.processes > 1:
        # First of all: afterwards TensorFlow knows no other processes.
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        kind = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
        local = strategy.num_replicas_in_sync // job.processes
        if count not in (None, local):
            raise ValueError(
                f"in a job of several processes each takes all of its {local} devices: leave "
                "--devices out, or hide some with CUDA_VISIBLE_DEVICES."
            )
        return TensorFlowDevices(job, local, kind, _name(), strategy)
    gpus = tf.config.list_logical_devices("GPU")
    found = gpus or tf.config.list_logical_devices("CPU")
    kind = "gpu" if gpus else "cpu"
    if count is None:
        count = len(found) if gpus else 1
    if count > len(found):
        raise too_few(count, len(found), kind)
    if count == 1:
        return Devices(job, 1, kind, _name())
    names = [device.name for device in found[:count]]
    strategy = tf.distribute.MirroredStrategy(names)
    return TensorFlowDevices(job, count, kind, _name(), strategy)


def _name() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else ""


class TensorFlowDevices(Devices):
    """The replicas of a strategy."""

    def __init__(self, job: Job, local: int, kind: str, name: str, strategy: Any) -> None:
        super().__init__(job, local, kind, name)
        self.strategy = strategy
        if job.processes > 1:
            self._reduce_dictionaries()

    def _reduce_dictionaries(self) -> None:
        # Keras averages a first batch over the replicas to learn its shapes, and each step's loss.
        # With several processes TensorFlow cannot do that to dictionaries, to the bytes of masks,
        # or to single numbers along an axis.
        usual = self.strategy.reduce

        def reduce(operation: Any, value: Any, axis: int | None) -> Any:
            def one(part: Any) -> Any:
                local = tf.convert_to_tensor(self.strategy.experimental_local_results(part)[0])
                if not local.dtype.is_floating:
                    return local
                return usual(operation, part, axis if local.shape.rank else None)

            return keras.tree.map_structure(one, value)

        self.strategy.reduce = reduce

    def scope(self) -> contextlib.AbstractContextManager:
        """Variables made here are mirrored."""
        return self.strategy.scope()

    def dataset(self, loader: Any) -> Any:
        """The loader's batches, each cut into one part for each device."""
        first = loader.batch(loader.start_step)

        def spec(array: Any) -> tf.TensorSpec:
            return tf.TensorSpec(array.shape, array.dtype)

        parts = self.local

        def cut() -> Any:
            for batch in loader.dataset():
                for number in range(parts):
                    yield keras.tree.map_structure(
                        lambda a, n=number: a[n * len(a) // parts : (n + 1) * len(a) // parts],
                        batch,
                    )

        one = keras.tree.map_structure(lambda a: a[: len(a) // parts], first)
        signature = keras.tree.map_structure(spec, one)

        def local(context: tf.distribute.InputContext) -> tf.data.Dataset:
            made = tf.data.Dataset.from_generator(cut, output_signature=signature)
            return made.prefetch(2 * parts)

        return self.strategy.distribute_datasets_from_function(local)

    def agree(self, step: int, stop: bool, save: bool) -> tuple[bool, bool]:
        """Asks the others now and then, since that waits for all of them."""
        if self.job.processes == 1:
            return stop, save
        if step % ASK_EVERY:
            return False, False
        asked = [float(stop), float(save)]
        each = self.strategy.run(lambda: tf.constant(asked))
        stop, save = self.strategy.reduce("SUM", each, axis=None).numpy() > 0
        return bool(stop), bool(save)

    def whole(self, value: Any) -> np.ndarray:
        """A variable's value on the first device."""
        return super().whole(tf.convert_to_tensor(value))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.job.processes > 1:
            each = self.strategy.run(lambda: tf.constant(1.0))
            float(self.strategy.reduce("SUM", each, axis=None))
