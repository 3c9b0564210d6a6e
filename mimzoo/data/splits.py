"""Which folder holds which split, by its name: train, validation or test."""

import re
from collections.abc import Iterable

_SPLITS = {
    "train": ("train", "training", "trainval"),
    "validation": (
        "val",
        "valid",
        "validation",
        "dev",
        "development",
        "eval",
        "evaluation",
        "holdout",
        "heldout",
    ),
    "test": ("test", "testing"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_FILLER = re.compile(r"(data|folder|ilsvrc|images?|imgs?|sets?|split)$")


def split_of(folder: str) -> str | None:
    """The split that a folder's name means, as "Train", "valid", "test-set" or "train2017" do."""
    words = _words(folder)
    return _SPLIT_OF.get(words.pop()) if len(words) == 1 else None


def splits_in(name: str) -> set[str]:
    """All splits that a name has a word of: {"train"} of "seg_train" and "coco-train-0001.tar"."""
    return {_SPLIT_OF[word] for word in _words(name) if word in _SPLIT_OF}


def _words(name: str) -> set[str]:
    return {_FILLER.sub("", word) for word in re.findall("[a-z]+", name.lower())} - {""}


def check_split_folders(folders: Iterable[str], where: str) -> None:
    """Raises ValueError if most of these folders look like splits, but are not all known ones."""
    hints = {folder: splits_in(folder) for folder in folders if splits_in(folder)}
    if len(set().union(*hints.values())) > 1 and 2 * len(hints) > len(set(folders)):
        raise ValueError(
            f"{where} has the folders {', '.join(sorted(hints))}, which look like splits and not "
            "like classes: name them train, validation and test, with nothing beside them"
        )
