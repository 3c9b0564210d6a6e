"""Teachers: finding one, its digest, and maps of its features."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import ops

from mimzoo.data.normalize import IMAGENET_MEAN, IMAGENET_STD
from mimzoo.hub import preset_class, resolve
from mimzoo.hub.errors import is_offline
from mimzoo.hub.escape import one_line
from mimzoo.hub.handle import HF_PREFIX
from mimzoo.models.backbone import Backbone

DEFAULT_NORMALIZATION = (tuple(IMAGENET_MEAN), tuple(IMAGENET_STD))
Normalization = tuple[tuple[float, ...], tuple[float, ...]]


def find_teacher(name: str, image_shape: tuple | None = None) -> keras.Model:
    """The backbone that a name stands for, with its weights, in float32.

    Args:
        name: what `mimzoo.models.Backbone.from_preset` or `keras_hub.models.Backbone.from_preset`
            takes: a name of either catalogue, a folder, hf:// or kaggle://.
        image_shape: (H, W, C); None: the preset's.

    Raises:
        ValueError: it cannot be found or loaded.
    """
    options = {"dtype": "float32"}
    if image_shape is not None:
        options["image_shape"] = image_shape
    try:
        # Named before it is fetched: a task.json of others may ask for any.
        if _of_kaggle(name) or name.startswith(HF_PREFIX):
            host = "Kaggle" if _of_kaggle(name) else "the Hub or its cache"
            print(f"loading the teacher {one_line(name)} from {host}", file=sys.stderr, flush=True)
        handle = _handle(name)
        cls = preset_class(Path(handle)) if Path(handle).is_dir() else keras_hub.models.Backbone
        if not issubclass(cls, Backbone):
            cls = keras_hub.models.Backbone
        found = cls.from_preset(handle, **options)
    except Exception as error:  # each hub has its own
        raise ValueError(
            f"the teacher {name!r} cannot be loaded ({error}): give a preset's name, folder or "
            "hf:// handle that can, or the model itself, with target=FeatureTarget(teacher)."
        ) from error
    return getattr(found, "vision_encoder", found)  # of CLIP and its like


def find_normalization(name: str) -> Normalization | None:
    """Mean and std of a preset's images, of pixels in 0..1; None if it has none."""
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(_handle(name))
    except (ValueError, FileNotFoundError):  # a preset of the backbone alone has none
        return None
    scale = 1.0 if converter.scale is None else np.asarray(converter.scale, "float64")
    offset = 0.0 if converter.offset is None else np.asarray(converter.offset, "float64")
    mean, std, _ = np.broadcast_arrays(-offset / (255.0 * scale), 1 / (255.0 * scale), np.ones(3))
    return tuple(mean.tolist()), tuple(std.tolist())


def _of_kaggle(name: str) -> bool:
    return name.startswith("kaggle://") or name in keras_hub.models.Backbone.presets


def _handle(name: str) -> str:
    if _of_kaggle(name):
        if is_offline():  # Kaggle's client asks its host even for a cached copy
            raise ValueError(f"{name} is on Kaggle, and HF_HUB_OFFLINE forbids every request")
        return name
    return str(resolve(name))


