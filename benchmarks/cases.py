"""What is compared: a model of ours, and the same one of others, each ready to be built."""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import CLASSES, Case, Options, classifier_case, mim_case, pixels
from benchmarks.dense_cases import detect, segment
from benchmarks.official_mixmim import official_mixmim


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


def mixmim(o: Options) -> Case:
    """MixMIM beside its official code, of which `--official` names the folder."""

    def task() -> Any:
        from mimzoo.models import MixMIMBackbone
        from mimzoo.pretraining import MixMIM

        shape = (o.image_size, o.image_size, 3)
        return MixMIM(MixMIMBackbone.from_size(o.size, image_shape=shape), preprocessor=None)

    def peer(masks: np.ndarray) -> tuple:
        return official_mixmim(o.official, o.size), {"pixel_values": pixels(o, "first")}

    return mim_case(o, task, {"official": peer} if o.official else {})


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
    "segment": (lambda o: segment(o, lambda: swin_backbone(o, 1), partial(swin_config, o, 1)), 384),
    "detect": (detect, 512),
    "inference_vit": (lambda o: vit_classifier(o, False), 224),
    "inference_swinv2": (lambda o: swin_classifier(o, False), 192),
}
