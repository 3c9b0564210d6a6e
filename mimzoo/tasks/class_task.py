"""Tasks with classes: classifiers, segmenters, detectors. A registered class for each backbone."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mimzoo.data.classes import match_classes
from mimzoo.data.loader import Loader
from mimzoo.data.sources import Source
from mimzoo.tasks.task import PresetTask


class ClassTask(PresetTask):
    """Mixin of tasks whose results are `num_classes` classes with `class_names`.

    Attributes:
        backbone_cls: of a registered class, what it stands on.
    """

    backbone_cls: type | None

    def __new__(cls, *args: Any, **kwargs: Any) -> "ClassTask":
        """`ImageClassifier(vit, 10)` is a `ViTImageClassifier`, which files can name."""
        backbone = kwargs.get("backbone", next(iter(args), None))
        if backbone is not None and cls.backbone_cls is None:
            cls = cls.for_backbone(type(backbone))
        return super().__new__(cls, *args, **kwargs)

    @staticmethod
    def names_fit(class_names: Sequence[str] | str | None, num_classes: int) -> bool:
        """Whether these are names of so many classes; None always is."""
        return class_names is None or len(class_names) == num_classes

    def understood(self, x: Any, y: Any = None, training: bool = False) -> Any:
        """As in PresetTask: the classes of a source are matched by name."""
        source = x.source if isinstance(x, Loader) else x
        if y is not None or not isinstance(source, Source) or source.class_names is None:
            return x
        if not (source.labelled or source.dense or source.boxed):
            return x
        try:
            matched = self.matched(source)
        except ValueError as error:
            if not training:
                raise
            new = "class_names=None" if self.class_names else f"num_classes={source.num_classes}"
            text = f"{error}; to learn other classes, load the model with {new}"
            raise ValueError(text) from None
        if isinstance(x, Loader) and matched is not source:
            raise ValueError(
                f"{source.name} numbers its classes in another way than the model, whose "
                "class_names are in another order: give the source itself, not a Loader."
            )
        named = self.names_fit(source.class_names, self.num_classes)
        if training and self.class_names is None and named:
            self.class_names = tuple(source.class_names)
        return x if isinstance(x, Loader) else matched

    def matched(self, source: Source) -> Source:
        """The source with the task's class numbers."""
        if source.labelled:
            return match_classes(source, self.class_names, max(self.num_classes, 2))
        own = self.class_names
        if own is not None and tuple(own[: source.num_classes]) != tuple(source.class_names):
            raise ValueError(
                f"{source.name} has the classes {', '.join(source.class_names)}, and the model "
                f"{', '.join(own)}: open it with the model's class_names."
            )
        return source

    def own_dtype(self) -> dict[str, Any]:
        """The `head_dtype` of a configuration, where it is not the backbone's."""
        return {} if self.head_dtype is None else {"head_dtype": self.head_dtype}

    @classmethod
    def for_backbone(cls, backbone_cls: type) -> type:
        """The class of this task that is registered for a backbone class.

        Raises:
            ValueError: there is none.
        """
        for known in subclasses(cls) | {cls}:
            if known.backbone_cls is backbone_cls:
                return known
        raise ValueError(f"mimzoo has no {cls.__name__} on {backbone_cls.__name__}.")

    @classmethod
    def adapt_config(cls, stored: dict, given: dict) -> dict:
        """Forgets stored class names where a new number of classes is given."""
        count = given.get("num_classes", stored.get("num_classes"))
        if "class_names" in given or cls.names_fit(stored.get("class_names"), count):
            return stored
        return {**stored, "class_names": None}

    @classmethod
    def implied(cls, stored: dict, given: dict) -> dict:
        """The number of classes, where names are given."""
        names = given.get("class_names")
        known = given.get("num_classes", stored.get("num_classes"))
        if names is None or isinstance(names, str) or "num_classes" in given:
            return {}
        return {} if known and cls.names_fit(names, known) else {"num_classes": len(names)}

    @classmethod
    def from_config(cls, config: dict) -> "ClassTask":
        """The inverse of `get_config`; names of another number of classes are forgotten."""
        # KerasHub's loader puts a new num_classes into the stored configuration.
        return super().from_config(cls.adapt_config(config, {}))

    def layer_decay_scales(self, layer_decay: float) -> list[tuple[str, float]]:
        """The backbone's groups; what stands on it belongs to the last."""
        return self.backbone.layer_decay_scales(layer_decay)


def check_num_classes(count: Any, least: int = 1, most: int | None = None) -> int:
    """A number of classes; raises ValueError unless it is an integer that lies in a range."""
    if not isinstance(count, int | np.integer) or count < least or count > (most or count):
        wanted = f"be at least {least}" if most is None else f"lie in {least}..{most}"
        raise ValueError(f"num_classes must {wanted}, an integer, got {count!r}.")
    return int(count)


def make_task_class(base: type, backbone_cls: type, module: str, **attributes: Any) -> type:
    """A registered subclass of `base` for a backbone class `XBackbone`, called X and its name."""
    name = backbone_cls.__name__.removesuffix("Backbone") + base.__name__
    doc = f"{base.__name__} of presets on {backbone_cls.__name__}; see there."
    attributes |= {"backbone_cls": backbone_cls, "__module__": module, "__doc__": doc}
    register = keras.saving.register_keras_serializable(package="mimzoo")
    return register(type(name, (base,), attributes))


def subclasses(cls: type) -> set[type]:
    """All of a class, and of those."""
    return {s for c in cls.__subclasses__() for s in {c} | subclasses(c)}
