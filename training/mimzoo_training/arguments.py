"""The arguments of the command line. Nothing heavy is imported, so `--help` is quick."""

import argparse
from collections.abc import Sequence
from typing import Any

SOURCES = (
    "embedded, fashion_mnist, tfds:NAME, shards:PATH, a folder of images, or a .tar file of one"
)

PRESET = "name, folder, hf://org/name[@revision][/folder], or a work directory"
IMAGES = "image files, and folders of them"
LAYOUT = "such as mae_full, hf_vit_mae or simmim_swinv2_pretrain; a wrong one names the nearest"


def build_parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    parser = argparse.ArgumentParser(
        prog="mimzoo", description="Masked image modeling: pretrain, load a preset, fine-tune."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    keras = argparse.ArgumentParser(add_help=False, parents=[shared])
    keras.add_argument(
        "--backend",
        choices=("jax", "torch", "tensorflow"),
        help="default: KERAS_BACKEND, keras.json, else what is installed of these",
    )

    def add(
        name: str, parent: argparse.ArgumentParser, help: str, run: str | None = None
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[parent], help=help, description=help)
        command.set_defaults(run=run or name)
        for action in (None, "store"):
            command.register("action", action, _Once)
        return command

    listing = add("list", shared, "list presets and recipes", "list_all")
    listing.add_argument("contains", nargs="?", default="", help="only names with this in them")
    listing.add_argument("--grid", metavar="G", help="this grid with its published results")
    listing.add_argument("--all", action="store_true", help="all presets and recipes")
    listing.add_argument("--json", action="store_true", help="all fields of presets, as JSON")
    for axis in ("method", "backbone", "size", "data", "length", "task", "state"):
        listing.add_argument(f"--{axis}", metavar=axis[0].upper(), help="only presets of this one")
    info = add("info", shared, "show a preset or a recipe")
    info.add_argument("name", help="of a preset or a recipe")
    cache = add("cache", shared, "show where downloads and conversions are kept, and their sizes")
    cache.add_argument(
        "--clear-partial", action="store_true", help="remove downloads that were cut off"
    )
    _pretrain(add("pretrain", keras, "pretrain a model by a recipe, or resume it"))
    _finetune(add("finetune", keras, "make a classifier of a pretrained model, or resume it"))
    finish = add("finish", keras, "make a preset of a stopped run's best checkpoint so far")
    finish.add_argument("workdir", metavar="WORKDIR", help="of a run that was stopped")
    evaluate = add("evaluate", keras, "measure a preset, or the result of a run")
    evaluate.add_argument("preset", help=PRESET)
    evaluate.add_argument("--data", required=True, metavar="SOURCE", help=SOURCES)
    evaluate.add_argument(
        "--split",
        help="train, validation, test or all; default: test, or all of a source without splits "
        "that the run held nothing back from",
    )
    evaluate.add_argument(
        "--batch-size", type=int, metavar="N", help="of what takes whole batches; default 256"
    )
    evaluate.add_argument(
        "--crop-fraction", type=_share, metavar="F", help="default: the recipe's, else 0.875"
    )
    _label_numbers(evaluate)
    probe = add("probe", keras, "measure what a preset's frozen features are good for")
    probe.add_argument("preset", help=PRESET)
    probe.add_argument("--data", required=True, metavar="SOURCE", help=SOURCES)
    probe.add_argument(
        "--split", choices=("test", "validation"), default="test", help="to test on (default test)"
    )
    probe.add_argument(
        "--num-labels",
        type=int,
        nargs="+",
        metavar="N",
        help="train on N images, evenly by class; default: all",
    )
    probe.add_argument(
        "--kinds",
        nargs="+",
        choices=("probe", "knn"),
        default=("probe", "knn"),
        help="a linear layer, kNN, or both (default)",
    )
    probe.add_argument("--neighbours", type=_positive, metavar="K", help="default 20")
    probe.add_argument("--pooling", choices=("avg", "token"), default="avg")
    probe.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images")
    _study(add("study", keras, "run a grid of models x data x lengths, or resume it"))
    classify = add("classify", keras, "name what a classifier sees in images")
    classify.add_argument("preset", help=PRESET)
    classify.add_argument("images", nargs="+", metavar="IMAGE", help=IMAGES)
    classify.add_argument(
        "--top", type=_positive, default=5, metavar="N", help="classes (default 5)"
    )
    predict = add("predict", keras, "draw what a segmenter or detector sees")
    predict.add_argument("preset", help=PRESET)
    predict.add_argument("images", nargs="+", metavar="IMAGE", help=IMAGES)
    predict.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="for an overlay of each image, and its label PNG",
    )
    reconstruct = add("reconstruct", keras, "draw what a model makes of masked images")
    reconstruct.add_argument("preset", help=PRESET)
    reconstruct.add_argument("images", nargs="+", metavar="IMAGE", help=IMAGES)
    reconstruct.add_argument("--out", required=True, metavar="PNG", help="the picture to write")
    reconstruct.add_argument("--mask-ratio", type=float, metavar="R", help="in place of its own")
    _doctor(add("doctor", shared, "show what is wrong with data, a preset or a run"))
    _convert(add("convert", keras, "make a preset of a checkpoint of another library"))
    export = add(
        "export", keras, "write a preset in the layout of another library", "export_preset"
    )
    export.add_argument("preset", help=PRESET)
    export.add_argument("--layout", required=True, metavar="NAME", help=LAYOUT)
    export.add_argument(
        "--out", required=True, metavar="FILE", help="the .safetensors file to make"
    )
    _publish(add("publish", keras, "put presets onto the Hub: verified, read back, tagged"))
    return parser


