"""A study from its file to its report."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mimzoo_training.files import LOCK, RunError, locked, write_json
from mimzoo_training.study.data import whole_sources
from mimzoo_training.study.devices import describe, find_devices
from mimzoo_training.study.place import Place
from mimzoo_training.study.pool import Pool, last_line
from mimzoo_training.study.report import write_report
from mimzoo_training.study.rows import published_rows, values
from mimzoo_training.study.spec import Cell, Study, load_study

# In a folder of published results, which may be drawn anew.
PUBLISHED = "published.json"


def run_study(
    spec: str,
    data: str | None,
    workdir: str | os.PathLike,
    *,
    jobs: int | None = None,
    only: str | None = None,
    published: bool = False,
    fit: bool = False,
    validation: str | None = None,
    test: str | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Runs what is missing of a study, seed by seed, the cheapest cells first; writes its report.

    Each cell is a process of its own and ends as a preset, `cells/<name>/pretrain/preset`. Failed
    cells are reported and skipped, stopped ones resume. The report (`report.md`, `study.csv`
    and figures) is of all the cells that are finished.

    Args:
        spec: a TOML file, or the name of a study that comes with the package.
        data: what `mimzoo.data.open_source` opens.
        workdir: the study's folder; a study that was stopped resumes from there.
        jobs: cells at a time; default: as many as fit on the GPUs, or one a CPU core.
        only: run only cells with this in their names.
        published: run nothing, take the results that others published.
        fit: fit scaling laws to the results and draw them.
        validation: images of the validation loss; default: that split of `data`.
        test: images of the accuracies; default: that split of `data`.
        say: gets a line for each cell that ends.

    Returns:
        0 if all cells that were to be run are finished, else 1.

    Raises:
        FileNotFoundError: no such study.
        ValueError: the study or its data cannot be used.
        RunError: the folder is of something else, or another process works in it.
        Interrupted: Ctrl-C or SIGTERM; all is saved.
    """
    study = load_study(spec)
    place = Place(Path(workdir).expanduser().absolute())
    if published:
        given = {"data": data, "validation": validation, "test": test, "only": only, "jobs": jobs}
        if idle := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"--{idle[0]} has no effect with --published, which runs nothing.")
        _report_published(study, place.path, fit, say)
        return 0
    if data is None:
        raise ValueError("a study needs --data (or --published, to draw published results).")
    sources = {"data": data, "validation": validation, "test": test}
    sources = {k: v and _absolute(v) for k, v in sources.items()}
    wanted = [cell for cell in study.cells if not only or only in cell.name]
    if not wanted:
        raise ValueError(f"no cell of {study.name} has {only!r} in its name.")
    place.path.mkdir(parents=True, exist_ok=True)
    with locked(place.path):
        images = {name: one.fingerprint() for name, one in whole_sources(sources).items() if one}
        place.claim(study, sources, spec, images)
        failed = _run(study, wanted, place, jobs, say)
        rows = [row for cell in study.cells if (row := place.row(cell, study))]
        if rows:
            write_report(place.path, study, rows, source=data, fit=fit, say=say)
    for name, why in failed.items():
        say(f"failed: {name}: {why} ({place.cell(name) / 'output.txt'})")
    return 1 if failed else 0


def _report_published(study: Study, folder: Path, fit: bool, say: Callable[[str], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        ours = folder / PUBLISHED
        if not ours.is_file() and {path.name for path in folder.iterdir()} - {LOCK}:
            raise RunError(f"{folder} holds other files: choose a new --workdir.")
        rows = published_rows(study)
        say(f"{len(rows)} of {len(study.cells)} cells of {study.name} have published results.")
        write_json(ours, {"name": study.name})
        source = f"results published in {'; '.join(values(rows, 'source'))}"
        write_report(folder, study, rows, source=source, fit=fit, say=say)


def _absolute(source: str) -> str:
    """A path from wherever the cells' processes run; other names as they are."""
    return str(Path(source).absolute()) if Path(source).exists() else source


def _run(
    study: Study, cells: list[Cell], place: Place, jobs: int | None, say: Callable[[str], None]
) -> dict[str, str]:
    missing = [cell for cell in cells if place.row(cell, study) is None]
    say(f"{study.name}: {len(cells)} cells, {len(cells) - len(missing)} of them finished")
    if not missing:
        return {}
    devices = find_devices(jobs)
    if not place.plan():
        _plan(place)
    plan = place.plan()
    flops = sum(plan[cell.name]["flops"] for cell in missing)
    say(f"{len(missing)} to run, {flops:.2e} FLOP, {describe(devices)}")
    # A whole grid with one seed says more than a part of it with all.
    order = sorted(missing, key=lambda cell: (cell.seed, plan[cell.name]["flops"]))
    return Pool(place, study, order, plan, devices, say).run()


def _plan(place: Place) -> None:
    """Costs of all cells, by a process that touches no GPU.

    Raises:
        RunError: the study or its data cannot be used; says why.
    """
    output = place.path / "plan.txt"
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "mimzoo_training.study.plan", str(place.path)]
    with open(output, "w", encoding="utf-8") as file:
        code = subprocess.run(command, env=env, stdout=file, stderr=file, check=False).returncode
    if code:
        raise RunError(f"the study cannot be run: {last_line(output)}")
    output.unlink()
