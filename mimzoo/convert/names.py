"""Names of tensors. Defaults are those of the official MAE, SimMIM and Swin code."""

from dataclasses import dataclass
from typing import Any

from mimzoo.convert.table import Row, linear, norm, row
from mimzoo.convert.transforms import Joined, JoinedKernel, RelativeTable, Transposed


@dataclass(frozen=True)
class BlockNames:
    """Names inside a transformer block.

    Attributes:
        qkv: of one projection, or of three: queries, keys, values.
        network: of Swin V2's position bias.
        extra_norm: LayerNorm after a block of Swin V2 (the authors' code for depth estimation,
            SwinTransformer/MIM-Depth-Estimation models/swin_transformer_v2.py).
        row_positions, column_positions: tables of decomposed relative positions; "": none.
    """

    norm1: str = "norm1"
    norm2: str = "norm2"
    qkv: str | tuple[str, str, str] = "attn.qkv"
    query_bias: str = "attn.q_bias"
    value_bias: str = "attn.v_bias"
    projection: str = "attn.proj"
    table: str = "attn.relative_position_bias_table"
    logit_scale: str = "attn.logit_scale"
    network: str = "attn.cpb_mlp"
    fc1: str = "mlp.fc1"
    fc2: str = "mlp.fc2"
    scale1: str = "gamma_1"
    scale2: str = "gamma_2"
    extra_norm: str = "enorm"
    row_positions: str = ""
    column_positions: str = ""

    @property
    def first_projection(self) -> str:
        """Of queries, or of queries, keys and values."""
        return self.qkv if isinstance(self.qkv, str) else self.qkv[0]


@dataclass(frozen=True)
class ViTNames:
    """Names of a ViT. `prefix` stands before all of the encoder's; "" as `class_token`: none."""

    prefix: str = ""
    patch: str = "patch_embed.proj"
    class_token: str = "cls_token"
    positions: str = "pos_embed"
    shared_table: str = "rel_pos_bias.relative_position_bias_table"
    block: str = "blocks.{}"
    inside: BlockNames = BlockNames()
    norm: str = "norm"
    mask_token: str = "mask_token"
    head: str = "head"
    head_norm: str = "fc_norm"
    pixels: str = "decoder.0"
    decoder: "DecoderNames | None" = None
    segmenter: "UPerNetNames | None" = None


@dataclass(frozen=True)
class DecoderNames:
    """Names of MAE's and MixMIM's decoder."""

    embed: str = "decoder_embed"
    positions: str = "decoder_pos_embed"
    mask_token: str = "mask_token"
    block: str = "decoder_blocks.{}"
    inside: BlockNames = BlockNames()
    norm: str = "decoder_norm"
    prediction: str = "decoder_pred"


@dataclass(frozen=True)
class UPerNetNames:
    """Names of UPerNet's tensors; defaults are mmsegmentation's.

    Attributes:
        decode: of the head (mmseg/models/decode_heads/uper_head.py).
        auxiliary: of the auxiliary head (fcn_head.py).
        upsampling: of the transposed convolutions of a ViT's maps, by the power of two
            (mmseg/models/necks/featurepyramid.py).
        stage_norm: of the norm of a stage's map (mmseg/models/backbones/swin.py).
    """

    decode: str = "decode_head"
    auxiliary: str = "auxiliary_head"
    upsampling: tuple[str, str] = ("neck.upsample_2x", "neck.upsample_4x")
    stage_norm: str = "backbone.norm{}"


@dataclass(frozen=True)
class SwinNames:
    """Names of a Swin, Swin V2 or MixMIM. `prefix` stands before all of the encoder's.

    Attributes:
        merging_stage: which stage the merging after stage s is filed under: s + this.
        unfolded_merging: whether mergings are in mmcv's order.
    """

    prefix: str = ""
    patch: str = "patch_embed.proj"
    patch_norm: str = "patch_embed.norm"
    positions: str = "absolute_pos_embed"
    block: str = "layers.{}.blocks.{}"
    inside: BlockNames = BlockNames()
    merging: str = "layers.{}.downsample"
    merging_stage: int = 0
    unfolded_merging: bool = False
    norm: str = "norm"
    mask_token: str = "mask_token"
    head: str = "head"
    head_norm: str = "fc_norm"
    pixels: str = "decoder.0"
    decoder: DecoderNames | None = None
    segmenter: UPerNetNames | None = None


def block_rows(names: BlockNames, theirs: str, ours: str, block: Any) -> list[Row]:
    """The table of one transformer block of any family.

    Args:
        names: inside the block.
        theirs: name of the block in the file.
        ours: its path.
        block: ours.
    """
    at = {k: f"{theirs}.{v}" for k, v in vars(names).items() if isinstance(v, str)}
    rows = norm(at["norm1"], f"{ours}.norm1") + norm(at["norm2"], f"{ours}.norm2")
    rows += _attention(names, theirs, f"{ours}.attention", block.attention.qkv_bias)
    rows += linear(at["projection"], f"{ours}.attention.projection")
    rows += linear(at["fc1"], f"{ours}.mlp.expand") + linear(at["fc2"], f"{ours}.mlp.contract")
    if getattr(block, "layer_scale_init", None) is not None:
        rows += [row(at["scale1"], f"{ours}.scale1"), row(at["scale2"], f"{ours}.scale2")]
    return rows


def _attention(names: BlockNames, theirs: str, ours: str, biases: str) -> list[Row]:
    fused = isinstance(names.qkv, str)
    parts = [f"{theirs}.{n}" for n in ([names.qkv] if fused else names.qkv)]
    kernels = [f"{part}.weight" for part in parts]
    rows = [row(kernels, f"{ours}.qkv.kernel", Transposed() if fused else JoinedKernel())]
    if biases == "qkv":
        names_of_biases = [f"{part}.bias" for part in parts]
        rows += [row(names_of_biases, f"{ours}.qkv.bias", None if fused else Joined())]
    elif biases == "qv":
        query = f"{theirs}.{names.query_bias}" if fused else f"{parts[0]}.bias"
        value = f"{theirs}.{names.value_bias}" if fused else f"{parts[2]}.bias"
        rows += [row(query, f"{ours}.query_bias"), row(value, f"{ours}.value_bias")]
    return rows


def table_row(theirs: str, ours: str, bias: Any) -> Row:
    """The table of a RelativePositionBias, with the class token's rows if it has them."""
    paths = [f"{ours}.table"] + [f"{ours}.class_table"] * bias.class_token
    return row(theirs, paths, RelativeTable(bias.grid, bias.class_token))