def _doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "path", help=f"{SOURCES}, a folder of shards, a preset's folder, or a work directory"
    )
    command.add_argument(
        "--min-side", type=_positive, metavar="PX", help="smaller images are named (default 16)"
    )
    command.add_argument(
        "--sample", type=_positive, metavar="N", help="read N images of each split; default: all"
    )


def _convert(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "checkpoint",
        help=".safetensors, .pth, .bin, .pkl, a folder, or hf://org/name[@revision][/path]",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    command.add_argument(
        "--layout", metavar="NAME", help=f"default: inferred from the names; {LAYOUT}"
    )
    command.add_argument("--licence", metavar="L", help="default: the model card's or the layout's")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the file does not say, such as num_heads=3, image_size=192 or "
        "pretrained_window_sizes=[12,12,12,6]; may be repeated",
    )


def _publish(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "presets", nargs="*", metavar="DIR_OR_NAME", help="a preset's folder, work directory, name"
    )
    command.add_argument("--grid", metavar="G", help="all of this grid, classifiers too")
    command.add_argument("--org", required=True, metavar="ORG", help="organisation on the Hub")
    command.add_argument(
        "--dry-run", action="store_true", help="do everything but change something on the Hub"
    )
    command.add_argument(
        "--checkpoints", metavar="DIR", help="official files, by name; default: downloaded"
    )
    command.add_argument(
        "--allow-licence",
        action="append",
        default=[],
        metavar="L",
        help="publish weights under L, too, such as CC-BY-NC-4.0, which forbids commercial use: "
        "say so only for an organisation that keeps to it; `unknown` for weights of which no "
        "licence is known: say so only if their owner agreed. May be repeated",
    )
    command.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="FILE",
        help="images for the picture of reconstructions; default: Fashion-MNIST's for models "
        "trained on it, else no picture",
    )
    command.add_argument(
        "--again", action="store_true", help="what is there already, too, for a new card"
    )


def _study(command: argparse.ArgumentParser) -> None:
    command.add_argument("spec", help="a .toml file, or a study that comes with the package")
    command.add_argument("--data", metavar="SOURCE", help=SOURCES)
    command.add_argument(
        "--workdir", required=True, metavar="DIR", help="a study is resumed from here"
    )
    command.add_argument("--validation", metavar="SOURCE", help="default: a part of --data")
    command.add_argument("--test", metavar="SOURCE", help="default: the test split of --data")
    command.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="cells at a time; default: as many as fit on the GPUs, or one a CPU core",
    )
    command.add_argument("--only", metavar="TEXT", help="only cells with this in their names")
    command.add_argument(
        "--published", action="store_true", help="nothing is run: plots of published results"
    )
    command.add_argument(
        "--fit",
        action="store_true",
        help="fit and draw scaling laws of data, size and compute",
    )


