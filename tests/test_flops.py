"""The formulas for operations against counters that we did not write."""

import keras
import numpy as np
import pytest
from mimzoo_training import flops

from mimzoo.models import (
    ImageClassifier,
    MixMIMBackbone,
    SwinBackbone,
    SwinV2Backbone,
    ViTBackbone,
)
from mimzoo.pretraining import (
    MAE,
    LinearDecoder,
    MAEDecoder,
    MixMasking,
    MixMIM,
    MixMIMDecoder,
    RandomMasking,
    SimMIM,
)

SHAPE = {"image_shape": (64, 64, 3)}
STAGES = {**SHAPE, "patch_size": 4, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4)}


def mae():
    vit = ViTBackbone(**SHAPE, patch_size=8, embed_dim=96, depth=3, num_heads=3)
    return MAE(vit, masking=RandomMasking(0.75), decoder=MAEDecoder(64, 2, 2))


def simmim_vit():
    vit = ViTBackbone(**SHAPE, patch_size=8, embed_dim=96, depth=3, num_heads=3)
    return SimMIM(vit, masking=RandomMasking(0.6), decoder=LinearDecoder())


def simmim_swin():
    swin = SwinBackbone(**STAGES, window_size=8)
    return SimMIM(swin, masking=RandomMasking(0.6, mask_patch_size=16), decoder=LinearDecoder())


def simmim_swinv2():
    swin = SwinV2Backbone(**STAGES, window_size=8)
    return SimMIM(swin, masking=RandomMasking(0.6, mask_patch_size=16), decoder=LinearDecoder())


def mixmim():
    backbone = MixMIMBackbone(**STAGES, window_size=8)
    return MixMIM(
        backbone, masking=MixMasking(0.5, mask_patch_size=8), decoder=MixMIMDecoder(64, 2, 2)
    )


def classifier():
    vit = ViTBackbone(**SHAPE, patch_size=8, embed_dim=96, depth=3, num_heads=3)
    return ImageClassifier(vit, num_classes=1000, preprocessor=None)


def windowed_classifier(**options):
    vit = {"patch_size": 8, "embed_dim": 96, "depth": 3, "num_heads": 3, "class_token": False}
    backbone = ViTBackbone(**SHAPE, **vit, window_size=5, global_attention_blocks=(1,), **options)
    return ImageClassifier(backbone, num_classes=1000, preprocessor=None)


def decomposed_classifier():
    return windowed_classifier(relative_position_bias="decomposed")


def batch_of(task, count=16):
    images = np.random.default_rng(0).random((count, *SHAPE["image_shape"]), "float32")
    if isinstance(task, ImageClassifier):
        return images
    return {"images": images, "masks": task.draw(np.arange(count), 0)["masks"]}


def counted(task, batch):
    """Forward FLOP of a batch: products by torch's counter, everything by XLA's."""
    backend = keras.config.backend()
    if backend == "torch":
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        # Of the CPU's fused attention the counter does not know.
        plain = sdpa_kernel(SDPBackend.MATH)
        with torch.no_grad(), plain:
            task(batch, training=False)  # traces the layers, by running them
            with FlopCounterMode(display=False) as counter:
                task(batch, training=False)
        return counter.get_total_flops()
    import jax

    weights = [v.value for v in task.variables]

    def forward(values, batch):
        pairs = zip(task.variables, values, strict=True)
        with keras.StatelessScope(state_mapping=pairs):
            return task(batch, training=False)

    return jax.jit(forward).lower(weights, batch).compile().cost_analysis()["flops"]


@pytest.mark.parametrize(
    "make",
    [
        mae,
        simmim_vit,
        simmim_swin,
        simmim_swinv2,
        mixmim,
        classifier,
        windowed_classifier,
        decomposed_classifier,
    ],
)
def test_the_formula_counts_what_counters_count(make):
    if keras.config.backend() == "tensorflow":
        pytest.skip("has no counter of its own")
    task = make()
    batch = batch_of(task)
    by_formula = flops.step_flops(task, 16) / 3
    # XLA counts softmax, norms and GELU, too, which are a part of so small a model.
    limits = (0.98, 1.02) if keras.config.backend() == "torch" else (1.0, 1.25)
    assert limits[0] < counted(task, batch) / by_formula < limits[1]


@pytest.mark.skipif(keras.config.backend() != "jax", reason="XLA's own count of a step")
def test_a_step_of_wide_layers_is_what_xla_counts():
    """To 5 %: forward and backward pass of two blocks of ViT-B and one of the decoder."""
    import jax

    backbone = ViTBackbone((224, 224, 3), 16, 768, depth=2, num_heads=12)
    task = MAE(backbone, decoder=MAEDecoder(512, 1, 16, name="decoder"), preprocessor=None)
    images = np.zeros((2, 224, 224, 3), "float32")
    batch = {"images": images, **task.draw(np.arange(2))}
    trained, others = task.trainable_variables, task.non_trainable_variables

    def loss(trained_values, other_values):
        found, _ = task.stateless_call(trained_values, other_values, batch, training=True)
        pairs = [
            *zip(trained, trained_values, strict=True),
            *zip(others, other_values, strict=True),
        ]
        with keras.StatelessScope(pairs):
            return task.compute_loss(x=batch, y_pred=found)

    values = [v.value for v in trained], [v.value for v in others]
    counted = jax.jit(jax.grad(loss)).lower(*values).cost_analysis()["flops"]
    assert 0.95 < counted / flops.step_flops(task, 2) < 1.05
