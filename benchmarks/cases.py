"""The pairs of models that are compared: ours, and the same one of transformers."""

from typing import Any

import numpy as np

Pair = tuple[Any, dict, Any, dict]


def mae(size: str, batch_size: int, image_size: int) -> Pair:
    """MAE on ViT beside `ViTMAEForPreTraining`: (task, its inputs, peer, its inputs)."""
    import torch
    import transformers

    from mimzoo.models import ViTBackbone
    from mimzoo.models.vit import vit_size
    from mimzoo.pretraining import MAE

    image_shape = (image_size, image_size, 3)
    task = MAE(ViTBackbone.from_size(size, image_shape=image_shape), preprocessor=None)
    c = vit_size(size)
    config = transformers.ViTMAEConfig(
        hidden_size=c["embed_dim"],
        num_hidden_layers=c["depth"],
        num_attention_heads=c["num_heads"],
        intermediate_size=4 * c["embed_dim"],
        image_size=image_size,
        patch_size=c["patch_size"],
        norm_pix_loss=True,
        layer_norm_eps=1e-6,
    )
    peer = transformers.ViTMAEForPreTraining(config)
    pixels = torch.randn(batch_size, 3, image_size, image_size)
    return task, _inputs(task, batch_size, image_shape), peer, {"pixel_values": pixels}


def simmim(size: str, batch_size: int, image_size: int, version: int = 2) -> Pair:
    """SimMIM on Swin V2 beside `Swinv2ForMaskedImageModeling`: as `mae`.

    Window 12 and plain pixels as target, which is the one target that the peer has.
    """
    import torch
    import transformers

    from mimzoo.models import SwinBackbone, SwinV2Backbone
    from mimzoo.pretraining import SimMIM

    image_shape = (image_size, image_size, 3)
    cls = SwinV2Backbone if version == 2 else SwinBackbone
    backbone = cls.from_size(size, image_shape=image_shape, window_size=12, drop_path_rate=0.1)
    task = SimMIM(backbone, preprocessor=None)
    prefix = "Swinv2" if version == 2 else "Swin"
    config = getattr(transformers, f"{prefix}Config")(
        image_size=image_size,
        patch_size=backbone.patch_size,
        embed_dim=backbone.embed_dim,
        depths=backbone.depths,
        num_heads=backbone.num_heads,
        window_size=12,
        encoder_stride=backbone.stride,
        drop_path_rate=0.1,
    )
    peer = getattr(transformers, f"{prefix}ForMaskedImageModeling")(config)
    inputs = _inputs(task, batch_size, image_shape)
    pixels = torch.randn(batch_size, 3, image_size, image_size)
    masks = torch.tensor(inputs["masks"].astype(bool))
    return task, inputs, peer, {"pixel_values": pixels, "bool_masked_pos": masks}


def simmim_v1(size: str, batch_size: int, image_size: int) -> Pair:
    """SimMIM on Swin beside `SwinForMaskedImageModeling`: as `simmim`."""
    return simmim(size, batch_size, image_size, version=1)


def _inputs(task: Any, batch_size: int, image_shape: tuple) -> dict:
    images = np.random.default_rng(0).normal(size=(batch_size, *image_shape)).astype("float32")
    return {"images": images, "masks": task.draw_masks(np.arange(batch_size))}


# name -> (pair, image size)
CASES = {"mae": (mae, 224), "simmim": (simmim, 192), "simmim_v1": (simmim_v1, 192)}
