"""What a command line says of a run, whatever its task."""

import argparse
from typing import Any


def overridden(recipe: Any, args: argparse.Namespace, **more: Any) -> Any:
    """The recipe with the fields that the command line changes."""
    if args.length:
        recipe = recipe.with_length(args.length)
    return recipe.with_changes(
        batch_size=args.batch_size,
        base_learning_rate=args.learning_rate,
        image_size=args.image_size,
        seed=args.seed,
        **more,
    )


def finetune_overridden(recipe: Any, args: argparse.Namespace, **more: Any) -> Any:
    """Also with those that `mimzoo finetune` changes, for each of its tasks."""
    return overridden(
        recipe,
        args,
        layer_decay=args.layer_decay,
        drop_path_rate=args.drop_path_rate,
        **more,
    )


def finetune_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `finetune`, `segment` and `detect`."""
    names = (
        "validation",
        "num_labels",
        "from_scratch",
        "scale",
        "precision",
        "validation_every",
        "checkpoint_seconds",
    )
    return {**{name: getattr(args, name) for name in names}, "command": args.command_line}
