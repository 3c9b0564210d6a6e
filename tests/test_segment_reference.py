"""UPerNet against transformers' `UperNetForSemanticSegmentation` on Swin, and mean IoU by hand."""

import keras
import numpy as np
import torch
from checkpoints import of_transformers
from gradients import forward
from test_reference_swin import images, randomize
from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

from mimzoo.models import ImageSegmenter
from mimzoo.tasks.segmentation.confusion import Confusion
from mimzoo.tasks.segmentation.image_segmenter import mean_iou
from mimzoo.tasks.segmentation.levels import FeaturePyramid

CLASSES = 5


def set_conv(ours, theirs):
    """Convolution and, where there is one, batch norm with random statistics."""
    conv = theirs.conv if hasattr(theirs, "conv") else theirs
    weights = [conv.weight.permute(2, 3, 1, 0)] + ([] if conv.bias is None else [conv.bias])
    ours.conv.set_weights([w.detach().numpy() for w in weights])
    if hasattr(theirs, "batch_norm"):
        norm = theirs.batch_norm
        values = norm.weight, norm.bias, norm.running_mean, norm.running_var
        ours.norm.set_weights([v.detach().numpy() for v in values])


def random_upernet(height: int, width: int) -> UperNetForSemanticSegmentation:
    backbone = SwinConfig(
        image_size=(height, width),
        patch_size=4,
        window_size=2,
        embed_dim=8,
        depths=(1, 2, 1, 1),
        num_heads=(1, 2, 2, 2),
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=12, auxiliary_channels=6, num_labels=CLASSES
    )
    theirs = UperNetForSemanticSegmentation(config)
    randomize(theirs)
    random_statistics(theirs)
    return theirs.eval()


def random_statistics(theirs: torch.nn.Module) -> None:
    """Convolutions that keep the size of what they get, batch norms that differ."""
    for module in theirs.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    generator = torch.Generator().manual_seed(1)
    for name, value in theirs.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)


def test_upernet_is_transformers_upernet(tmp_path):
    height, width = 64, 96
    theirs = random_upernet(height, width)
    norms = [theirs.backbone.hidden_states_norms[f"stage{n}"] for n in (1, 2, 3, 4)]
    swin = theirs.backbone.swin
    swin.layernorm.load_state_dict(norms[-1].state_dict())  # it is unused there
    backbone = of_transformers(swin, tmp_path)
    ours = ImageSegmenter.for_backbone(type(backbone))(
        backbone, CLASSES, head_dim=12, auxiliary_dim=6
    )
    for layer, norm in zip(ours.neck.norms, norms[:3], strict=True):
        layer.set_weights([norm.weight.detach().numpy(), norm.bias.detach().numpy()])
    head, decode, second = ours.head, theirs.decode_head, theirs.auxiliary_head
    pairs = [
        *zip(head.pooled, [block.layers[1] for block in decode.psp_modules.blocks], strict=True),
        *zip(head.laterals, decode.lateral_convs, strict=True),
        *zip(head.outputs, decode.fpn_convs, strict=True),
        (head.bottleneck, decode.bottleneck),
        (head.fuse, decode.fpn_bottleneck),
        (head.classify, decode.classifier),
        (head.auxiliary_layers[0], second.convs[0]),
        (head.auxiliary_layers[1], second.classifier),
    ]
    for layer, reference in pairs:
        set_conv(layer, reference)

    x = images(height, width)
    inputs = torch.tensor(x).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = theirs(inputs).logits
        features = theirs.backbone(inputs).feature_maps
        auxiliary = second(features)
        auxiliary = torch.nn.functional.interpolate(auxiliary, (height, width), mode="bilinear")
        labels = torch.arange(2 * height * width).reshape(2, height, width) * 7 % (CLASSES + 1)
        labels[labels == CLASSES] = 255
        loss = theirs(inputs, labels=labels).loss

    both = forward(
        # As in training, but for batch norm and dropout.
        lambda x: keras.ops.concatenate([ours(x), resized_auxiliary(ours, x)], axis=-1),
        x,
    )
    expected, auxiliary = (v.permute(0, 2, 3, 1).numpy() for v in (expected, auxiliary))
    np.testing.assert_allclose(both[..., :CLASSES], expected, atol=1e-4)
    np.testing.assert_allclose(both[..., CLASSES:], auxiliary, atol=1e-4)
    predictions = {"logits": expected, "auxiliary": auxiliary}
    # theirs ignores 255, too, and weighs the auxiliary loss 0.4
    value = float(ours.compute_loss(y=labels.numpy(), y_pred=predictions))
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)


def resized_auxiliary(model, x):
    from mimzoo.tasks.segmentation.levels import resized

    return resized(model.head.auxiliary(model._maps(x)), model.backbone.image_shape[:2])


def test_mean_iou_by_hand():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 8, 9, CLASSES)).astype("float32")
    labels = rng.integers(0, CLASSES - 1, (3, 8, 9))  # the last class does not occur
    labels[rng.random(labels.shape) < 0.2] = 255
    logits[..., CLASSES - 1] = -9
    best = logits.argmax(-1)
    shares = [
        ((best == c) & (labels == c)).sum()
        / (((best == c) | (labels == c)) & (labels != 255)).sum()
        for c in range(CLASSES - 1)
    ]
    metric, confusion = mean_iou(CLASSES), Confusion(CLASSES)
    for row in range(3):
        metric.update_state(labels[row : row + 1], logits[row : row + 1])
        confusion.add(labels[row], best[row])
    np.testing.assert_allclose(float(metric.result()), np.mean(shares), rtol=1e-6)
    np.testing.assert_allclose(confusion.mean_iou, np.mean(shares), rtol=1e-9)
    np.testing.assert_allclose(confusion.iou[:-1], shares, rtol=1e-9)
    assert np.isnan(confusion.iou[-1])


def test_the_pyramid_of_a_vit_is_that_of_mmsegmentation():
    """Its `Feature2Pyramid` in torch's layers: the package itself cannot be installed here."""
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, 4, 6, 8)).astype("float32") for _ in range(4)]
    neck = FeaturePyramid(2)
    neck.build([one.shape for one in maps])
    for weight in neck.weights:
        noise = rng.normal(size=weight.shape) * 0.3
        weight.assign(np.abs(noise) + 0.5 if "variance" in weight.path else noise)

    def up(layer):
        theirs = torch.nn.ConvTranspose2d(8, 8, 2, 2)
        kernel, bias = (torch.tensor(np.array(w)) for w in layer.get_weights())
        theirs.load_state_dict({"weight": kernel.permute(3, 2, 0, 1), "bias": bias})
        return theirs

    (first, norm, _, second), (third,), _, _ = neck.scalings
    batch_norm = torch.nn.BatchNorm2d(8)
    names = "weight", "bias", "running_mean", "running_var"
    values = map(torch.tensor, norm.get_weights())
    batch_norm.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    chains = (
        torch.nn.Sequential(up(first), batch_norm.eval(), torch.nn.GELU(), up(second)),
        up(third),
        torch.nn.Identity(),
        torch.nn.MaxPool2d(2, 2),
    )
    found = [keras.ops.convert_to_numpy(one) for one in neck(maps)]
    for one, chain, ours in zip(maps, chains, found, strict=True):
        theirs = chain(torch.tensor(one).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-5)
