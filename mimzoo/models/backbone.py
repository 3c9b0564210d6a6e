"""What every mimzoo backbone shares: presets by name, and arguments that are never ignored."""

import difflib
import inspect
import os
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import keras
import keras_hub
from keras import ops

from mimzoo.backend import Tensor, TorchParameters, keep_weights


def check_arguments(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raises TypeError naming the nearest known argument for one that is not known."""
    known = sorted(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."
            raise TypeError(f"{owner} has no argument {name!r}.{hint}")


def constructor_arguments(cls: type) -> set[str]:
    """Names of a constructor's arguments along its bases, with Keras' own."""
    names = {"dtype", "name", "trainable"}
    for base in cls.__mro__:
        if base.__module__.startswith("mimzoo") and "__init__" in vars(base):
            names |= set(inspect.signature(base.__init__).parameters)
    return names - {"self", "args", "kwargs"}


def required_arguments(cls: type) -> list[str]:
    """Names of the arguments without a default, of the class's own constructor."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    variable = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    wanted = (p for p in parameters if p.default is p.empty and p.kind not in variable)
    return [p.name for p in wanted if p.name != "self"]


class Backbone(TorchParameters, keras_hub.models.FeaturePyramidBackbone):
    """A KerasHub backbone that says how it embeds and how it encodes.

    `backbone(images)` gives the features that fine-tuning uses. A MIM method works between the
    two halves, which are public: `embed(images) -> tokens`, `encode(tokens, ...) -> features`.

    Attributes:
        family: short name of the class, as in the names of presets and recipes.
        saved_by_task: whether a task is being saved, so that its files belong to this backbone.
    """

    family = ""
    image_shape: tuple[int, int, int]
    grid: tuple[int, int]
    saved_by_task = False

    def __init__(self, *, dtype: str | keras.DTypePolicy | None = None, **kwargs):
        # Keras would drop what it does not know.
        given = set(kwargs) - {"inputs", "outputs"}
        check_arguments(given, constructor_arguments(type(self)), type(self).__name__)
        super().__init__(dtype=dtype, **kwargs)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: object | None = None
    ) -> Tensor:
        """`encode(embed(images))`; Keras' walk of the graph would hold what every block gives."""
        if isinstance(inputs, dict):
            inputs = inputs["images"]
        (images,) = keras.tree.flatten(inputs)
        tokens = self.embed(ops.convert_to_tensor(images, self.input.dtype))
        return self.encode(tokens, training=training)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """As `keras.Model.predict`."""
        with keep_weights(self, callbacks) as callbacks:
            return super().predict(x, batch_size, verbose, steps, callbacks)

    def embed(self, images: Tensor) -> Tensor:
        """Patch embedding without positions: (B, H, W, C) -> (B, N, embed_dim).

        Raises:
            ValueError: images of another shape than `image_shape`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it embeds images.")

    def encode(self, tokens: Tensor, *, training: bool | None = None) -> Tensor:
        """Features of embedded patches."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it encodes tokens.")

    def check_images(self, images: Tensor) -> None:
        """Raises ValueError for images of another shape than `image_shape`."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"{type(self).__name__} takes images of shape "
                f"(B, {', '.join(map(str, self.image_shape))}), got {tuple(images.shape)}: resize "
                "them, or load the backbone with another image_shape."
            )

    def check_tokens(self, tokens: Tensor) -> None:
        """Raises ValueError for another number of tokens than `grid` has."""
        rows, cols = self.grid
        if tokens.shape[1] != rows * cols:
            raise ValueError(
                f"{type(self).__name__} encodes {rows * cols} tokens an image ({rows}x{cols}), got "
                f"{tokens.shape[1]}."
            )

    @keras_hub.models.FeaturePyramidBackbone.pyramid_outputs.getter
    def pyramid_outputs(self) -> dict[str, keras.KerasTensor]:
        """Feature maps (B, rows, cols, channels) by level; `Pn` has strides of 2^n pixels."""
        # Keras keeps dicts as one of its own kind, which is no type of JAX.
        return dict(super().pyramid_outputs)

    def layer_decay_scales(self, layer_decay: float) -> list[tuple[str, float]]:
        """(regex over variable paths, learning-rate multiplier), first match wins."""
        raise NotImplementedError(f"{type(self).__name__} defines no layer-wise decay.")

    # --- LoRA -----------------------------------------------------------------------------------

    def default_lora_layer_names(self) -> list[str]:
        """LoRA adapts the fused projection of queries, keys and values."""
        return ["qkv"]

    def enable_lora(self, rank: int, target_layer_names: list[str] | None = None) -> None:
        """Trains low-rank changes of some kernels, and nothing else of the backbone.

        Hu et al., arXiv 2106.09685. KerasHub would train the layers' biases, too, which
        `save_lora_weights` does not keep.

        Args:
            rank: of the changes.
            target_layer_names: default `["qkv"]`; also "projection", "expand", "contract".

        Raises:
            ValueError: no layer of these names can be adapted.
        """
        super().enable_lora(rank, target_layer_names)
        for variable in self.trainable_variables:
            variable.trainable = is_lora(variable)
        if not self.trainable_variables:
            raise ValueError(
                f"{type(self).__name__} has no linear layer named "
                f"{' or '.join(map(repr, target_layer_names or []))}: LoRA adapts 'qkv', "
                "'projection', 'expand' and 'contract'."
            )

    def save_lora_weights(self, filepath: str | os.PathLike) -> None:
        """Saves the low-rank changes to a file that ends in `.lora.h5`.

        Raises:
            ValueError: other weights of the backbone are trainable: the file would not have them.
        """
        other = [v.path for v in self.trainable_variables if not is_lora(v)]
        if other:
            raise ValueError(
                f"save_lora_weights keeps the kernels of LoRA only, but {len(other)} other weights "
                f"are trainable, such as {other[0]!r}: call save_to_preset or save_weights instead."
            )
        super().save_lora_weights(filepath)

    # --- presets --------------------------------------------------------------------------------

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
        from mimzoo.hub.resolve import read_object

        folder = resolve(preset)
        backbone_cls = preset_class(folder)
        if load_weights:
            check_preset(folder, backbone_cls)
        if not issubclass(backbone_cls, cls):
            raise ValueError(
                f"preset {preset!r} holds a {backbone_cls.__name__}, not a {cls.__name__}: "
                f"call {backbone_cls.__name__}.from_preset."
            )
        check_arguments(kwargs, constructor_arguments(backbone_cls), backbone_cls.__name__)
        stored = read_object(folder / "config.json")["config"]
        if load_weights:
            check_trained_with(stored, kwargs, preset)
        kwargs |= quantised_dtype(stored, kwargs, preset)
        if load_weights and kwargs:
            made = backbone_cls.from_other_config(str(folder), stored, kwargs)
            if made is not None:
                return made
            kwargs = backbone_cls.adapt_config(stored, kwargs)
        try:
            return super().from_preset(str(folder), load_weights=load_weights, **kwargs)
        except ValueError as error:
            changed = [name for name in kwargs if kwargs[name] != stored.get(name)]
            if not (load_weights and changed and "could not be loaded" in str(error)):
                raise
            raise ValueError(
                f"the weights of {preset} have other shapes than with another "
                f"{' or '.join(changed)}: leave that out, or give load_weights=False."
            ) from None

    def load_weights(self, filepath: str | os.PathLike, *args, **kwargs) -> None:
        """As in Keras; files of a preset are checked, also where KerasHub's classes load them."""
        from mimzoo.hub.complete import check_weights_of_preset

        check_weights_of_preset(Path(filepath), type(self))
        super().load_weights(filepath, *args, **kwargs)

    def save_to_preset(self, preset_dir: str | os.PathLike, max_shard_size: float = 10) -> None:
        """KerasHub's, with a `manifest.json` of the files, by which loading checks them.

        Raises:
            ValueError: the folder holds a task, whose head would be loaded with this backbone, or
                results of other weights.
        """
        from mimzoo.hub.manifest import unchanged
        from mimzoo.hub.saving import saving

        # KerasHub's tasks, which are no mimzoo's, write their own files before the backbone's.
        finished = all(unchanged(Path(preset_dir), n) for n in ("config.json", "task.weights.h5"))
        if finished and not self.saved_by_task:
            raise ValueError(
                f"{os.fspath(preset_dir)} holds a task, whose head would stay with this backbone: "
                "save the backbone to a folder of its own, or the whole task to this one."
            )
        with saving(Path(preset_dir)):
            super().save_to_preset(str(preset_dir), max_shard_size)


