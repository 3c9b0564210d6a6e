"""The images of a study."""

from collections.abc import Mapping

from mimzoo.data import Source
from mimzoo_training.splits import at_most, open_parts, open_test
from mimzoo_training.study.sampling import sample
from mimzoo_training.study.spec import Cell, Study


def whole_sources(sources: Mapping[str, str | None]) -> dict[str, Source]:
    """ "train", "validation" and "test", as they are."""
    data = sources["data"]
    train, held_out = open_parts(data, sources["validation"])
    tested = sources["test"] or sources["validation"]
    test = open_test(data, sources["validation"], tested, held_out)
    return {"train": train, "validation": held_out, "test": test}


def open_sources(study: Study, sources: Mapping[str, str | None]) -> dict[str, Source]:
    """ "train", and "validation" and "test", cut to what the study takes.

    Raises:
        ValueError: fewer labels than an evaluation takes, or none.
    """
    opened = whole_sources(sources)
    for split, count in (("validation", study.validation), ("test", study.test)):
        opened[split] = at_most(opened[split], count, study.seed)
    if study.labels:
        known = len(opened["train"].labels)
        if max(study.labels) > known:
            raise ValueError(
                f"an evaluation takes {max(study.labels)} labels; {sources['data']} has {known}."
            )
    return opened


def images_of(cell: Cell, study: Study, train: Source) -> Source:
    """What a cell is pretrained on; each balanced or random part lies inside every larger one.

    Raises:
        ValueError: more images than there are.
    """
    if isinstance(cell.data, str) or cell.data == 1:
        return train  # a named part is cut by the run itself
    return sample(train, cell.data, cell.sampling, study.seed)
