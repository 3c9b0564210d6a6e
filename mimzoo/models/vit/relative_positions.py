"""Kinds of relative positions of a ViT: what they do not go with, and from one kind to another."""

from typing import Any

from keras import ops

OPTION = "relative_position_bias"
RELATIVE_BIASES = ("none", "shared", "per_block", "decomposed")


def check_class_token(kind: str, class_token: bool) -> None:
    """Raises ValueError for decomposed positions with a class token."""
    if kind == "decomposed" and class_token:
        raise ValueError(
            f'{OPTION}="decomposed" has no place for a class token: give class_token=False with '
            "it; ViTDet leaves it out, too."
        )


def check_all_tokens(kind: str, window_size: int | None) -> None:
    """Raises ValueError where blocks need all tokens of an image, and some were dropped."""
    if window_size is not None or kind == "decomposed":
        option = f'{OPTION}="decomposed"' if window_size is None else "window_size"
        raise ValueError(
            f"with {option}, blocks need all tokens of an image: pretrain without it, and load the "
            "weights with it afterwards."
        )


def with_other_positions(cls: type, folder: str, stored: dict, changes: dict) -> Any:
    """A preset as a backbone with another kind of relative positions.

    New tables start at zero; "shared" becomes "per_block" as in SimMIM's fine-tuning (utils.py).

    Args:
        cls: ViTBackbone or a subclass.
        folder: of the preset.
        stored: the preset's configuration.
        changes: arguments that differ from it.

    Returns:
        The backbone, or None where the kind stays.

    Raises:
        ValueError: trained tables that the new kind cannot take.
    """
    old = stored.get(OPTION, "none")
    new = changes.get(OPTION, old)
    if old == new or new not in RELATIVE_BIASES:
        return None
    if old != "none" and (old, new) != ("shared", "per_block"):
        raise ValueError(
            f"the preset was trained with {OPTION}={old!r}, whose tables {new!r} cannot take: "
            f"load it with {OPTION}={old!r}."
        )
    windows = ("window_size", "global_attention_blocks")
    rest = {name: value for name, value in changes.items() if name not in windows}
    source = cls.from_preset(folder, **{**rest, OPTION: old})
    made = cls.from_config({**source.get_config(), **changes})
    tables = [source.shared_bias, made.shared_bias] + [
        part
        for block in made.blocks
        for part in (block.attention.relative_position_bias, block.attention.relative_positions)
    ]
    skipped = {id(weight) for part in tables if part is not None for weight in part.weights}
    targets, sources = (
        [weight for weight in model.weights if id(weight) not in skipped]
        for model in (made, source)
    )
    for target, weight in zip(targets, sources, strict=True):
        target.assign(weight)
    if old == "shared":
        values = map(ops.convert_to_numpy, source.shared_bias.weights)
        store = {str(number): value for number, value in enumerate(values)}
        for block in made.blocks:
            block.attention.relative_position_bias.load_own_variables(store)
    return made
