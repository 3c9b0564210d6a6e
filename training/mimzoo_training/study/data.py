"""The images of a study."""

from collections.abc import Mapping

from mimzoo.data import Source, take_subset
from mimzoo_training.splits import open_parts, open_test
from mimzoo_training.study.sampling import sample
from mimzoo_training.study.spec import Cell, Study


def open_sources(study: Study, sources: Mapping[str, str | None]) -> dict[str, Source]:
    """ "train", and "validation" and "test", cut to what the study takes.

    Raises:
        ValueError: fewer labels than an evaluation takes, or none.
    """
    data = sources["data"]
    train, held_out = open_parts(data, sources["validation"])
    tested = sources["test"] or sources["validation"]
    test = open_test(data, sources["validation"], tested, held_out)
    opened = {"train": train, "validation": held_out, "test": test}
    for split, count in (("validation", study.validation), ("test", study.test)):
        if count is not None and count < len(opened[split]):
            opened[split] = take_subset(opened[split], count=count, seed=study.seed)
    if study.labels:
        known = len(opened["train"].labels)
        if max(study.labels) > known:
            raise ValueError(f"an evaluation takes {max(study.labels)} labels; {data} has {known}.")
    return opened


def images_of(cell: Cell, study: Study, train: Source) -> Source:
    """What a cell is pretrained on; each balanced or random part lies inside every larger one.

    Raises:
        ValueError: more images than there are.
    """
    if isinstance(cell.data, str) or cell.data == 1:
        return train  # a named part is cut by the run itself
    return sample(train, cell.data, cell.sampling, study.seed)
