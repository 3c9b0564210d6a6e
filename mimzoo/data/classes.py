"""Labels matched to the classes of a classifier, by name."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from mimzoo.data.sources import Source, check_labels

_SHOWN = 8
_WORDNET = re.compile(r"n\d{8}")


def match_classes(
    source: Source, class_names: Sequence[str] | str | None, num_classes: int | None = None
) -> Source:
    """A labelled source with the labels that a classifier gives to the same names.

    The source may lack classes, or have them in another order. Where the classifier or the source
    has no names, the numbers stand as they are; names that are the numbers, such as of folders 0 to
    10, count as numbers. A source of all 1,000 classes of ImageNet by their WordNet numbers
    (n01440764) is in ImageNet's order.

    Args:
        source: labelled.
        class_names: of the classifier's outputs, in their order; "imagenet" as in
            `mimzoo.models.ImageClassifier`; None if they have no names.
        num_classes: how many outputs there are; by default as many as names.

    Returns:
        The source itself if its labels fit, else one with the same images.

    Raises:
        ValueError: the source is unlabelled, has a class that the classifier lacks, or, without
            names, another number of classes.
    """
    labels = source.labels
    if isinstance(class_names, str):
        from keras_hub.utils import imagenet_id_to_name

        class_names = [imagenet_id_to_name(number) for number in range(1000)]
    if num_classes is None:
        if class_names is None:
            raise ValueError("give class_names, or num_classes where the classes have no names")
        num_classes = len(class_names)
    if source.class_names is None:
        try:
            check_labels(labels, num_classes)
        except ValueError as error:
            raise ValueError(f"{source.name}: {error}") from None
        return source
    if class_names is None:
        if source.num_classes != num_classes:
            raise ValueError(
                f"{source.name} has {source.num_classes} classes ({_few(source.class_names)}), and "
                f"the classifier {num_classes} without names: which is which cannot be inferred"
            )
        numbers = list(map(str, range(num_classes)))
        if set(source.class_names) != set(numbers):
            return source
        # In the order of text, 10 comes before 2.
        table = np.array([int(name) for name in source.class_names], np.int32)
        return source.with_classes(numbers, table[labels])
    # macOS may store an accent apart from its letter.
    class_names = [unicodedata.normalize("NFC", name) for name in class_names]
    own = [unicodedata.normalize("NFC", name) for name in source.class_names]
    if class_names == own:
        return source
    number = {name: place for place, name in enumerate(class_names)}
    strange = [name for name in own if name not in number]
    wordnet = all(_WORDNET.fullmatch(name) for name in source.class_names)
    if strange and wordnet and num_classes == source.num_classes == 1000:
        return source
    if strange:
        raise ValueError(
            f"{source.name} has classes that the classifier does not know ({_few(strange)}); the "
            f"source's are {_few(source.class_names)}; the classifier's are {_few(class_names)}: "
            "rename the folders"
        )
    table = np.array([number[name] for name in own], np.int32)
    return source.with_classes(class_names, table[labels])


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
