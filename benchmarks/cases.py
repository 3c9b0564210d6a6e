"""What is compared: a model of ours, and the same one of others, each ready to be built."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.steps import (
    Step,
    keras_inference,
    keras_step,
    torch_inference,
    torch_step,
)

CLASSES = 1000


@dataclass(frozen=True)
class Options:
    """How a case is run.

    Attributes:
        size: of the backbone, such as "tiny".
        batch: images in a step.
        image_size: side in pixels.
        bf16: mixed precision on both sides.
        jit: compile ours on torch, too (on JAX and TensorFlow it always is).
        compiled: add torch.compile'd peers.
        compiled_only: leave out what these are faster than, and ours in float32.
        official: folder of the official code, for cases that need it.
    """

    size: str
    batch: int
    image_size: int
    bf16: bool = False
    jit: bool = False
    compiled: bool = True
    compiled_only: bool = False
    official: str | None = None


class Case(NamedTuple):
    """A comparison.

    Attributes:
        contenders: ours first: name -> what builds it and gives its step.
        flops: operations of a step.
        prepare: makes what the contenders share, before memory is measured.
    """

    contenders: dict[str, Callable[[], Step]]
    flops: Callable[[], float]
    prepare: Callable[[], Any] = lambda: None


def pixels(o: Options, layout: str = "last") -> np.ndarray:
    """Noise as images."""
    images = np.random.default_rng(0).normal(size=(o.batch, o.image_size, o.image_size, 3))
    images = images.astype("float32")
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if layout == "first" else images


def labels(o: Options) -> np.ndarray:
    """A class for each image."""
    return np.arange(o.batch) % CLASSES


def mim_case(o: Options, task: Callable[[], Any], peers: dict[str, Callable]) -> Case:
    """A pretraining step; peers are functions of the masks that give (model, its inputs)."""
    drawn: dict[str, Any] = {}

    def ours() -> Step:
        return keras_step(task(), {"images": pixels(o), "masks": masks()}, jit=o.jit)

    def in_float32() -> Step:
        import keras

        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            return ours()
        finally:
            keras.config.set_dtype_policy(policy)

    def masks() -> np.ndarray:
        if not drawn:
            drawn["masks"] = task().draw(np.arange(o.batch))["masks"]
        return drawn["masks"]

    def flops() -> float:
        from mimzoo_training.flops import step_flops

        return step_flops(task(), o.batch)

    contenders: dict[str, Callable[[], Step]] = {"mimzoo": ours}
    if o.bf16 and not o.compiled_only:
        contenders["mimzoo float32"] = in_float32
    for name, make in peers.items():
        if not (o.compiled and o.compiled_only):
            contenders[name] = lambda make=make: torch_step(*make(masks()), o, compiled=False)
        if o.compiled:
            contenders[f"{name} compiled"] = lambda make=make: torch_step(
                *make(masks()), o, compiled=True
            )
    return Case(contenders, flops, masks)


def mae(o: Options) -> Case:
    """MAE on ViT beside `ViTMAEForPreTraining`."""

    def task() -> Any:
        from mimzoo.models import ViTBackbone
        from mimzoo.pretraining import MAE

        shape = (o.image_size, o.image_size, 3)
        return MAE(ViTBackbone.from_size(o.size, image_shape=shape), preprocessor=None)

    def peer(masks: np.ndarray) -> tuple:
        import transformers

        from mimzoo.models.vit import vit_size

        config = transformers.ViTMAEConfig(
            **vit_config(vit_size(o.size)), image_size=o.image_size, norm_pix_loss=True
        )
        return transformers.ViTMAEForPreTraining(config), {"pixel_values": pixels(o, "first")}

    return mim_case(o, task, {"transformers": peer})


def vit_config(size: dict) -> dict:
    """Our names as those of transformers' ViTs."""
    return {
        "hidden_size": size["embed_dim"],
        "num_hidden_layers": size["depth"],
        "num_attention_heads": size["num_heads"],
        "intermediate_size": 4 * size["embed_dim"],
        "patch_size": size["patch_size"],
        "layer_norm_eps": 1e-6,
    }


def swin_backbone(o: Options, version: int) -> Any:
    """As SimMIM trains at 192 px: Swin V2 with windows of 12, Swin with windows of 6."""
    from mimzoo.models import SwinBackbone, SwinV2Backbone

    cls = SwinV2Backbone if version == 2 else SwinBackbone
    shape = (o.image_size, o.image_size, 3)
    return cls.from_size(o.size, image_shape=shape, window_size=6 * version, drop_path_rate=0.1)


