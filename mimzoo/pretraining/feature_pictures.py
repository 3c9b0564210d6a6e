"""Features as colours."""

import numpy as np


def principal_colours(features: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Colours of `shown` along the first three principal components of `features`.

    Args:
        features: (B, N, D), of which the components and the range of colours are.
        shown: (B, N, D).

    Returns:
        (B, N, 3) float32 in 0..1; the 2nd to 98th percentile of `features` spans 0 to 1. Where
        D < 3 the last colours are 0.
    """
    flat = features.reshape(-1, features.shape[-1]).astype("float64")
    mean = flat.mean(0)
    _, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean))
    axes = vectors[:, ::-1][:, :3]
    # An eigenvector has no sign of its own.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    low, high = np.percentile((flat - mean) @ axes, [2, 98], axis=0)
    colours = ((shown.astype("float64") - mean) @ axes - low) / np.maximum(high - low, 1e-12)
    colours = np.clip(colours, 0, 1).astype("float32")
    return np.pad(colours, ((0, 0), (0, 0), (0, 3 - colours.shape[-1])))
