"""What every mimzoo backbone shares: presets by name, and arguments that are never ignored."""

import difflib
import inspect
import json
import os
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import keras
import keras_hub
from keras import ops

from mimzoo.backend import Tensor, TorchParameters
from mimzoo.models.loading import lean_loading


def check_arguments(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raises TypeError naming the nearest known argument for one that is not known."""
    known = sorted(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."
            raise TypeError(f"{owner} has no argument {name!r}.{hint}")


def constructor_arguments(cls: type) -> set[str]:
    """Names of a constructor's arguments along its bases, with Keras' `dtype`, `name`."""
    names = {"dtype", "name"}
    for base in cls.__mro__:
        if base.__module__.startswith("mimzoo") and "__init__" in vars(base):
            names |= set(inspect.signature(base.__init__).parameters)
    return names - {"self", "args", "kwargs"}


class Backbone(TorchParameters, keras_hub.models.FeaturePyramidBackbone):
    """A KerasHub backbone that says how it embeds and how it encodes.

    `backbone(images)` gives the features that fine-tuning uses. A MIM method works between the
    two halves, which are public: `embed(images) -> tokens`, `encode(tokens, ...) -> features`.
    """

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: object | None = None
    ) -> Tensor:
        """`encode(embed(images))`; Keras' walk of the graph would hold what every block gives."""
        if isinstance(inputs, dict):
            inputs = inputs["images"]
        (images,) = keras.tree.flatten(inputs)
        return self.encode(self.embed(ops.convert_to_tensor(images, self.input.dtype)))

    def layer_decay_scales(self, layer_decay: float) -> list[tuple[str, float]]:
        """(regex over variable paths, learning-rate multiplier), first match wins."""
        raise NotImplementedError(f"{type(self).__name__} defines no layer-wise decay.")

    @classmethod
    def adapt_config(cls, stored: dict, changes: dict) -> dict:
        """What else of a preset's configuration has to change with `changes`, and `changes`."""
        return changes

    @classmethod
    def from_other_config(cls, folder: str, stored: dict, changes: dict) -> "Backbone | None":
        """A preset whose weights have to be moved to fit `changes`; None where they need not."""
        return None

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs) -> "Backbone":
        """Loads a backbone.

        Args:
            preset: a name from `mimzoo.list_presets()`, a folder, or
                `hf://org/name[@revision][/folder]`.
            load_weights: False: the architecture with new weights.
            **kwargs: arguments of the backbone that replace the preset's, such as
                `image_shape=(384, 384, 3)` or `drop_path_rate=0.1`. Positions are resized.

        Raises:
            TypeError: an argument that the backbone does not have.
            ValueError: an unknown preset (the message offers the nearest names), or one with a
                file that is missing, damaged or of another model.
        """
        from mimzoo.hub import preset_class, resolve
        from mimzoo.hub.complete import check_preset

        folder = resolve(preset)
        backbone_cls = preset_class(folder)
        if load_weights:
            with lean_loading():
                check_preset(folder, backbone_cls)
        if not issubclass(backbone_cls, cls):
            raise ValueError(
                f"preset {preset!r} holds a {backbone_cls.__name__}, not a {cls.__name__}: "
                f"call {backbone_cls.__name__}.from_preset."
            )
        check_arguments(kwargs, constructor_arguments(backbone_cls), backbone_cls.__name__)
        if load_weights and kwargs:
            stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
            made = backbone_cls.from_other_config(str(folder), stored, kwargs)
            if made is not None:
                return made
            kwargs = backbone_cls.adapt_config(stored, kwargs)
        with lean_loading() if load_weights else nullcontext():
            return super().from_preset(str(folder), load_weights=load_weights, **kwargs)

    def save_to_preset(self, preset_dir: str | os.PathLike, max_shard_size: float = 10) -> None:
        """KerasHub's, with a `manifest.json` of the files, by which loading checks them."""
        from mimzoo.hub.manifest import is_read, write_manifest

        super().save_to_preset(str(preset_dir), max_shard_size)
        write_manifest(Path(preset_dir), is_read)
