"""Which blocks of a ViT attend inside windows, and what that needs."""

from collections.abc import Sequence


def block_windows(
    depth: int,
    window_size: int | None,
    global_blocks: Sequence[int] | None,
    class_token: bool,
    relative_position_bias: str,
) -> list[int | None]:
    """Side of the windows of each block; None: the block attends to all tokens.

    Args:
        depth: number of blocks.
        window_size: side of a window in tokens, or None for no windows.
        global_blocks: blocks without windows, counted from 0; None: the last of each quarter, as
            ViTDet has for all sizes (detectron2 projects/ViTDet: 2, 5, 8 and 11 of 12).
        class_token: of the backbone; has to be False.
        relative_position_bias: of the backbone; not "shared", as tables differ in size.

    Raises:
        ValueError: what windows do not go with, or a block that does not exist.
    """
    if window_size is None:
        if global_blocks is not None:
            raise ValueError(
                "global_attention_blocks names the blocks without windows: give window_size, too."
            )
        return [None] * depth
    if window_size < 1:
        raise ValueError(f"window_size must be a positive number of tokens, got {window_size}.")
    if class_token:
        raise ValueError(
            "windows have no place for a class token: give class_token=False with window_size; "
            "ViTDet leaves it out, too."
        )
    if relative_position_bias == "shared":
        raise ValueError(
            'relative_position_bias="shared" is one table for all blocks, and blocks with windows '
            'need another size: give relative_position_bias="per_block".'
        )
    if global_blocks is None:
        global_blocks = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    elif not all(0 <= block < depth for block in global_blocks):
        raise ValueError(
            f"global_attention_blocks {tuple(global_blocks)} must lie in 0..{depth - 1}: there are "
            f"{depth} blocks."
        )
    return [None if block in global_blocks else window_size for block in range(depth)]
