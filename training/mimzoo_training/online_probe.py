"""Whether pretraining works, measured while it runs: a linear probe on the features so far."""

from typing import Any

from mimzoo.data import Loader, Source, take_subset
from mimzoo.data.classes import match_classes
from mimzoo_training import parts
from mimzoo_training.recipes.recipe_kinds import PretrainRecipe
from mimzoo_training.splits import at_most

COLUMN = "probe_accuracy"
# Images that the probe is tested on.
TESTED = 2_000


class OnlineProbe:
    """Accuracy of a linear layer on mean-pooled features of a task's backbone.

    Args:
        task: that is pretrained.
        recipe: of its pretraining, for size and normalisation.
        source: labelled images, of which `count` are trained on, spread evenly over the classes.
        test: labelled images, of which 2,000 are tested on.
        count: how many.

    Raises:
        ValueError: one of the sources has no labels, or `test` has classes that `source` lacks.
    """

    def __init__(
        self, task: Any, recipe: PretrainRecipe, source: Source, test: Source, count: int
    ) -> None:
        from mimzoo.downstream import FeatureProbe

        for labelled in (source, test):
            if not labelled.labelled:
                raise ValueError(
                    f"{labelled.name} has no labels to probe with: leave --probe out, or give "
                    "folders with a subfolder for each class."
                )
        self.task = task
        test = match_classes(test, source.class_names, source.num_classes)
        learned = source
        if count < len(source):
            learned = take_subset(source, count=count, seed=recipe.seed)
        loaders = [
            Loader(
                images,
                min(recipe.batch_size, len(images)),
                transform=parts.test_transform(recipe),
                normalize=parts.normalize(recipe),
                shuffle=False,
                drop_remainder=False,
                labels=True,
            )
            for images in (learned, at_most(test, TESTED, recipe.seed))
        ]
        self.probe = FeatureProbe(*loaders, num_classes=source.num_classes, kinds=("probe",))

    def __call__(self) -> dict[str, float]:
        """{"probe_accuracy": …} with the weights as they are."""
        return self.probe.measure(self.task)
