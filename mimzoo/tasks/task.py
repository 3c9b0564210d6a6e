"""Loading a task so that every argument arrives."""

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_hub

from mimzoo.backend import Graphs, TorchParameters
from mimzoo.models.backbone import (
    check_arguments,
    constructor_arguments,
    is_lora,
    required_arguments,
)

logger = logging.getLogger("mimzoo")


class PresetTask(TorchParameters):
    """Mixin of classifiers and MIM tasks: presets in KerasHub's format, and `.keras` files.

    KerasHub's own `from_preset` forwards `dtype` and `image_shape` to the backbone and drops all
    other arguments silently.
    """

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs) -> keras_hub.models.Task:
        """Loads a task.

        Args:
            preset: a name from `mimzoo.list_presets()`, a folder, or
                `hf://org/name[@revision][/folder]`.
            load_weights: False: the architecture with new weights.
            **kwargs: arguments of the task (`num_classes=10`) and of its backbone
                (`drop_path_rate=0.1`, `image_shape=(384, 384, 3)`), replacing the preset's.

        Raises:
            TypeError: an argument that neither the task nor its backbone has.
            ValueError: an unknown preset, one of another kind, or one with a file that is
                missing, damaged or of another model.
        """
        from mimzoo.hub import preset_class, resolve
        from mimzoo.hub.complete import check_preset, check_tensors, one_sentence_about

        folder = Path(resolve(preset))
        backbone_cls = preset_class(folder)
        if load_weights:
            check_preset(folder, backbone_cls)
        stored = _read_json(folder / "task.json")
        stored_cls = (
            keras.saving.get_registered_object(stored["registered_name"]) if stored else None
        )
        same_task = stored_cls is not None and issubclass(stored_cls, cls)
        task_cls = stored_cls if same_task else cls.for_backbone(backbone_cls)

        backbone_names = constructor_arguments(backbone_cls)
        task_names = (constructor_arguments(task_cls) | {"backbone", "preprocessor"}) - {"dtype"}
        check_arguments(
            kwargs, backbone_names | task_names, f"{task_cls.__name__} on {backbone_cls.__name__}"
        )
        for_backbone = {k: v for k, v in kwargs.items() if k in backbone_names - task_names}
        for_task = {k: v for k, v in kwargs.items() if k in task_names}

        config = dict(stored["config"]) if same_task else {}
        for name in ("backbone", "preprocessor", "name"):
            config.pop(name, None)
        with one_sentence_about(folder / "task.json"):
            config = {k: keras.saving.deserialize_keras_object(v) for k, v in config.items()}
        config = task_cls.adapt_config(config, for_task)
        if "backbone" not in for_task:
            for_task["backbone"] = backbone_cls.from_preset(
                str(folder), load_weights=load_weights, **for_backbone
            )
        elif for_backbone:
            raise TypeError(
                f"backbone={for_task['backbone'].name!r} is given, so "
                f"{', '.join(sorted(for_backbone))} cannot change it: set it on the backbone."
            )
        if same_task and stored["config"].get("preprocessor", "auto") is None:
            for_task.setdefault("preprocessor", None)  # there is no file of none
        if "preprocessor" not in for_task:
            for_task["preprocessor"] = task_cls.load_preprocessor(
                folder, for_task["backbone"].image_shape
            )
        for_task |= task_cls.implied(config, for_task)
        if missing := [n for n in required_arguments(task_cls) if n not in {**config, **for_task}]:
            raise ValueError(cls._cannot_make(preset, stored, missing))
        # What a caller gives may be wrong, too: that error is his.
        with contextlib.nullcontext() if kwargs else one_sentence_about(folder / "task.json"):
            task = task_cls(**{**config, **for_task})
        weights = folder / "task.weights.h5"
        replaced = task_cls.replaced_parts(config, for_task)
        if load_weights and same_task:
            # Positions may be resized, so only the number of tensors has to agree.
            if replaced:
                logger.warning(
                    "%s: %s given anew, so these weights start at random: %s",
                    preset,
                    " and ".join(sorted(replaced)),
                    ", ".join(sorted({v.path.split("/")[-2] for v in task.own_weights()})),
                )
            else:
                check_tensors(weights, task.own_weights(), config="task.json", count_only=True)
                task.load_task_weights(os.fspath(weights))
        elif load_weights and not same_task:
            task.without_weights(preset)
        return task

    @classmethod
    def _cannot_make(cls, preset: str, stored: dict | None, missing: list[str]) -> str:
        name = (stored or {}).get("registered_name")
        if name is not None and keras.saving.get_registered_object(name) is None:
            return (
                f"{preset} holds a {name}, which is not known here: import the module that defines "
                "it, or update mimzoo."
            )
        wanted = ", ".join(f"{one}=…" for one in missing)
        return f"{preset} holds no {cls.__name__} that could be continued: give {wanted}"

    @classmethod
    def implied(cls, stored: dict, given: dict) -> dict:
        """Arguments that follow from the given ones."""
        return {}

    def without_weights(self, preset: str) -> None:
        """Called on a task of a preset that has weights of the backbone alone."""

    def own_weights(self) -> list[keras.Variable]:
        """What `task.weights.h5` holds: the weights without the backbone's and a teacher's."""
        teacher = getattr(self, "teacher", None)
        others = [*self.backbone.weights, *(teacher.weights if teacher is not None else ())]
        known = {id(w) for w in others}
        return [weight for weight in self.weights if id(weight) not in known]

    has_task_weights = keras_hub.models.Task.has_task_weights

    def save_to_preset(self, preset_dir: str | os.PathLike, max_shard_size: float = 10) -> None:
        """KerasHub's, with a `manifest.json` of the files, by which loading checks them.

        Raises:
            ValueError: a decoder is quantised, which no configuration says, or the folder holds
                results of other weights.
        """
        from mimzoo.hub.saving import saving

        decoder = getattr(self, "decoder", None)
        if decoder is not None and any(x.quantization_mode for x in decoder._flatten_layers()):
            raise ValueError(
                f"a preset of a quantised {type(self).__name__} could not be loaded: save its "
                "backbone, or quantise the backbone alone."
            )
        self.backbone.saved_by_task = True
        try:
            with saving(Path(preset_dir)):
                keras_hub.models.Task.save_to_preset(self, str(preset_dir), max_shard_size)
        finally:
            self.backbone.saved_by_task = False

    def save_task_weights(self, filepath: str | os.PathLike) -> None:
        """Saves what the backbone does not hold, without optimizer and teacher."""
        with _weights_alone(self):
            keras_hub.models.Task.save_task_weights(self, filepath)

    def load_task_weights(self, filepath: str | os.PathLike) -> None:
        """Loads what `save_task_weights` saved."""
        with _weights_alone(self):
            keras_hub.models.Task.load_task_weights(self, filepath)

    def understood(self, x: Any, y: Any = None, training: bool = False) -> Any:
        """The input, with the labels of a source as this task numbers the classes.

        Args:
            x: what a user gave to `fit` or `evaluate`, or the source that he named.
            y: labels of images in memory.
            training: whether a task whose classes have no names takes those of the source.

        Raises:
            ValueError: the source has classes that the task does not know.
        """
        return x

    @functools.cached_property
    def graphs(self) -> Graphs:
        """Those since `compile`, or of a model that was not compiled."""
        return Graphs()

    def compile(
        self,
        *args: Any,
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
        **kwargs: Any,
    ) -> None:
        """`keras.Model.compile`. On torch, `jit_compile` is of the blocks; see `Graphs`."""
        self.graphs = Graphs(jit_compile, run_eagerly)
        super().compile(*args, jit_compile=self.graphs.of_keras, run_eagerly=run_eagerly, **kwargs)

    def get_compile_config(self) -> dict | None:
        """As in Keras, with `jit_compile` as given, which weights are frozen, and past epochs."""
        config = super().get_compile_config()
        trained = {id(weight) for weight in self.trainable_weights}
        # A file holds kernels with their LoRA merged into them.
        kept = [weight for weight in self.weights if not is_lora(weight)]
        if len(kept) < len(self.weights):
            logger.warning(
                "LoRA is merged into the kernels of this copy or file: call enable_lora on it again"
            )
        frozen = [n for n, weight in enumerate(kept) if id(weight) not in trained]
        own = {"frozen": frozen, "epochs_trained": self.epochs_trained}
        return config and {**config, "jit_compile": self.graphs.jit_compile, **own}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`call`, with blocks as graphs; see `Graphs`."""
        with self.graphs.active():
            return super().__call__(*args, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """Keras' step; on CUDA torch replays it as a graph."""
        if self.train_function is None or force:
            super().make_train_function(force)
            self.train_function = self.graphs.whole_step(self, self.train_function)

    def compile_from_config(self, config: dict) -> None:
        """Compiles as a `.keras` file says: Keras does not where `compile` is overridden."""
        config = dict(config)
        # A layer's `trainable` is in no configuration, and a model's does not reach its layers.
        frozen = config.pop("frozen", ())
        self.epochs_trained = config.pop("epochs_trained", 0)
        for number in frozen:
            self.weights[number].trainable = False
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @classmethod
    def adapt_config(cls, stored: dict, given: dict) -> dict:
        """The stored configuration without what the given arguments make untrue."""
        return stored

    # Arguments that, when given, mean a new head or decoder instead of the stored one.
    reset_weights_arguments: tuple[str, ...] = ()

    @classmethod
    def replaced_parts(cls, stored: dict, given: dict) -> set[str]:
        """Which of the given arguments mean new weights, where the stored ones are `stored`."""
        names = set(given) & set(cls.reset_weights_arguments)
        return {name for name in names if given[name] != stored.get(name)}

    @classmethod
    def for_backbone(cls, backbone_cls: type) -> type:
        """The concrete class of this task for a backbone class."""
        return cls

    @classmethod
    def load_preprocessor(cls, folder: Path, image_shape: tuple) -> keras.layers.Layer | None:
        """The preprocessor of a preset folder, at the backbone's image size."""
        stored = _read_json(folder / "image_converter.json")
        preprocessor_cls = getattr(cls, "preprocessor_cls", None)
        if preprocessor_cls is None:
            return None
        if stored is None:
            return preprocessor_cls.for_image_shape(image_shape)
        from mimzoo.hub.complete import one_sentence_about

        with one_sentence_about(folder / "image_converter.json"):
            converter = keras.saving.deserialize_keras_object(stored)
            converter.image_size = tuple(image_shape[:2])
        return preprocessor_cls(image_converter=converter)


@contextlib.contextmanager
def _weights_alone(model: keras.Model) -> Iterator[None]:
    # Keras would store the optimizer's state, too, and a teacher that follows the student.
    optimizer, model.optimizer = getattr(model, "optimizer", None), None
    teacher = getattr(model, "teacher", None)
    saved = teacher is not None and teacher.saved
    try:
        if saved:
            teacher.saved = False
        yield
    finally:
        model.optimizer = optimizer
        if saved:
            teacher.saved = True


def _read_json(path: Path) -> dict | None:
    from mimzoo.hub.resolve import read_object

    return read_object(path) if path.exists() else None


def mark_built(preprocessor: keras.layers.Layer | None) -> None:
    """Marks the layers of a preprocessor as built, which have nothing to build.

    While a layer is not, each `train_on_batch` of Keras on torch runs the model once more to
    find the shapes.
    """
    for layer in preprocessor._flatten_layers() if preprocessor is not None else ():
        if type(layer).build is keras.layers.Layer.build:
            layer.built = True
