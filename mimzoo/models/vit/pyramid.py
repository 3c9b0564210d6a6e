"""A pyramid of the one map of a ViT, without weights."""

import keras

from mimzoo.backend import Tensor


def scaled_maps(last: Tensor, patch_size: int) -> dict[str, Tensor]:
    """Maps of strides 4 pixels to twice the patch, by the names that KerasHub gives them.

    ViTDet (arXiv 2203.16527) makes all levels from the last map; without weights of its own that
    is bilinear up-sampling and average pooling.

    Args:
        last: (B, rows, cols, D).
        patch_size: pixels between its places.

    Returns:
        {"P2": …, …}: "Pn" has a place every 2^n pixels; {} unless the patch size is a power of two
        from 4 on.
    """
    level = patch_size.bit_length() - 1
    if patch_size != 2**level or level < 2:
        return {}
    outputs = {}
    for n in range(2, level + 2):
        if n < level:
            outputs[f"P{n}"] = keras.layers.UpSampling2D(
                2 ** (level - n), interpolation="bilinear", name=f"pyramid_{n}"
            )(last)
        elif n == level:
            outputs[f"P{n}"] = last
        elif min(last.shape[1:3]) > 1:
            outputs[f"P{n}"] = keras.layers.AveragePooling2D(2, name=f"pyramid_{n}")(last)
    return outputs
