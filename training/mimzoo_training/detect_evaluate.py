"""`mimzoo evaluate` of a detector."""

import argparse
import functools
from typing import Any


def evaluate(args: argparse.Namespace, model: Any, folder: str) -> None:
    """Prints COCO's average precision of a detector, and that of each class."""
    from mimzoo.data import open_boxes
    from mimzoo.hub import resolve
    from mimzoo_training.arguments import only_for_segmentation
    from mimzoo_training.detect import check_source, measure, table
    from mimzoo_training.splits import open_asked

    only_for_segmentation(args, "leave it out")
    opener = functools.partial(open_boxes, class_names=model.class_names)
    source = open_asked(args.data, args.split, resolve(folder), opener)
    check_source(source, model.num_classes)
    model.compile("sgd")
    loss, scores = measure(model, source)
    print(
        f"box AP {scores.ap:.4f}  AP50 {scores.ap50:.4f}  AP75 {scores.ap75:.4f}  loss {loss:.4f}  "
        f"on {source.name} ({len(source)} images)"
    )
    print(table(scores))
