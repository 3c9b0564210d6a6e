"""Several devices and processes: jobs as launchers describe them, and the same losses as on one."""

import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from mimzoo_training import cli
from mimzoo_training.distribution import Devices, Job, job_of
from mimzoo_training.distribution.environment import first_node

import mimzoo
from mimzoo.data import ArraySource, Loader

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import distribution as runs

one_backend = pytest.mark.one_backend


@one_backend
def test_jobs_are_read_from_the_environment():
    assert job_of({}) == Job(0, 1, None, 0, "none")
    torchrun = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "a"}
    assert job_of({**torchrun, "MASTER_PORT": "9"}) == Job(3, 4, "a:9", 1, "torchrun")
    slurm = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1"}
    slurm |= {"SLURM_STEP_NODELIST": "gpu[03-04],cpu9", "SLURM_JOB_ID": "70001"}
    assert job_of(slurm) == Job(9, 16, "gpu03:12356", 1, "slurm")
    # A batch script that was not started by srun is one process.
    assert job_of({k: v for k, v in slurm.items() if k != "SLURM_STEP_ID"}).processes == 1
    tpu = {"TPU_WORKER_HOSTNAMES": "t-0,t-1", "TPU_WORKER_ID": "1"}
    assert job_of(tpu) == Job(1, 2, None, 0, "tpu")
    plain = {"MIMZOO_PROCESSES": "2", "MIMZOO_PROCESS": "1", "MIMZOO_ADDRESS": "h:1"}
    assert job_of({**plain, **torchrun}) == Job(1, 2, "h:1", 0, "environment")
    with pytest.raises(ValueError, match=r"MIMZOO_PROCESS=2 must lie in 0\.\.1"):
        job_of({**plain, "MIMZOO_PROCESS": "2"})
    with pytest.raises(ValueError, match="must both be whole numbers: they are '2' and None"):
        job_of({"MIMZOO_PROCESSES": "2"})
    with pytest.raises(ValueError, match="set MIMZOO_ADDRESS"):
        job_of({"MIMZOO_PROCESSES": "2", "MIMZOO_PROCESS": "1"})
    assert [first_node(n) for n in ("a", "a,b", "n[1,3]", "n7,m[1-2]")] == ["a", "a", "n1", "n7"]


@one_backend
def test_a_batch_must_fall_into_equal_parts():
    four = Devices(Job(0, 2), local=2)
    four.check_batch(8)
    with pytest.raises(ValueError, match="batch of 6 cannot be spread evenly over 4 devices"):
        four.check_batch(6)
    with pytest.raises(ValueError, match=r"in groups of 2 over 4 devices: give .* multiple of 8"):
        four.check_batch(12, together=2)
    assert str(four) == "4 cpu devices in 2 processes"
    assert str(Devices()) == "1 cpu device"


def test_devices_that_are_not_there(capsys, tmp_path):
    command = ["pretrain", "vit_nano_mae_fmnist_1it", "--data", "embedded", "--workdir"]
    assert cli.main([*command, str(tmp_path / "a"), "--devices", "9"]) == 1
    printed = capsys.readouterr().err
    assert ("torchrun" in printed) == (keras.config.backend() == "torch")
    assert ("--devices 9" in printed) == (keras.config.backend() != "torch")