def _run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", required=True, metavar="SOURCE", help=SOURCES)
    command.add_argument(
        "--workdir", required=True, metavar="DIR", help="a run is resumed from here"
    )
    command.add_argument("--validation", metavar="SOURCE", help="default: a part of --data")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--length", metavar="L", help="50ep, 5000it, 125k or 1e6img")
    length.add_argument(
        "--epochs", dest="length", type=_epochs, metavar="N", help="the same as --length Nep"
    )
    length.add_argument(
        "--scale", type=float, metavar="F", help="this share of the run's steps, for a trial"
    )
    command.add_argument("--batch-size", type=int, metavar="N", help="over all devices")
    command.add_argument(
        "--learning-rate",
        type=float,
        metavar="LR",
        help="at the batch that the recipe's rate is for, scaled in proportion to --batch-size: "
        "256 of MAE, MixMIM and data2vec, 512 of SimMIM, 16 of segmentation, 8 of detection, 64 of "
        "ViTDet",
    )
    command.add_argument("--image-size", type=int, metavar="PIXELS")
    command.add_argument("--seed", type=int, metavar="N")
    command.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    command.add_argument(
        "--devices", type=int, metavar="N", help="of this process; default: all GPUs or TPU cores"
    )
    command.add_argument(
        "--validation-every",
        type=int,
        metavar="N",
        help="epochs (default: 1, of segmentation and detection a tenth of the run)",
    )
    command.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="between two checkpoints (default 120); Ctrl-C and SIGTERM always leave one",
    )


class _Once(argparse.Action):
    """Stores a value; the last one counts, but images and folders may be given only once.

    Otherwise those given first would be silently ignored.
    """

    given = False

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if self.given and self.dest in ("data", "validation", "test", "out", "workdir"):
            parser.error(f"{option_string} is given twice")
        self.given = bool(option_string)
        setattr(namespace, self.dest, values)


def _epochs(text: str) -> str:
    return f"{float(text):.15g}ep"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"must lie in (0, 1], got {text}")
    return share


def _pretrain(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "recipe", nargs="?", help="`mimzoo list --all` shows them; ..._50ep sets the length"
    )
    parts = command.add_argument_group(
        "without a recipe, for images of your own; all else follows from them"
    )
    parts.add_argument("--method", metavar="M", help="mae, simmim, mixmim, data2vec")
    parts.add_argument("--backbone", metavar="B", help="vit, swin, swinv2, mixmim, data2vec")
    parts.add_argument("--size", metavar="S", help="nano, tiny, small, base, large, …")
    _run_arguments(command)
    command.add_argument(
        "--model-parallel", type=int, default=1, metavar="M", help="split a model over M (JAX)"
    )
    command.add_argument("--mask-ratio", type=float, metavar="R", help="hidden share, in (0, 1)")
    command.add_argument(
        "--probe", type=_positive, metavar="N", help="a linear probe on N labels at each validation"
    )
    command.add_argument(
        "--sampling",
        choices=("random", "stratified", "filtered"),
        help="how a subset such as coyo1m is drawn from --data",
    )
    command.add_argument("--scores", metavar="CSV", help="id,score of each image, for filtered")
    command.add_argument("--min-score", type=float, metavar="S", help="least score, for filtered")


def _finetune(command: argparse.ArgumentParser) -> None:
    command.add_argument("preset", help=PRESET)
    _run_arguments(command)
    command.add_argument("--recipe", help="default: the one for the preset's backbone")
    command.add_argument(
        "--num-labels", type=int, metavar="N", help="train on N labelled images, evenly by class"
    )
    command.add_argument("--num-classes", type=int, metavar="N", help="default: those of --data")
    command.add_argument("--layer-decay", type=float, metavar="D", help="in (0, 1]")
    command.add_argument("--drop-path-rate", type=float, metavar="P", help="in [0, 1)")
    command.add_argument("--ema", type=float, metavar="M", help="momentum of averaged weights")
    command.add_argument(
        "--task",
        choices=("classify", "segment", "detect"),
        default="classify",
        help="segment: --data has images/ and labels/ with a label PNG for each image; detect: "
        "Pascal VOC's XML or COCO's JSON files",
    )
    command.add_argument("--head", choices=("upernet", "linear"), help="of a segmenter")
    _label_numbers(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument("--from-scratch", action="store_true", help="new weights, same schedule")
    how.add_argument("--linear-probe", action="store_true", help="only a linear layer on top")


def _label_numbers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ignore-index", type=int, metavar="N", help="a number of label maps that is no class"
    )
    command.add_argument(
        "--first-class", type=int, metavar="N", help="the number of the first class; ADE20K: 1"
    )


def only_for_segmentation(args: argparse.Namespace, advice: str) -> None:
    """Raises ValueError where an option of segmentation is given for something else."""
    for name in ("ignore_index", "first_class", "head"):
        if getattr(args, name, None) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for segmentation: {advice}.")


def refuse_given(args: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raises ValueError where one of these options is given."""
    for name in names:
        if getattr(args, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {why}: leave it out.")
