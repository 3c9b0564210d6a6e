"""A callback that measures a model's features while it trains."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from mimzoo.downstream.knn import knn_accuracy
from mimzoo.downstream.linear_probe import (
    check_loader,
    extract_features,
    feature_model,
    linear_probe,
)

KINDS = {"probe": linear_probe, "knn": knn_accuracy}


class FeatureProbe(keras.callbacks.Callback):
    """Adds `probe_accuracy` and `knn_accuracy` to the logs of `fit`, without any effect on it.

    Features are taken as they are at the end of an epoch, mean-pooled, and the linear layer
    starts anew each time.

    ```python
    normalize = task.preprocessor.image_converter.normalize
    options = {"labels": True, "shuffle": False, "drop_remainder": False, "normalize": normalize}
    train = mimzoo.data.Loader(source, 256, **options)
    task.fit(source, epochs=20, callbacks=[FeatureProbe(train, test, every=5)])
    ```

    Args:
        train: batches of (images (B, H, W, C), labels (B,)), such as a `mimzoo.data.Loader` of one
            epoch gives; read at each measurement, so it has to be readable again and again.
        test: the same, of images that are not trained on.
        num_classes: default: one more than the greatest training label.
        kinds: "probe" (`linear_probe`), "knn" (`knn_accuracy`) or both.
        every: epochs between two measurements; the last of the epochs that `fit` was asked for is
            always measured.

    Raises:
        ValueError: an unknown kind, `every` less than 1, or a Loader without `normalize`.
    """

    def __init__(
        self,
        train: Iterable[Any],
        test: Iterable[Any],
        *,
        num_classes: int | None = None,
        kinds: tuple[str, ...] = ("probe", "knn"),
        every: int = 1,
    ) -> None:
        super().__init__()
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown or not kinds:
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {kinds!r}.")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}.")
        check_loader(train)
        check_loader(test)
        self.train, self.test, self.num_classes = train, test, num_classes
        self.kinds, self.every = tuple(kinds), every
        self._features: tuple[keras.Model, keras.Model] | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measures, if it is time."""
        last = epoch + 1 == self.params.get("epochs")
        if logs is not None and (last or (epoch + 1) % self.every == 0):
            logs.update(self.measure(self.model))

    def measure(self, model: keras.Model) -> dict[str, float]:
        """{"probe_accuracy", "knn_accuracy"} of a model with the weights that it has now.

        Args:
            model: a task or classifier with a `backbone`.

        Returns:
            The accuracies; nothing where features are not finite.
        """
        # On JAX, `fit` keeps the weights outside of the model.
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        if self._features is None or self._features[0] is not model.backbone:
            self._features = model.backbone, feature_model(model.backbone)
        train, test = (extract_features(self._features[1], b) for b in (self.train, self.test))
        if not (np.isfinite(train[0]).all() and np.isfinite(test[0]).all()):
            return {}
        return {
            f"{kind}_accuracy": KINDS[kind](*train, *test, num_classes=self.num_classes)
            for kind in self.kinds
        }
