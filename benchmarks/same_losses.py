"""The losses of each method, compiled against layer by layer, on torch.

    KERAS_BACKEND=torch python -m benchmarks.same_losses

Small models on noise of 32 px, drop path on, a rate that changes, fifty steps; on CUDA the compiled
step is one CUDA graph. In float32 no loss may differ by more than 1e-5 of itself; in bfloat16 the
mean of the last ten may differ by no more than two other seeds change it. Ends with 1 if one does.
"""

import argparse
import sys
from typing import Any

import numpy as np

SHAPE, BATCH, CLASSES = (32, 32, 3), 16, 10
METHODS = ("MAE", "SimMIM", "MixMIM", "data2vec", "fine-tuning")
LIMIT = 1e-5


def make(method: str, dtype: str, seed: int) -> Any:
    """A new model of a method."""
    import keras

    from mimzoo.models import ImageClassifier, MixMIMBackbone, SwinV2Backbone, ViTBackbone
    from mimzoo.pretraining import MAE, Data2Vec, Data2VecBackbone, MixMIM, SimMIM

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[dtype])
    vit = {"patch_size": 4, "embed_dim": 64, "depth": 3, "num_heads": 2}
    swin = {"patch_size": 2, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4)}
    backbone_cls, size, cls, more = {
        "MAE": (ViTBackbone, vit, MAE, {}),
        "SimMIM": (SwinV2Backbone, {**swin, "window_size": 4}, SimMIM, {}),
        "MixMIM": (MixMIMBackbone, {**swin, "window_size": (8, 4)}, MixMIM, {}),
        "data2vec": (Data2VecBackbone, vit, Data2Vec, {}),
        "fine-tuning": (ViTBackbone, vit, ImageClassifier, {"num_classes": CLASSES}),
    }[method]
    backbone = backbone_cls(SHAPE, **size, drop_path_rate=0.2)
    return cls(backbone, preprocessor=None, **more)


def losses(method: str, dtype: str, seed: int, steps: int, **options: Any) -> list[float]:
    """Of so many steps; `options` are of `compile`."""
    import keras

    from mimzoo.models import ImageClassifier
    from mimzoo.optimizers import AdamW, LayerDecayAdamW, WarmupCosine

    task = make(method, dtype, seed)
    rate = WarmupCosine(1e-3, steps, steps // 5)
    supervised = isinstance(task, ImageClassifier)
    if supervised:
        task.compile(LayerDecayAdamW(task, rate), "sparse_categorical_crossentropy", [], **options)
    else:
        task.compile(AdamW(task, rate), **options)
    found = []
    for step in range(steps):
        images = np.random.default_rng(step).normal(size=(BATCH, *SHAPE)).astype("float32")
        if supervised:
            given = images, np.arange(BATCH) % CLASSES
        else:
            given = ({"images": images, **task.draw(np.arange(BATCH), step, training=True)},)
        found.append(float(keras.Model.train_on_batch(task, *given)))
    return found


def compare(method: str, steps: int) -> dict:
    """The row of a method."""
    row: dict[str, Any] = {"method": method}
    ways = {"eager": {"run_eagerly": True}, "compiled": {"jit_compile": True}}
    exact = {k: np.array(losses(method, "float32", 1, steps, **v)) for k, v in ways.items()}
    difference = float(np.max(np.abs(exact["compiled"] / exact["eager"] - 1)))
    row["float32, greatest difference"] = f"{difference:.1e}"

    def end(seed: int, way: str) -> float:
        return float(np.mean(losses(method, "bfloat16", seed, steps, **ways[way])[-10:]))

    ends = {way: end(1, way) for way in ways}
    seeds = [end(seed, "eager") for seed in (2, 3)]
    spread = max(abs(other - ends["eager"]) for other in seeds)
    row |= {f"bfloat16, {way}": f"{value:.6f}" for way, value in ends.items()}
    row["two other seeds"] = ", ".join(f"{value:.6f}" for value in seeds)
    same = difference <= LIMIT and abs(ends["compiled"] - ends["eager"]) <= spread
    row["same"] = "yes" if same else "NO"
    return row


def main(argv: list[str] | None = None) -> None:
    """Compares on torch and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=50, help="at least 10")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    args = parser.parse_args(argv)

    import keras

    from benchmarks.device import torch_device
    from benchmarks.train_step import show

    if keras.config.backend() != "torch":
        raise SystemExit("set KERAS_BACKEND=torch: other backends always compile the step")
    print(f"{args.steps} steps on {torch_device()}")
    rows = []
    for method in args.methods:
        rows.append(compare(method, args.steps))
        print(*rows[-1].values(), sep=" | ", flush=True)
    show(rows)
    sys.exit(any(row["same"] == "NO" for row in rows))


if __name__ == "__main__":
    main()
