"""From one position bias for all blocks to one in each."""

from typing import Any

from keras import ops


def with_own_biases(cls: type, folder: str, changes: dict) -> Any:
    """A preset with one position bias for all blocks, as a backbone whose blocks each have it.

    Args:
        cls: ViTBackbone or a subclass.
        folder: of the preset.
        changes: arguments that differ from the preset's.
    """
    name = "relative_position_bias"
    names = ("window_size", "global_attention_blocks")
    windows = {k: v for k, v in changes.items() if k in names}
    others = {k: v for k, v in changes.items() if k not in names}
    shared = cls.from_preset(folder, **{**others, name: "shared"})
    own = cls.from_config({**shared.get_config(), name: "per_block", **windows})
    table = shared.shared_bias
    moved = {id(v) for v in table.weights}
    biases = [block.attention.relative_position_bias for block in own.blocks]
    new = {id(v) for bias in biases for v in bias.weights}
    rest = [v for v in own.weights if id(v) not in new]
    old = [v for v in shared.weights if id(v) not in moved]
    for target, source in zip(rest, old, strict=True):
        target.assign(source)
    for bias in biases:
        values = map(ops.convert_to_numpy, table.weights)
        bias.load_own_variables({str(n): value for n, value in enumerate(values)})
    return own
