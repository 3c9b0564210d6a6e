"""Weights of reference implementations into ours, by name."""

import numpy as np

BLOCK = {
    "norm1.weight": "norm1.gamma",
    "norm1.bias": "norm1.beta",
    "attn.qkv.weight": "attention.qkv.kernel",
    "attn.qkv.bias": "attention.qkv.bias",
    "attn.proj.weight": "attention.projection.kernel",
    "attn.proj.bias": "attention.projection.bias",
    "norm2.weight": "norm2.gamma",
    "norm2.bias": "norm2.beta",
    "mlp.fc1.weight": "mlp.expand.kernel",
    "mlp.fc1.bias": "mlp.expand.bias",
    "mlp.fc2.weight": "mlp.contract.kernel",
    "mlp.fc2.bias": "mlp.contract.bias",
}


def assign(owner: object, path: str, value: np.ndarray) -> None:
    """Sets the weight at a dotted attribute path; kernels are stored transposed in torch."""
    *parents, name = path.split(".")
    for parent in parents:
        owner = owner[int(parent)] if parent.isdigit() else getattr(owner, parent)
    getattr(owner, name).assign(value.T if name == "kernel" else value)


def load_blocks(blocks: list, state: dict, prefix: str) -> None:
    for i, block in enumerate(blocks):
        for theirs, ours in BLOCK.items():
            assign(block, ours, state[f"{prefix}.{i}.{theirs}"])


def patch_kernel(weight: np.ndarray) -> np.ndarray:
    """A convolution (D, C, p, p) as a matrix on (row, col, channel) patches, transposed."""
    return weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1)


def load_vit(backbone: object, state: dict) -> None:
    """timm's and MAE's names."""
    assign(
        backbone, "patch_embed.projection.kernel", patch_kernel(state["patch_embed.proj.weight"])
    )
    assign(backbone, "patch_embed.projection.bias", state["patch_embed.proj.bias"])
    position = state["pos_embed"]
    backbone.positions.table.assign(position[0, 1:].reshape(*backbone.grid, -1))
    backbone.class_token_layer.token.assign(state["cls_token"] + position[:, :1])
    load_blocks(backbone.blocks, state, "blocks")
    if backbone.norm is not None:
        assign(backbone, "norm.gamma", state["norm.weight"])
        assign(backbone, "norm.beta", state["norm.bias"])


def load_mae(task: object, state: dict) -> None:
    """The official MAE's names."""
    load_vit(task.backbone, state)
    decoder = task.decoder
    for theirs, ours in {
        "decoder_embed.weight": "embed.kernel",
        "decoder_embed.bias": "embed.bias",
        "mask_token": "mask_token",
        "decoder_norm.weight": "norm.gamma",
        "decoder_norm.bias": "norm.beta",
        "decoder_pred.weight": "prediction.kernel",
        "decoder_pred.bias": "prediction.bias",
    }.items():
        assign(decoder, ours, state[theirs])
    position = state["decoder_pos_embed"]
    assert not position[0, 0].any()  # MAE's class row is zero
    decoder.positions.table.assign(position[0, 1:].reshape(*task.backbone.grid, -1))
    load_blocks(decoder.blocks, state, "decoder_blocks")


def from_transformers(state: dict) -> dict:
    """A ViTMAE or ViT state dict of transformers with the official names."""
    renamed = {}
    state = {k.removeprefix("vit."): np.asarray(v) for k, v in state.items()}
    for key, value in state.items():
        key = key.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
        key = key.replace("embeddings.cls_token", "cls_token")
        key = key.replace("embeddings.position_embeddings", "pos_embed")
        key = key.replace("decoder.decoder_layers", "decoder_blocks")
        key = key.replace("encoder.layer.", "blocks.").replace("layers.", "blocks.")
        key = key.replace("decoder.decoder_", "decoder_").replace(
            "decoder.mask_token", "mask_token"
        )
        key = key.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
        key = key.replace("attention.output.dense", "attn.proj").replace(
            "attention.o_proj", "attn.proj"
        )
        key = key.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2")
        key = key.replace("layernorm.", "norm.")
        for q, name in enumerate(("query", "key", "value")):
            key = key.replace(f"attention.attention.{name}", f"attn.{q}")
            key = key.replace(f"attention.{name[0]}_proj", f"attn.{q}")
        renamed[key] = value
    for key in [k for k in renamed if ".attn.0." in k]:
        parts = [renamed.pop(key.replace(".attn.0.", f".attn.{q}.")) for q in range(3)]
        renamed[key.replace(".attn.0.", ".attn.qkv.")] = np.concatenate(parts)
    return renamed