@one_backend
def test_parts_of_a_batch_are_the_batch():
    rng = np.random.default_rng(0)
    source = ArraySource(rng.integers(0, 256, (22, 8, 8, 3), "uint8"), np.arange(22) % 3)
    options = {
        "transform": mimzoo.data.Compose([mimzoo.data.RandomCropPad(1), mimzoo.data.RandomFlip()]),
        "draw": lambda index, epoch: {
            "masks": mimzoo.pretraining.RandomMasking(0.5).draw(index, epoch, (2, 2), 4)
        },
    }
    whole = Loader(source, 8, epochs=None, **options)
    parts = [Loader(source, 8, epochs=None, shard=(n, 4), **options) for n in range(4)]
    for step in (0, 1, 5):
        for name, values in whole.batch(step).items():
            together = np.concatenate([part.batch(step)[name] for part in parts])
            np.testing.assert_array_equal(values, together)
    augment = mimzoo.data.finetune_augment(3, mixup=0.8, cutmix=0.0)
    mixup = {"labels": True, "batch_transform": [augment]}
    whole = Loader(source, 8, epochs=None, **mixup)
    parts = [Loader(source, 8, epochs=None, shard=(n, 2), **mixup) for n in range(2)]
    for number in range(2):
        together = np.concatenate([part.batch(1)[number] for part in parts])
        np.testing.assert_array_equal(whole.batch(1)[number], together)
    with pytest.raises(ValueError, match="part 0 of 3 of a batch of 8"):
        Loader(source, 8, shard=(0, 3))
    with pytest.raises(ValueError, match="give pad_remainder=True"):
        Loader(source, 8, shard=(0, 2), drop_remainder=False)


@one_backend
@pytest.mark.parametrize("shards", [1, 2])
def test_padded_evaluation_counts_each_example_once(shards):
    source = ArraySource(np.zeros((22, 8, 8, 3), "uint8"), name="x")
    seen = []
    loaders = [
        Loader(
            source,
            8,
            shuffle=False,
            drop_remainder=False,
            pad_remainder=True,
            shard=(n, shards),
            draw=lambda index, epoch: {"masks": index[:, None].repeat(2, 1).astype("uint8")},
        )
        for n in range(shards)
    ]
    for step in range(loaders[0].steps_per_epoch):
        batches = [loader.batch(step) for loader in loaders]
        for batch in batches:
            assert len(batch["images"]) == 8 // shards
            seen += list(zip(batch["masks"][:, 0].tolist(), batch["weights"], strict=True))
    assert [index for index, weight in seen if weight] == list(range(22))
    # Copies keep neighbours together, which MixMIM mixes.
    assert [index for index, weight in seen if not weight] == [20, 21]
    assert np.mean([weight for _, weight in seen]) == pytest.approx(1.0)


LAYOUTS = {
    "jax": {"devices": 2, "model_parallel": 1},
    "torch": {"processes": 2},
    "tensorflow": {"devices": 2},
}


def test_losses_are_those_of_one_device(tmp_path):
    backend = keras.config.backend()
    one = runs.run(backend, "mae", 6, tmp_path / "one")
    many = runs.run(backend, "mae", 6, tmp_path / "many", **LAYOUTS[backend])
    loss, validation, same = runs.differences(one, many)
    assert loss < 1e-5
    assert validation < 1e-5
    assert same
    assert (tmp_path / "many" / "preset" / "config.json").is_file()


@one_backend
def test_a_signal_to_one_process_stops_and_saves_all(tmp_path):
    """torch: the signal of one process travels with the gradients."""
    if keras.config.backend() != "torch":
        pytest.skip("on torch only")
    running = runs.start("torch", "mae", 5000, tmp_path / "run", processes=2)
    log = tmp_path / "run" / "log.jsonl"
    runs.wait_for(lambda: log.is_file() and log.read_text().count("\n") > 3, running)
    running[1].send_signal(signal.SIGTERM)
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [1, 1], printed
    assert all("stopped and saved at step" in text for text in printed)
    assert len({text.split("saved at step ")[1].split()[0] for text in printed}) == 1
    step = int(printed[0].split("saved at step ")[1].split()[0])
    assert (tmp_path / "run" / "checkpoints" / f"step_{step:09d}.safetensors").is_file()


@one_backend
def test_what_a_device_can_do_is_known_by_its_name():
    assert Devices(Job(), 2, "gpu", "NVIDIA A100-SXM4-80GB").peak == 624e12
    assert Devices(Job(), 1, "gpu", "NVIDIA H100 80GB HBM3").peak == 989e12
    assert Devices(Job(0, 2), 4, "tpu", "TPU v5 lite").peak == 8 * 197e12
    assert Devices().peak is None
