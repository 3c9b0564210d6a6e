"""What each cell of a study costs, before any is run. A process of its own, on the CPU.

    python -m mimzoo_training.study.plan FOLDER

Opens the data, makes each model once, and so finds what is wrong with a study before hours of
compute. Writes `plan.json`.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

from mimzoo_training.study.place import Place
from mimzoo_training.study.spec import Study

# Weight, gradient and both moments of AdamW, in float32.
BYTES_A_WEIGHT = 16
# What a block keeps for the backward pass, in multiples of tokens x width, and bytes of each.
KEPT, BYTES = 20, 4
# Keras, the backend and its kernels.
PROCESS = 1.5e9


def main(folder: str) -> None:
    """Writes the plan of the study in a folder."""
    from mimzoo_training import parts
    from mimzoo_training.flops import step_flops
    from mimzoo_training.study.data import images_of, open_sources

    place = Place(Path(folder))
    study, sources = place.read()
    opened = open_sources(study, sources)
    _check_finetuning(study)
    plan, costs = {}, {}
    for cell in study.cells:
        recipe = cell.recipe()
        if cell.model.label not in costs:
            task = parts.build_task(recipe)
            costs[cell.model.label] = {
                "weights": sum(_numbers(v) for v in task.backbone.weights),
                "flops": step_flops(task, 1) + _teacher_flops(task),
                "forward": step_flops(task, 1) / 3,
                "bytes": _bytes(task, recipe.batch_size),
            }
        cost = costs[cell.model.label]
        named = isinstance(cell.data, str)
        source = images_of(cell, study, opened["train"])
        source = parts.subset_for(recipe, source) if named else source
        if len(source) < recipe.batch_size:
            raise ValueError(
                f"{cell.name}: {len(source)} images are fewer than the batch of "
                f"{recipe.batch_size}: give more data, or a smaller batch_size in its changes."
            )
        steps, _ = recipe.steps(len(source))
        images = steps * recipe.batch_size
        training = images * cost["flops"]
        plan[cell.name] = {
            "images": len(source),
            "steps": steps,
            "images_seen": images,
            "weights": cost["weights"],
            "flops": training + _evaluation_flops(study, cost, len(opened["test"])),
            "training_flops": training,
            "bytes": cost["bytes"],
        }
    place.write_plan(plan)


def _check_finetuning(study: Study) -> None:
    """Raises ValueError where a batch has more images than there are labels."""
    from mimzoo_training.recipes import get_recipe

    named = {model.finetune for model in study.models.values() if model.finetune}
    for name, entry in itertools.product(named, study.finetune):
        batch = entry.get("batch_size") or get_recipe(name).batch_size
        if entry["labels"] < batch:
            raise ValueError(
                f"evaluate.finetune: {entry['labels']} labels are fewer than the batch of "
                f"{batch}: give more labels, or a smaller batch_size."
            )


def _teacher_flops(task: Any) -> float:
    """Forward pass of a frozen teacher over one image: two FLOP a weight and token."""
    teacher = getattr(task.target, "model", None)
    if teacher is None:
        return 0.0
    tokens = 1
    for side in teacher.outputs[0].shape[1:-1]:
        tokens *= side
    return 2.0 * tokens * sum(_numbers(v) for v in teacher.weights)


def _evaluation_flops(study: Study, cost: dict, tested: int) -> float:
    """About: a classifier sees all tokens, MAE's encoder a part of them."""
    from mimzoo.run_length import steps

    trained = 0
    for entry in study.finetune:
        batch = min(entry.get("batch_size", 50), entry["labels"])
        trained += steps(entry["length"], batch, entry["labels"]) * batch
    passes = len(study.finetune) + bool(study.features)
    seen = sum(study.features.get("labels", [])) + passes * tested
    return (3 * trained + seen) * cost["forward"]


def _bytes(task: Any, batch: int) -> float:
    """Memory of a training step, by arithmetic that errs on the high side."""
    backbone = task.backbone
    if hasattr(backbone, "stages"):
        kept = sum(
            rows * cols * backbone.embed_dim * 2**stage * len(blocks)
            for stage, ((rows, cols), blocks) in enumerate(
                zip(backbone.stage_grids, backbone.stages, strict=True)
            )
        )
    else:
        tokens = backbone.grid[0] * backbone.grid[1] + 1
        decoder = getattr(task.decoder, "embed_dim", 0) * getattr(task.decoder, "depth", 0)
        kept = tokens * (backbone.embed_dim * backbone.depth + decoder)
    weights = sum(_numbers(v) for v in task.weights)
    return PROCESS + BYTES_A_WEIGHT * weights + KEPT * BYTES * batch * kept


def _numbers(variable: Any) -> int:
    count = 1
    for side in variable.shape:
        count *= side
    return int(count)


if __name__ == "__main__":
    main(sys.argv[1])
