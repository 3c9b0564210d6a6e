"""Recipes as mimzoo 0.1 wrote them: a method and its options as fields."""

from typing import Any

from mimzoo_training.recipes.objects import Spec, keras_object

_BACKBONES = {
    "vit": "ViTBackbone",
    "swin": "SwinBackbone",
    "swinv2": "SwinV2Backbone",
    "mixmim": "MixMIMBackbone",
}
_METHODS = {"mae": "MAE", "simmim": "SimMIM", "mixmim": "MixMIM"}
_DECODERS = {"mae": "MAEDecoder", "mixmim": "MixMIMDecoder"}
_DECODER = {"decoder_dim": "embed_dim", "decoder_depth": "depth", "decoder_heads": "num_heads"}
_MASKING = {
    "mask_ratio": "mask_ratio",
    "mask_patch_size": "mask_patch_size",
    "mask_sharing": "shared",
    "mask_ratio_range": "mask_ratio_range",
}
_TARGET = ("target", "target_window", "target_options", "loss")
_DEFAULTS = {
    "method": "mae",
    "patch_size": 16,
    "mask_ratio": 0.75,
    "target": "normalized_patches",
    "loss": "mse",
    "decoder_dim": 512,
    "decoder_depth": 8,
    "decoder_heads": 16,
}
# Where a field's rule in `inferred` belongs now.
_RULES = {
    **{old: f"decoder.{new}" for old, new in _DECODER.items()},
    **{old: f"masking.{new}" for old, new in _MASKING.items()},
    "target": "target",
    "target_window": "target.window_size",
    "loss": "target.loss",
    "patch_size": "backbone.patch_size",
}


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe's JSON with the field `task`; one that has it, or is for fine-tuning, as it is."""
    if data.get("kind") != "pretrain" or "task" in data:
        return data
    data = {**_DEFAULTS, **data}
    method, backbone = data["method"], data.get("backbone", "vit")
    architecture = data.pop("architecture", {})
    size = {"size": data["size"], "patch_size": data.pop("patch_size")}
    parts = {
        "backbone": keras_object(_BACKBONES[backbone], **size, **architecture),
        "masking": _masking(data, method),
        "target": target(**{name: data.pop(name, None) for name in _TARGET}),
    }
    decoder = {new: data.pop(old) for old, new in _DECODER.items()}
    parts["decoder"] = (
        keras_object(_DECODERS[method], **decoder)
        if method in _DECODERS
        else keras_object("LinearDecoder")
    )
    if data.pop("mixing_embedding", False):
        parts["mixing_embedding"] = True
    inferred = {_RULES.get(k, k): rule for k, rule in data.pop("inferred", {}).items()}
    rule = inferred.pop("architecture", None)
    inferred |= {f"backbone.{name}": rule for name in architecture if rule}
    return {**data, "task": keras_object(_METHODS[method], **parts), "inferred": inferred}


def _masking(data: dict[str, Any], method: str) -> Spec:
    values = {new: data.pop(old, None) for old, new in _MASKING.items()}
    values = {name: value for name, value in values.items() if value is not None}
    if method != "mixmim":
        values = {k: v for k, v in values.items() if k in ("mask_ratio", "mask_patch_size")}
        return keras_object("RandomMasking", **values)
    if not values.get("mask_ratio_range"):
        values.pop("mask_ratio_range", None)
    return keras_object("MixMasking", **values)


def target(
    target: str,
    target_window: int | None = None,
    target_options: dict[str, Any] | None = None,
    loss: str | None = None,
) -> Spec:
    """The target that the fields of mimzoo 0.1 stand for."""
    options = dict(target_options or {})
    if "on" in options:
        options["loss_on"] = options.pop("on")
    if target == "hog":
        return keras_object("HOGTarget", loss=loss, **options)
    if target == "features":
        return keras_object("FeatureTarget", loss=loss, **options)
    if target == "sliding_window":
        return keras_object("SlidingWindowTarget", window_size=target_window, loss=loss)
    return keras_object("PixelTarget", normalize=target == "normalized_patches", loss=loss)


def upgraded_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of fields, as a study's file has them, likewise."""
    changes = dict(changes)
    task: dict[str, Any] = {}
    for names, part in ((_DECODER, "decoder"), (_MASKING, "masking")):
        found = {new: changes.pop(old) for old, new in names.items() if old in changes}
        if found:
            task[part] = found
    backbone = changes.pop("architecture", {})
    if "patch_size" in changes:
        backbone = {**backbone, "patch_size": changes.pop("patch_size")}
    if backbone:
        task["backbone"] = backbone
    if "target" in changes:
        losses = {"features": "smooth_l1", "sliding_window": "l1"}
        fields = {name: changes.pop(name, None) for name in _TARGET}
        fields["loss"] = fields["loss"] or losses.get(fields["target"], "mse")
        task["target"] = target(**fields)
    elif "target_options" in changes or "loss" in changes or "target_window" in changes:
        found = dict(changes.pop("target_options", {}))
        found |= {"loss": changes.pop("loss")} if "loss" in changes else {}
        window = changes.pop("target_window", None)
        task["target"] = found | ({"window_size": window} if window else {})
    return {**changes, "task": task} if task else changes
