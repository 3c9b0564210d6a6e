"""`mimzoo evaluate` of a segmenter."""

import argparse
import functools
from pathlib import Path
from typing import Any


def evaluate(args: argparse.Namespace, model: Any, folder: str) -> None:
    """Prints the mean IoU of a segmenter on whole images, and that of each class."""
    from mimzoo.data import open_label_maps
    from mimzoo.hub import resolve
    from mimzoo_training.files import read_json
    from mimzoo_training.segment import measure
    from mimzoo_training.segment_report import by_class, table
    from mimzoo_training.splits import open_asked

    path = Path(resolve(folder)) / "recipe.json"
    stored = read_json(path, "recipe")["recipe"] if path.is_file() else {}
    for name in ("ignore_index", "first_class"):
        # Models of runs before mimzoo knew both have them in the recipe alone.
        given, known = getattr(args, name), stored.get(name, getattr(model, name))
        setattr(model, name, known if given is None else given)
    meaning = {"ignore_index": model.ignore_index, "first_class": model.first_class}
    opener = functools.partial(open_label_maps, num_classes=model.num_classes, **meaning)
    source = open_asked(args.data, args.split, path.parent, opener)
    if source.class_names and model.class_names and source.class_names != model.class_names:
        raise ValueError(
            f"the classes of {source.name} ({', '.join(source.class_names)}) are not those of the "
            f"model ({', '.join(model.class_names)}): write the model's into classes.txt, and "
            "their numbers into the label maps."
        )
    model.compile("sgd")
    loss, confusion = measure(model, source)
    print(
        f"mean IoU {confusion.mean_iou:.4f}  pixel accuracy {confusion.accuracy:.4f}  loss "
        f"{loss:.4f}  on {source.name} ({len(source)} images)"
    )
    print(table(by_class(confusion, model.class_names)))
