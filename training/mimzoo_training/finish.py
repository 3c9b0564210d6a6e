"""A preset of a run that was stopped: `mimzoo finish`."""

import os
from collections.abc import Callable
from typing import Any

import keras

from mimzoo_training import checkpoint, export
from mimzoo_training.files import RunError, read_json
from mimzoo_training.log import Log
from mimzoo_training.workdir import Workdir, alone_in_workdir


@alone_in_workdir
def finish(
    workdir: str | os.PathLike, *, command: str, say: Callable[[str], None] = print
) -> Workdir:
    """Makes the preset of the best checkpoint so far, or the last where nothing was validated.

    The run itself stays as it is: its own command resumes it, and replaces the preset at the end.

    Args:
        workdir: of a run that was stopped.
        command: recorded with the results.
        say: gets a line about what was made.

    Returns:
        The work directory, with its preset.

    Raises:
        RunError: no run was begun there, it has no usable checkpoint, or its files are damaged.
    """
    place = Workdir(workdir)
    if place.finished:
        made = place.preset if place.preset.is_dir() else f"{place.results}, without a preset"
        say(f"the run in {place.path} is finished: {made}")
        return place
    if not place.recipe.is_file() or not (place.checkpoints / checkpoint.MODEL).is_file():
        raise RunError(
            f"{place.path} holds no checkpoint to make a preset of: run `mimzoo pretrain` or "
            "`mimzoo finetune` with this --workdir first."
        )
    stored = read_json(place.recipe, "recipe", "run", mend="choose another work directory")
    recipe, run = stored["recipe"], stored["run"]
    model = checkpoint.build_model(place.checkpoints)
    step = load_best(place, model, say)
    dtype = recipe.get("preset_dtype", "float32")
    weights = [keras.ops.convert_to_numpy(v.value) for v in checkpoint.own(model, model.weights)]
    export.set_weights(model, weights, dtype)
    log = Log(place.path, step, write=False)
    results = measured(log, step, run, command)
    export.write(place, log, model, recipe, {**run, "stopped_at_step": step}, results, dtype)
    values = "".join(f", {entry['metric']} {entry['value']:.4f}" for entry in results)
    raw = recipe.get("ema_momentum")
    note = "; its weights are those of that step, not averaged as at the end (--ema)" * bool(raw)
    say(f"{place.preset} is the model of step {step}{values}{note}")
    return place


def load_best(place: Workdir, model: keras.Model, say: Callable[[str], None]) -> int:
    """Loads the best checkpoint that is whole, else the newest; gives its step."""
    best = place.checkpoints / checkpoint.BEST
    newest = sorted(place.checkpoints.glob("step_*.safetensors"), reverse=True)
    for path in [best] * best.is_file() + newest:
        try:
            return checkpoint.load(path, model, optimizer=False)["step"]
        except checkpoint.DamagedError as error:
            say(f"{error}; it is skipped")
    raise RunError(f"{place.checkpoints} holds no checkpoint that can be used: run on for one.")


def measured(log: Log, step: int, run: dict, command: str) -> list[dict]:
    """What the log says of a step, as results; [] if nothing was validated there."""
    row: dict[str, Any] = next((row for row in log.rows if row["step"] == step), {})
    metrics = {
        "val_mean_iou": "mean IoU",
        "val_ap50": "box AP50",
        "val_accuracy": "accuracy",
        "val_loss": "masked loss, masks of seed 0",
    }
    name = next((name for name in metrics if row.get(name) is not None), None)
    if name is None:
        return []
    more = {"backend": run["backend"], "step": step}
    return [export.result(metrics[name], row[name], run["validation"], command, **more)]
