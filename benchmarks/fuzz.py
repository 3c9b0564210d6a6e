"""Damaged files at random, many more than the suite tries: tar files, images, indexes of shards,
safetensors headers and `config.json` of presets.

    python -m benchmarks.fuzz                 # 10,000 of each
    python -m benchmarks.fuzz --cases 500 --only images

Prints how long it took, the slowest case, and how much memory was needed; ends with 1 at a fault.
"""

import argparse
import functools
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from PIL import Image
from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]


# On a busy machine the slowest case waits for a processor: its CPU time shows that.
HEADS = ("what", "cases", "seconds", "slowest", "slowest, CPU", "memory", "faults")


def main(argv: list[str] | None = None) -> int:
    """Runs the checks of `tests/faults/test_fuzz_*.py`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000, metavar="N")
    parser.add_argument("--only", default="", metavar="TEXT", help="such as tars or config.json")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    table = Table(*HEADS, box=None)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, strategy, check in _checks(Path(folder)):
            if args.only in name:
                row, error = _run(strategy, check, args.cases)
                table.add_row(name, *row)
                failed = failed or error
    Console().print(table)
    return int(failed)


def _checks(folder: Path) -> list[tuple]:
    import test_fuzz_data as fuzz
    import test_fuzz_presets as presets

    Image.MAX_IMAGE_PIXELS = 2**21
    os.fsync = lambda number: None
    os.environ["MIMZOO_CACHE"] = str(folder / "cache")
    files = fuzz.prepare_index(folder)
    index = functools.partial(fuzz.check_index, folder=folder, files=files)
    preset = shutil.copytree(presets.tiny(), folder / "preset")
    load = functools.partial(presets.load, preset, "config.json", cls=presets.Backbone)
    safetensors = functools.partial(presets.check_safetensors, folder / "x.safetensors")
    # The first of each is good, so that what is imported once is not timed.
    fuzz.check_tar((0, [], [], b""))
    load((preset / "config.json").read_bytes())
    return [
        ("tars", fuzz.TAR_CASES, fuzz.check_tar),
        ("images", fuzz.IMAGE_CASES, fuzz.check_image),
        ("indexes", fuzz.INDEX_CASES, index),
        ("safetensors", presets.headers(), safetensors),
        ("config.json", presets.damaged("config.json"), load),
    ]


def _run(strategy: object, check: Callable, cases: int) -> tuple[tuple[str, ...], bool]:
    done, slowest, slowest_cpu, fault = 0, 0.0, 0.0, False
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()

    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(case: object) -> None:
        nonlocal done, slowest, slowest_cpu
        before, cpu = time.perf_counter(), time.process_time()
        check(case)
        slowest_cpu = max(slowest_cpu, time.process_time() - cpu)
        done, slowest = done + 1, max(slowest, time.perf_counter() - before)

    try:
        run()
    except Exception:
        traceback.print_exc()
        fault = True
    seconds = time.perf_counter() - started
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    times = f"{seconds:.0f}", f"{slowest * 1000:.0f} ms", f"{slowest_cpu * 1000:.0f} ms"
    return (f"{done}", *times, f"{more:.0f} MB", str(int(fault))), fault


if __name__ == "__main__":
    sys.exit(main())