def check_trained_with(stored: dict, given: dict, preset: str) -> None:
    """Raises ValueError for arguments with which weights would fit, but compute something else."""
    changed = [
        name
        for name in ("depth", "depths", "num_heads", "layer_norm_epsilon", "qkv_bias")
        if name in given and name in stored and _listed(given[name]) != _listed(stored[name])
    ]
    if changed:
        raise ValueError(
            f"the weights of {preset} were trained with another {' and '.join(changed)}: leave "
            "that out, or give load_weights=False."
        )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def quantised_dtype(stored: dict, given: dict, preset: str) -> dict:
    """{"dtype": …} of the layers of a quantised preset, which KerasHub drops; else {}.

    Raises:
        ValueError: another dtype is given.
    """
    dtype = stored.get("dtype")
    if not isinstance(dtype, dict) or dtype.get("class_name") != "DTypePolicyMap":
        return {}
    if given.get("dtype") is not None:
        raise ValueError(
            f"{preset} is quantised, and its weights have no other dtype: load it without dtype."
        )
    return {"dtype": keras.dtype_policies.get(dtype)}


def check_image_shape(image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """`image_shape` as a tuple.

    Raises:
        ValueError: not three positive numbers, or Keras is set to images (C, H, W).
    """
    shape = (image_shape,) if isinstance(image_shape, Integral) else tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(side, Integral) and side > 0 for side in shape):
        raise ValueError(f"image_shape must be (height, width, channels) in pixels, got {shape}.")
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "mimzoo's backbones take images (H, W, C), but Keras is set to channels_first: call "
            'keras.config.set_image_data_format("channels_last") before.'
        )
    return tuple(int(side) for side in shape)


def is_lora(variable: keras.Variable) -> bool:
    """Whether this is one of the two small kernels that LoRA trains."""
    return variable.name in ("lora_kernel_a", "lora_kernel_b")