def weights_digest(model: keras.Model) -> str:
    """sha256 of all weights in the model's order: shapes, and values as little-endian float32."""
    digest = hashlib.sha256()
    for weight in model.weights:
        value = np.asarray(ops.convert_to_numpy(weight), "<f4", order="C")
        digest.update(f"{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def frozen_copy(backbone: keras.Model, dtype: str | keras.DTypePolicy) -> keras.Model:
    """A copy that computes in `dtype` and never trains."""
    config = backbone.get_config()
    policy = keras.dtype_policies.get(dtype)
    copy = type(backbone).from_config(
        {**config, "dtype": keras.dtype_policies.serialize(policy), "name": "teacher"}
    )
    for new, old in zip(copy.weights, backbone.weights, strict=True):
        # Through numpy: on JAX a step gives its variables' memory away, which must not be shared.
        new.assign(ops.convert_to_numpy(old))
    copy.trainable = False
    return copy


def feature_model(backbone: keras.Model, layers: Sequence[int] | None) -> keras.Model:
    """A model from images to a list of maps (B, rows, cols, D), one for each layer.

    Args:
        backbone: of mimzoo or KerasHub, with one input of images, channels last.
        layers: numbers of blocks, from 0, or from -1 backwards; None: the backbone's output.

    Raises:
        ValueError: layers that it does not have, or that differ in shape.
    """
    if len(backbone.inputs) != 1 or len(backbone.inputs[0].shape) != 4:
        raise ValueError(
            f"the teacher {type(backbone).__name__} does not take images alone: "
            "give a vision backbone."
        )
    if layers is None:
        outputs = [_output_map(backbone)]
    else:
        blocks = _blocks(backbone)
        for number in layers:
            if not -len(blocks) <= number < len(blocks):
                raise ValueError(
                    f"the teacher {type(backbone).__name__} gives no layer {number}: "
                    + (
                        f"choose from 0 to {len(blocks) - 1}, or from -1 backwards."
                        if blocks
                        else "use its output, layers=None."
                    )
                )
        outputs = [_to_map(backbone, blocks[number]) for number in layers]
    if len({tuple(x.shape) for x in outputs}) > 1:
        shapes = ", ".join("x".join(map(str, x.shape[1:])) for x in outputs)
        raise ValueError(
            f"the layers {tuple(layers)} of the teacher have no mean, as they differ in shape "
            f"({shapes}): choose layers of one stage."
        )
    model = keras.Model(backbone.inputs, outputs)
    model.trainable = False
    return model


def _output_map(backbone: keras.Model) -> Any:
    output = backbone.output
    if isinstance(output, dict):
        output = output.get("sequence_output")  # of CLIP with an intermediate output
    if isinstance(backbone, Backbone):
        return backbone.feature_map(output)
    return _to_map(backbone, output)


def _blocks(backbone: keras.Model) -> list[Any]:
    """The outputs of the blocks, in their order; none where the class does not show them."""
    if isinstance(backbone, Backbone):
        return list(backbone.intermediate_outputs)
    if isinstance(backbone, keras_hub.models.CLIPVisionEncoder):
        return [block.output for block in backbone.encoder_layers]
    if isinstance(backbone, keras_hub.models.DINOV2Backbone | keras_hub.models.DINOV3Backbone):
        return [backbone.pyramid_outputs[f"stage{n + 1}"] for n in range(backbone.num_layers)]
    if isinstance(backbone, keras_hub.models.ViTBackbone):
        # One layer runs all blocks; without its dropout they are this chain.
        encoder = next(x for x in backbone.layers if hasattr(x, "encoder_layers"))
        x, outputs = encoder.input, []
        for block in encoder.encoder_layers:
            x = block(x, training=False)
            outputs.append(x)
        return outputs
    return []


def _to_map(backbone: keras.Model, x: Any) -> Any:
    """(B, rows, cols, D) as it is; of (B, T, D) the last rows x cols tokens, as a map.

    Class and register tokens stand in front in every backbone of mimzoo and KerasHub.
    """
    if x is not None and len(x.shape) == 4:
        return x
    patch = getattr(backbone, "patch_size", None)
    if x is None or len(x.shape) != 3 or patch is None:
        raise ValueError(
            f"the teacher {type(backbone).__name__} gives no map of features: use a backbone whose "
            "output is (B, rows, cols, D), or (B, tokens, D) with a patch_size."
        )
    patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
    height, width = backbone.inputs[0].shape[1:3]
    rows, cols = height // patch[0], width // patch[1]
    if x.shape[1] is not None and x.shape[1] < rows * cols:  # DINOv3 has None
        raise ValueError(
            f"the teacher {type(backbone).__name__} has {x.shape[1]} tokens, fewer than the "
            f"{rows}x{cols} patches of its images: its features have no place in the image."
        )
    return ops.reshape(x[:, -rows * cols :], (-1, rows, cols, x.shape[-1]))
