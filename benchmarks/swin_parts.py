"""What position bias, shift masks and attention cost in a SimMIM step of Swin V2-T.

    KERAS_BACKEND=torch python -m benchmarks.swin_parts --batch-size 4

Steps of the same task take turns, each with one thing more left out; the differences are the
costs. The last one still has the projections, windows and the way back.
"""

import argparse
import os
from typing import Any

import numpy as np


def bias_kept(attention: Any) -> None:
    """The position bias becomes a number array: no network, no gradient."""
    from keras import ops

    from mimzoo.backend import Constant

    bias = Constant(ops.convert_to_numpy(attention.position_bias(attention.logit_scale)))
    attention.position_bias.call = bias


def mask_left_out(attention: Any) -> None:
    """Shifted windows may look at what rolling put beside them."""
    attend = attention._attend
    attention._attend = lambda query, key, value, bias, masks: attend(query, key, value, bias, [])


def attention_left_out(attention: Any) -> None:
    """Values go through as they are."""
    attention._attend = lambda query, key, value, bias, masks: value


LEFT_OUT = {
    "as it is": None,
    "bias kept constant": bias_kept,
    "and no shift masks": mask_left_out,
    "and no attention": attention_left_out,
}


def main(argv: list[str] | None = None) -> None:
    """Measures on the backend of this process and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)

    import keras

    from benchmarks.cases import CASES
    from benchmarks.side_by_side import interleave
    from benchmarks.steps import keras_step
    from benchmarks.train_step import show
    from mimzoo.models import SwinV2Backbone
    from mimzoo.pretraining import SimMIM

    if keras.config.backend() == "torch":
        import torch

        torch.set_num_threads(args.threads)
    side = CASES["simmim"][1]
    images = np.random.default_rng(0).normal(size=(args.batch_size, side, side, 3))
    steps, changes = {}, []
    for name, change in LEFT_OUT.items():
        changes += [change] if change else []
        backbone = SwinV2Backbone.from_size("tiny", drop_path_rate=0.1)
        task = SimMIM(backbone, preprocessor=None)
        for block in (block for stage in backbone.stages for block in stage):
            for part in changes:
                part(block.attention)
        inputs = {
            "images": images.astype("float32"),
            "masks": task.draw(np.arange(args.batch_size))["masks"],
        }
        steps[name] = keras_step(task, inputs)
    timings = interleave(steps, args.rounds)
    whole = timings[0].median
    rows, before = [], whole
    for timing in timings:
        rows.append(
            {
                "step": timing.name,
                "share of the whole": round(timing.median / whole, 3),
                "this cost": round((before - timing.median) / whole, 3),
                "spread": round(timing.spread, 3),
            }
        )
        before = timing.median
    show(rows)


if __name__ == "__main__":
    main()
