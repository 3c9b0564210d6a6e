"""Weights of the official and of transformers' Swin and SimMIM into ours."""

import re

import numpy as np
from reference_weights import BLOCK, assign, load_blocks, patch_kernel

ATTENTION_V1 = {"attn.qkv.bias": "attention.qkv.bias"}
ATTENTION_V2 = {
    "attn.logit_scale": "attention.logit_scale",
    "attn.q_bias": "attention.query_bias",
    "attn.v_bias": "attention.value_bias",
    "attn.cpb_mlp.0.weight": "attention.position_bias.kernel1",
    "attn.cpb_mlp.0.bias": "attention.position_bias.bias1",
    "attn.cpb_mlp.2.weight": "attention.position_bias.kernel2",
}


def load_swin(backbone: object, state: dict) -> None:
    """The official names of Swin and Swin V2; every tensor has to find its place."""
    state = dict(state)
    state.pop("mask_token", None)
    kernel = patch_kernel(state.pop("patch_embed.proj.weight"))
    assign(backbone, "patch_embed.projection.kernel", kernel)
    assign(backbone, "patch_embed.projection.bias", state.pop("patch_embed.proj.bias"))
    for theirs, ours in (("patch_embed.norm", "patch_norm"), ("norm", "norm")):
        assign(backbone, f"{ours}.gamma", state.pop(f"{theirs}.weight"))
        assign(backbone, f"{ours}.beta", state.pop(f"{theirs}.bias"))
    for key, value in state.items():
        stage, rest = re.fullmatch(r"layers\.(\d+)\.(.*)", key).groups()
        if rest.startswith("downsample"):
            name = {"reduction.weight": "reduction.kernel", "norm.weight": "norm.gamma"}
            part = rest.removeprefix("downsample.")
            assign(backbone.mergings[int(stage)], name.get(part, "norm.beta"), value)
            continue
        number, part = re.fullmatch(r"blocks\.(\d+)\.(.*)", rest).groups()
        block = backbone.stages[int(stage)][int(number)]
        if part == "attn.relative_position_bias_table":
            side = 2 * block.attention.windows.size - 1
            block.attention.position_bias.table.assign(value.reshape(side, side, -1))
        elif part in ("attn.cpb_mlp.0.weight", "attn.cpb_mlp.2.weight"):
            assign(block, ATTENTION_V2[part], value.T)
        else:
            assign(block, {**BLOCK, **ATTENTION_V1, **ATTENTION_V2}[part], value)


def shuffled_to_patches(weight: np.ndarray, stride: int) -> np.ndarray:
    """Rows of a decoder from pixel shuffle's (channel, row, col) order to (row, col, channel)."""
    rows = weight.reshape(-1, stride, stride, *weight.shape[1:])
    return np.moveaxis(rows, 0, 2).reshape(weight.shape)


def load_simmim(task: object, state: dict, load_backbone: object) -> None:
    """The official names of SimMIM."""
    encoder = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    load_backbone(task.backbone, encoder)
    task.mask_token.token.assign(encoder["mask_token"])
    stride = task.backbone.stride
    weight = shuffled_to_patches(state["decoder.0.weight"][:, :, 0, 0], stride)
    assign(task.decoder, "prediction.kernel", weight)
    assign(task.decoder, "prediction.bias", shuffled_to_patches(state["decoder.0.bias"], stride))


def load_simmim_vit(backbone: object, state: dict) -> None:
    """The official names of SimMIM's ViT with a shared relative position bias."""
    assign(
        backbone, "patch_embed.projection.kernel", patch_kernel(state["patch_embed.proj.weight"])
    )
    assign(backbone, "patch_embed.projection.bias", state["patch_embed.proj.bias"])
    backbone.class_token_layer.token.assign(state["cls_token"])
    table = state["rel_pos_bias.relative_position_bias_table"]
    side = 2 * backbone.grid[0] - 1
    backbone.shared_bias.table.assign(table[:-3].reshape(side, side, -1))
    backbone.shared_bias.class_table.assign(table[-3:])
    for number, block in enumerate(backbone.blocks):
        prefix = f"blocks.{number}."
        assign(block, "scale1", state[prefix + "gamma_1"])
        assign(block, "scale2", state[prefix + "gamma_2"])
        names = {**BLOCK, **ATTENTION_V2}
        for key in state:
            part = key.removeprefix(prefix)
            if key.startswith(prefix) and not part.startswith("gamma"):
                assign(block, names[part], state[key])
    assign(backbone, "norm.gamma", state["norm.weight"])
    assign(backbone, "norm.beta", state["norm.bias"])


def from_transformers_swin(state: dict) -> dict:
    """State dict of transformers' Swin or Swinv2 with the official names."""
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"^swin(v2)?\.", "", key)
        for old, new in (
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("embeddings.norm", "patch_embed.norm"),
            ("embeddings.mask_token", "mask_token"),
            ("encoder.layers", "layers"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("attention.output.dense", "attn.proj"),
            ("attention.o_proj", "attn.proj"),
            ("attention.self.", "attn."),
            ("attention.relative_position_bias.", "attn."),
            ("attention.", "attn."),
            ("continuous_position_bias_mlp", "cpb_mlp"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ):
            key = key.replace(old, new)
        key = re.sub(r"^layernorm\.", "norm.", key)
        key = re.sub(r"attn\.(query|key|value)\.", lambda m: f"attn.{m[1][0]}_proj.", key)
        renamed[key] = np.asarray(value)
    for key in [k for k in renamed if k.endswith("attn.q_proj.weight")]:
        base = key.removesuffix("q_proj.weight")
        weights = [renamed.pop(f"{base}{name}_proj.weight") for name in "qkv"]
        renamed[f"{base}qkv.weight"] = np.concatenate(weights)
        biases = [renamed.pop(f"{base}{name}_proj.bias", None) for name in "qkv"]
        if biases[1] is None:
            renamed[f"{base}q_bias"], renamed[f"{base}v_bias"] = biases[0], biases[2]
        else:
            renamed[f"{base}qkv.bias"] = np.concatenate(biases)
    return renamed


def load_mixmim(task: object, state: dict) -> None:
    """The official names of MixMIM."""
    state = dict(state)
    decoder = task.decoder
    for theirs, ours in (("absolute_pos_embed", task.backbone), ("decoder_pos_embed", decoder)):
        table = ours.positions.table
        # Fixed in both: ours have to be theirs.
        np.testing.assert_allclose(state.pop(theirs).reshape(table.shape), table, atol=1e-6)
    load_blocks(decoder.blocks, state, "decoder_blocks")
    state = {k: v for k, v in state.items() if not k.startswith("decoder_blocks")}
    assign(decoder, "mask_token", state.pop("mask_token"))
    for theirs, ours in (("decoder_embed", "embed"), ("decoder_pred", "prediction")):
        assign(decoder, f"{ours}.kernel", state.pop(f"{theirs}.weight"))
        assign(decoder, f"{ours}.bias", state.pop(f"{theirs}.bias"))
    assign(decoder, "norm.gamma", state.pop("decoder_norm.weight"))
    assign(decoder, "norm.beta", state.pop("decoder_norm.bias"))
    load_swin(task.backbone, state)
