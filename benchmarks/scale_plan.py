"""What the largest cells of the grids would need, by arithmetic: memory, input, days.

    python -m benchmarks.scale_plan

FLOP of a step by formula (`mimzoo_training.flops`), peaks from data sheets
(`mimzoo_training.distribution.peaks`). `--utilisation` is the share of the peak that is reached:
by default what the method reached on one H100; the machines of the table were not measured.
"""

import argparse
from typing import NamedTuple

from mimzoo.hub.tables import Rows

# In bfloat16 on one H100, of 989 TFLOP/s: MAE with ViT-L, batch 256, JAX, 239 (30 % of what a
# product of 8,192 x 8,192 reaches there); SimMIM with Swin V2-B, batch 32, torch, 93.5
# (results_gpu.csv).
MEASURED = {"mae": 0.24, "simmim": 0.095}
CELLS = ("swinv2_giant_simmim_in22k_500k", "vit_huge_mae_coyo100m_250k")
MACHINES = {"8 x H100": ("H100", 8, 80e9), "TPU v5p, 32 chips": ("TPU v5", 32, 95e9)}
# Mean size of 125 photographs whose shorter side was made 256 px, JPEG quality 95: as img2dataset
# can store them. As they came (0.21 megapixels on average) they take 113 kB.
BYTES = 42.7e3


class Cell(NamedTuple):
    """What a step of a cell costs."""

    weights: int
    flops: float
    kept: float
    widest: float


def cost(name: str) -> tuple[object, Cell]:
    """A recipe, and weights, FLOP of a step an image, activations kept an image (numbers)."""
    from mimzoo_training import parts
    from mimzoo_training.flops import step_flops
    from mimzoo_training.recipes import get_recipe

    recipe = get_recipe(name)
    task = parts.build_task(recipe)
    backbone = task.backbone
    weights = sum(_size(v) for v in task.weights)
    if hasattr(backbone, "stages"):
        sizes = [
            (rows * cols * backbone.embed_dim * 2**stage, len(blocks))
            for stage, ((rows, cols), blocks) in enumerate(
                zip(backbone.stage_grids, backbone.stages, strict=True)
            )
        ]
        window = max(block.attention.windows.size**2 for block in backbone.stages[0])
        rows, cols = backbone.stage_grids[0]
        scores = rows * cols * window * backbone.num_heads[0]
    else:
        tokens = task.num_visible + int(backbone.class_token)
        every = backbone.grid[0] * backbone.grid[1] + int(backbone.class_token)
        decoder = task.decoder
        sizes = [(tokens * backbone.embed_dim, backbone.depth)]
        sizes += [(every * decoder.embed_dim, decoder.depth)]
        scores = every**2 * decoder.num_heads
    kept = sum(size * count for size, count in sizes)
    # Inside the block that is computed again: queries, keys, values, the MLP, scores twice.
    widest = max(size for size, _ in sizes) * 12 + 2 * scores
    return recipe, Cell(weights, step_flops(task, 1), kept, widest)


def _size(variable: object) -> int:
    size = 1
    for side in variable.shape:
        size *= side
    return size


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    from mimzoo_training.distribution.peaks import peak

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--utilisation", type=float, help="default: as measured, by method")
    parser.add_argument("--cells", nargs="+", default=CELLS)
    args = parser.parse_args(argv)
    rows = []
    for name in args.cells:
        recipe, cell = cost(name)
        steps = recipe.steps(recipe.num_examples)[0]
        images = steps * recipe.batch_size
        share = MEASURED.get(recipe.method) if args.utilisation is None else args.utilisation
        if share is None or not 0 < share <= 1:
            raise SystemExit(f"{name}: give --utilisation, above 0 and at most 1")
        for machine, (device, count, memory) in MACHINES.items():
            rate = share * peak(device) * count / cell.flops
            batch = recipe.batch_size // count
            # Weights, gradients and two moments in float32; blocks' inputs in bfloat16.
            states = 16 * cell.weights
            micro = int((0.8 * memory - states) / (2 * cell.kept + 2 * cell.widest))
            rows.append(
                {
                    "cell": name,
                    "machine": machine,
                    "weights": f"{cell.weights / 1e6:.0f}M",
                    "GFLOP/image": f"{cell.flops / 1e9:.0f}",
                    "states/device": f"{states / 1e9:.1f} GB",
                    "kept/image": f"{2 * cell.kept / 1e6:.0f} MB",
                    "images/device": f"{batch} (fits: {max(0, micro)})",
                    "of peak": f"{share:.1%}",
                    "images/s": f"{rate:.0f}",
                    "input": f"{rate * BYTES / 1e6:.0f} MB/s",
                    "days": f"{images / rate / 86400:.1f}",
                    "device-hours": f"{images / rate / 3600 * count:.0f}",
                }
            )
    print(Rows(rows))


if __name__ == "__main__":
    main()