def swin_config(o: Options, version: int, **more: Any) -> Any:
    """The same for transformers."""
    import transformers

    from mimzoo.models import SwinBackbone, SwinV2Backbone

    size = (SwinV2Backbone if version == 2 else SwinBackbone).sizes[o.size]
    config = transformers.Swinv2Config if version == 2 else transformers.SwinConfig
    return config(
        image_size=o.image_size,
        patch_size=4,
        embed_dim=size["embed_dim"],
        depths=size["depths"],
        num_heads=size["num_heads"],
        window_size=6 * version,
        drop_path_rate=0.1,
        **more,
    )


def simmim(o: Options, version: int = 2) -> Case:
    """SimMIM beside `Swinv2ForMaskedImageModeling`, with plain pixels, its one target."""

    def task() -> Any:
        from mimzoo.pretraining import SimMIM

        return SimMIM(swin_backbone(o, version), preprocessor=None)

    def peer(masks: np.ndarray) -> tuple:
        import torch
        import transformers

        prefix = "Swinv2" if version == 2 else "Swin"
        config = swin_config(o, version, encoder_stride=32)
        model = getattr(transformers, f"{prefix}ForMaskedImageModeling")(config)
        hidden = torch.tensor(masks.astype(bool))
        return model, {"pixel_values": pixels(o, "first"), "bool_masked_pos": hidden}

    return mim_case(o, task, {"transformers": peer})


def simmim_v1(o: Options) -> Case:
    """SimMIM on Swin beside `SwinForMaskedImageModeling`."""
    return simmim(o, version=1)


def official_mixmim() -> Any:
    """The module of MixMIM's official code, with timm 0.5 as it was when that was written."""
    vars(np).setdefault("float", float)
    import models_mixmim
    from timm.models import swin_transformer as swin

    class Merging(swin.PatchMerging):
        def __init__(self, resolution: tuple, dim: int, norm_layer: Any) -> None:
            super().__init__(dim, norm_layer=norm_layer)
            self.resolution = resolution

        def forward(self, x: Any) -> Any:
            grid = x.reshape(len(x), *self.resolution, -1)
            return super().forward(grid).flatten(1, 2)

    def cut(x: Any, size: int) -> Any:
        return swin.window_partition(x, (size, size))

    def join(windows: Any, size: int, height: int, width: int) -> Any:
        return swin.window_reverse(windows, (size, size), height, width)

    models_mixmim.PatchMerging = Merging
    models_mixmim.window_partition, models_mixmim.window_reverse = cut, join
    return models_mixmim


