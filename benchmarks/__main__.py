"""All comparisons: each pair side by side, into one table and one picture.

    python -m benchmarks                    # everything: hours on a CPU
    python -m benchmarks --only tiny        # rows with this in their names
    python -m benchmarks --draw             # the picture of the table as it is
    python -m benchmarks --gpu              # instead, base and large models in bfloat16 on a GPU
    python -m benchmarks --gpu --size tiny --batch-size 2 --rounds 1   # a quick check

Rows that stand in the table are measured again only with `--again`, so a stopped run
resumes.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import train_step

# name -> arguments of `benchmarks.train_step`.
ROWS = {
    "mae tiny": "--case mae --size tiny --batch-size 8",
    "mae small": "--case mae --size small --batch-size 8",
    "mae base": "--case mae --size base --batch-size 8",
    "mae tiny bf16": "--case mae --size tiny --batch-size 8 --bf16",
    "mae base bf16": "--case mae --size base --batch-size 8 --bf16",
    "simmim tiny": "--case simmim --size tiny --batch-size 4 --no-compile",
    "simmim base": "--case simmim --size base --batch-size 4 --no-compile",
    "simmim tiny bf16": "--case simmim --size tiny --batch-size 4 --no-compile --bf16",
    "simmim_v1 tiny": "--case simmim_v1 --size tiny --batch-size 4 --no-compile",
    "finetune_vit tiny": "--case finetune_vit --size tiny --batch-size 16",
    "finetune_vit base": "--case finetune_vit --size base --batch-size 4",
    "finetune_swinv2 tiny": "--case finetune_swinv2 --size tiny --batch-size 4 --no-compile",
    "inference_vit tiny": "--case inference_vit --size tiny --batch-size 16 --rounds 7",
    "inference_vit base": "--case inference_vit --size base --batch-size 8 --rounds 7",
    "inference_swinv2 tiny": (
        "--case inference_swinv2 --size tiny --batch-size 8 --rounds 7 --no-compile"
    ),
}
OFFICIAL = {"mixmim base": "--case mixmim --size base --batch-size 4 --no-compile"}

GPU_OFFICIAL = {"mixmim base, 32": "--case mixmim --size base --batch-size 32 --no-compile"}

# On a GPU, in bfloat16. Rows of a group compile side by side and fit its memory together.
GPU_GROUPS = (
    {
        "simmim base, 32": "--case simmim --size base --batch-size 32",
        "finetune_vit base, 128": "--case finetune_vit_drop_path --size base --batch-size 128",
    },
    {
        "mae large, 64": "--case mae --size large --batch-size 64",
        **GPU_OFFICIAL,
    },
    # Of 80 GB, three would not fit.
    {"mae large, 256": "--case mae --size large --batch-size 256 --backends torch"},
    {"mae large, 256 on JAX": "--case mae --size large --batch-size 256 --backends jax"},
    {
        "segment base, 16": "--case segment --size base --batch-size 16",
        "detect base, 16": "--case detect --size base --batch-size 16",
    },
)
GPU_ROWS = {name: row for group in GPU_GROUPS for name, row in group.items()}


def main(argv: list[str] | None = None) -> None:
    """Measures what is missing and draws."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--csv", type=Path, help="default: benchmarks/results.csv, _gpu.csv")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--backends", nargs="+", help="default: all, on a GPU torch and JAX")
    parser.add_argument("--official", metavar="DIR", help="MixMIM's official code, for its row")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--gpu", action="store_true", help="the rows for a GPU")
    parser.add_argument("--size", help="of all rows, instead of their own")
    parser.add_argument("--batch-size", help="likewise")
    parser.add_argument("--image-size", help="likewise, side in pixels")
    parser.add_argument("--rounds", help="timed steps; default: 3, on a GPU 12")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    args = parser.parse_args(argv)
    args.csv = args.csv or Path(f"benchmarks/results{'_gpu' * args.gpu}.csv")
    args.backends = args.backends or ["torch", "jax"] + ["tensorflow"] * (not args.gpu)
    failed = 0 if args.draw else sum(not done for done in (on_gpu if args.gpu else on_cpu)(args))
    if args.csv.exists():
        draw(list(csv.DictReader(args.csv.open(encoding="utf-8"))), args.csv.with_suffix(".png"))
    raise SystemExit(failed > 0)


