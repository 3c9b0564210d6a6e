"""MixMIM written down once more, in numpy, with loops: slow, plain, and nobody's code.

One stage, no shift: enough to say what mixing, attention within one image and the dual loss are.
It takes one image of a pair and one window at a time and never adds a mask to anything: tokens of
the other image are left out of the sums.
"""

from math import erf, sqrt

import numpy as np
from keras import ops


def numbers(variable: object) -> np.ndarray:
    return np.float64(ops.convert_to_numpy(variable))


def layer_norm(x: np.ndarray, layer: object) -> np.ndarray:
    deviation = np.sqrt(x.var(-1, keepdims=True) + layer.epsilon)
    return (x - x.mean(-1, keepdims=True)) / deviation * numbers(layer.gamma) + numbers(layer.beta)


def linear(x: np.ndarray, layer: object) -> np.ndarray:
    y = x @ numbers(layer.kernel)
    return y if layer.bias is None else y + numbers(layer.bias)


def mlp(x: np.ndarray, layer: object) -> np.ndarray:
    x = linear(x, layer.expand)
    return linear(x * 0.5 * (1 + np.vectorize(erf)(x / sqrt(2))), layer.contract)


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def attention(x: np.ndarray, layer: object, bias: np.ndarray | None, groups: list) -> np.ndarray:
    """Tokens (T, D) of one image, attending within each group of tokens only."""
    heads = layer.num_heads
    dim = x.shape[-1] // heads
    query, key, value = np.split(linear(x, layer.qkv), 3, axis=-1)
    out = np.zeros_like(x)
    for group in groups:
        for head in range(heads):
            part = slice(head * dim, (head + 1) * dim)
            logits = query[group, part] @ key[group, part].T / sqrt(dim)
            if bias is not None:
                logits = logits + bias[head][np.ix_(group, group)]
            out[group, part] = softmax(logits) @ value[group, part]
    return linear(out, layer.projection)


def offsets_bias(layer: object, rows: int, cols: int) -> np.ndarray:
    """(heads, T, T) over a whole grid; entries between windows are never read."""
    table, size = numbers(layer.position_bias.table), layer.windows.size
    place = [(i, j) for i in range(rows) for j in range(cols)]
    bias = np.zeros((layer.num_heads, len(place), len(place)))
    for a, (i, j) in enumerate(place):
        for b, (k, m) in enumerate(place):
            if i // size == k // size and j // size == m // size:
                bias[:, a, b] = table[i - k + size - 1, j - m + size - 1]
    return bias


def encode(tokens: np.ndarray, backbone: object, source: np.ndarray) -> np.ndarray:
    """One mixture (N, D) through a backbone of one stage."""
    rows, cols = backbone.grid
    x = tokens + numbers(backbone.positions.table).reshape(rows * cols, -1)
    for block in backbone.stages[0]:
        size = block.attention.windows.size
        groups = {}
        for t in range(rows * cols):
            window = (t // cols // size, t % cols // size)
            groups.setdefault((*window, int(source[t])), []).append(t)
        bias = offsets_bias(block.attention, rows, cols)
        groups = [np.array(g) for g in groups.values()]
        x = x + attention(layer_norm(x, block.norm1), block.attention, bias, groups)
        x = x + mlp(layer_norm(x, block.norm2), block.mlp)
    return layer_norm(x, backbone.norm)


def decode(x: np.ndarray, decoder: object, hidden: np.ndarray) -> np.ndarray:
    x = linear(x, decoder.embed)
    x = np.where(hidden[:, None], numbers(decoder.mask_token)[0], x)
    x = x + numbers(decoder.positions.table).reshape(len(x), -1)
    everything = [np.arange(len(x))]
    for block in decoder.blocks:
        x = x + attention(layer_norm(x, block.norm1), block.attention, None, everything)
        x = x + mlp(layer_norm(x, block.norm2), block.mlp)
    return linear(layer_norm(x, decoder.norm), decoder.prediction)


def patches(image: np.ndarray, size: int) -> np.ndarray:
    rows, cols = image.shape[0] // size, image.shape[1] // size
    return np.stack(
        [
            image[i * size : (i + 1) * size, j * size : (j + 1) * size].reshape(-1)
            for i in range(rows)
            for j in range(cols)
        ]
    )


def loss(task: object, images: np.ndarray, masks: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss of a batch, and how often each patch (B, N) of it was supervised."""
    backbone, images = task.backbone, np.float64(images)
    size = backbone.patch_size
    embedded = [
        layer_norm(
            linear(patches(image, size), backbone.patch_embed.projection), backbone.patch_norm
        )
        for image in images
    ]
    errors, count = [], np.zeros(masks.shape, int)
    for mixture in range(len(images)):
        other = mixture + 1 if mixture % 2 == 0 else mixture - 1
        shows_other = masks[mixture] > 0
        mixed = np.where(shows_other[:, None], embedded[other], embedded[mixture])
        features = encode(mixed, backbone, shows_other)
        # The mixture's own image where the other is shown, and the other way round.
        for image, hidden in ((mixture, shows_other), (other, ~shows_other)):
            prediction = decode(features, task.decoder, hidden)
            target = patches(images[image], size)
            deviation = np.sqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)
            target = (target - target.mean(-1, keepdims=True)) / deviation
            errors.append(np.square(prediction - target).mean(-1)[hidden])
            count[image] += hidden
    return float(np.concatenate(errors).mean()), count