def mixmim(o: Options) -> Case:
    """MixMIM beside its official code, of which `--official` names the folder."""

    def task() -> Any:
        from mimzoo.models import MixMIMBackbone
        from mimzoo.pretraining import MixMIM

        shape = (o.image_size, o.image_size, 3)
        return MixMIM(MixMIMBackbone.from_size(o.size, image_shape=shape), preprocessor=None)

    def peer(masks: np.ndarray) -> tuple:
        import torch

        sys.path.insert(0, o.official)
        models_mixmim = official_mixmim()

        class Peer(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = getattr(models_mixmim, f"mixmim_{o.size}")()

            def forward(self, pixel_values: Any) -> Any:
                return self.model(pixel_values)[0]

        return Peer(), {"pixel_values": pixels(o, "first")}

    return mim_case(o, task, {"official": peer} if o.official else {})


def classifier_case(
    o: Options, ours: Callable[[], Any], peers: dict[str, Callable], keras_peers: dict, train: bool
) -> Case:
    """A step of fine-tuning, or a forward pass."""

    def keras_contender(make: Callable[[], Any], optimizer: Callable[[Any], Any]) -> Step:
        model = make()
        if train:
            return keras_step(model, pixels(o), labels(o), optimizer(model), o.jit)
        return keras_inference(model, pixels(o), o.jit)

    def our_optimizer(model: Any) -> Any:
        from mimzoo.optimizers import AdamW

        return AdamW(model, 1e-4)

    def keras_optimizer(model: Any) -> Any:
        import keras

        return keras.optimizers.AdamW(1e-4)

    def flops() -> float:
        from mimzoo_training.flops import step_flops

        return step_flops(ours(), o.batch) / (1 if train else 3)

    contenders: dict[str, Callable[[], Step]] = {
        "mimzoo": lambda: keras_contender(ours, our_optimizer)
    }
    for name, make in keras_peers.items():
        contenders[name] = lambda make=make: keras_contender(make, keras_optimizer)
    for name, make in peers.items():
        for compiled in {o.compiled_only and o.compiled, o.compiled}:

            def contender(make: Callable = make, compiled: bool = compiled) -> Step:
                inputs = {"pixel_values": pixels(o, "first")}
                if not train:
                    return torch_inference(make(), inputs, o, compiled)
                return torch_step(make(), {**inputs, "labels": labels(o)}, o, compiled=compiled)

            contenders[f"{name} compiled" if compiled else name] = contender
    return Case(contenders, flops)


def vit_classifier(o: Options, train: bool) -> Case:
    """ViT beside `ViTForImageClassification` and KerasHub's ViT."""

    def ours() -> Any:
        from mimzoo.models import ImageClassifier, ViTBackbone

        shape = (o.image_size, o.image_size, 3)
        backbone = ViTBackbone.from_size(o.size, image_shape=shape)
        return ImageClassifier(backbone, CLASSES, preprocessor=None)

    def peer() -> Any:
        import transformers

        from mimzoo.models.vit import vit_size

        config = vit_config(vit_size(o.size))
        return transformers.ViTForImageClassification(
            transformers.ViTConfig(**config, image_size=o.image_size, num_labels=CLASSES)
        )

    def keras_peer() -> Any:
        import keras_hub

        from mimzoo.models.vit import vit_size

        size = vit_size(o.size)
        backbone = keras_hub.models.ViTBackbone(
            image_shape=(o.image_size, o.image_size, 3),
            patch_size=(size["patch_size"],) * 2,
            num_layers=size["depth"],
            num_heads=size["num_heads"],
            hidden_dim=size["embed_dim"],
            mlp_dim=4 * size["embed_dim"],
        )
        return keras_hub.models.ViTImageClassifier(backbone, CLASSES, preprocessor=None)

    return classifier_case(o, ours, {"transformers": peer}, {"KerasHub": keras_peer}, train)


def vit_drop_path(o: Options) -> Case:
    """Fine-tuning of a ViT with drop path beside timm's, if that is installed."""

    def ours() -> Any:
        from mimzoo.models import ImageClassifier, ViTBackbone

        shape = (o.image_size, o.image_size, 3)
        backbone = ViTBackbone.from_size(o.size, image_shape=shape, drop_path_rate=0.1)
        return ImageClassifier(backbone, CLASSES, preprocessor=None)

    def peer() -> Any:
        import timm
        import torch

        class Peer(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = timm.create_model(
                    f"vit_{o.size}_patch16_224",
                    num_classes=CLASSES,
                    img_size=o.image_size,
                    drop_path_rate=0.1,
                )

            def forward(self, pixel_values: Any, labels: Any) -> Any:
                return torch.nn.functional.cross_entropy(self.model(pixel_values), labels)

        return Peer()

    installed = importlib.util.find_spec("timm") is not None
    return classifier_case(o, ours, {"timm": peer} if installed else {}, {}, True)


def swin_classifier(o: Options, train: bool) -> Case:
    """Swin V2 beside `Swinv2ForImageClassification`; KerasHub has none."""

    def ours() -> Any:
        from mimzoo.models import ImageClassifier

        return ImageClassifier(swin_backbone(o, 2), CLASSES, preprocessor=None)

    def peer() -> Any:
        import transformers

        return transformers.Swinv2ForImageClassification(swin_config(o, 2, num_labels=CLASSES))

    return classifier_case(o, ours, {"transformers": peer}, {}, train)


# name -> (case of options, image size)
CASES: dict[str, tuple[Callable[[Options], Case], int]] = {
    "mae": (mae, 224),
    "simmim": (simmim, 192),
    "simmim_v1": (simmim_v1, 192),
    "mixmim": (mixmim, 224),
    "finetune_vit": (lambda o: vit_classifier(o, True), 224),
    "finetune_vit_drop_path": (vit_drop_path, 224),
    "finetune_swinv2": (lambda o: swin_classifier(o, True), 192),
    "inference_vit": (lambda o: vit_classifier(o, False), 224),
    "inference_swinv2": (lambda o: swin_classifier(o, False), 192),
}