def on_cpu(args: argparse.Namespace) -> Iterator[bool]:
    """Measures each row on each backend by itself; gives whether it could."""
    for name, arguments in {**ROWS, **OFFICIAL}.items():
        if args.only not in name or (name in OFFICIAL and not args.official):
            continue
        name, more = changed(args, name, arguments)
        for backend in args.backends:
            if args.again or not known(args.csv, name, backend):
                command = [sys.executable, "-m", "benchmarks.train_step", *more]
                command += ["--backends", backend, "--csv", str(args.csv), "--row", name]
                done = not subprocess.run(command, check=False).returncode
                if not done:
                    print(f"{name} on {backend} failed", file=sys.stderr)
                yield done


def on_gpu(args: argparse.Namespace) -> Iterator[bool]:
    """Measures a group of rows at a time, all backends and peers of a row side by side."""
    for group in GPU_GROUPS:
        rows = []
        for name, arguments in group.items():
            if args.only not in name:
                continue
            if name in GPU_OFFICIAL and not args.official:
                print(f"{name}: left out, give --official DIR", file=sys.stderr)
                continue
            name, more = changed(args, name, f"{arguments} --bf16 --compiled-only --rounds 12")
            own = train_step.parse(more).backends if "--backends" in more else args.backends
            backends = [backend for backend in own if backend in args.backends]
            missing = any(not known(args.csv, name, backend) for backend in backends)
            if args.again or missing:
                more += ["--row", name]
                rows.append((train_step.parse(more), more, backends))
        if not rows:
            continue
        try:
            for found in train_step.measure(rows):
                train_step.show(found)
                train_step.add_rows(found, args.csv)
            yield True
        except SystemExit as error:
            print(error, file=sys.stderr)
            yield False


def changed(args: argparse.Namespace, name: str, arguments: str) -> tuple[str, list[str]]:
    """Name and arguments of a row, with what the command line changes in it."""
    names = ("size", "batch_size", "image_size", "rounds")
    given = {k: v for k in names if (v := getattr(args, k))}
    if set(given) - {"rounds"}:
        name = f"{name} as {' '.join(given.values())}"
    if args.official:
        given["official"] = args.official
    more = [text for k, v in given.items() for text in (f"--{k.replace('_', '-')}", v)]
    return name, [*arguments.split(), *more]


def known(path: Path, name: str, backend: str) -> bool:
    """Whether the table has a row."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as file:
        return any(r["case"] == name and r["backend"] == backend for r in csv.DictReader(file))


def draw(rows: list[dict], path: Path) -> None:
    """Our ratio to the fastest peer, a bar for each case and backend; the line is the peer."""
    from matplotlib.figure import Figure

    ours = [row for row in rows if row["contender"] == "mimzoo" and row["ratio to best peer"]]
    if not ours:
        return
    known_order = [*ROWS, *OFFICIAL, *GPU_ROWS]
    cases = sorted(
        dict.fromkeys(row["case"] for row in ours),
        key=lambda name: known_order.index(name) if name in known_order else len(known_order),
    )
    colours = {"torch": "#0072B2", "jax": "#E69F00", "tensorflow": "#999999"}
    backends = [name for name in colours if any(row["backend"] == name for row in ours)]
    figure = Figure(figsize=(7, 1.2 + (0.15 + 0.2 * len(backends)) * len(cases)), layout="tight")
    axes = figure.add_subplot(xlabel="speed, as a ratio to the fastest peer (higher is better)")
    height = 0.8 / len(backends)
    for number, backend in enumerate(backends):
        group = {r["case"]: float(r["ratio to best peer"]) for r in ours if r["backend"] == backend}
        shift = height * (number - (len(backends) - 1) / 2)
        places = [i + shift for i, case in enumerate(cases) if case in group]
        widths = [group[case] for case in cases if case in group]
        label = f"mimzoo on {backend}"
        bars = axes.barh(places, widths, 0.9 * height, color=colours[backend], label=label)
        # A label that stands at the line lies over it, on white.
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize="x-small", zorder=4, bbox=white)
    axes.margins(x=0.1, y=0.02)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.legend(fontsize="small", ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
