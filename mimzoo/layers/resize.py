"""Resizing of position tables when weights are loaded at another geometry, and of images.

Tables and matrices are made in numpy, once, and are the same on every backend: their own bicubic
kernels differ.
"""

import numpy as np


def _bicubic_matrix(old: int, new: int, a: float = -0.75) -> np.ndarray:
    """(new, old) weights of 1-D bicubic interpolation, pixel centres aligned, edges repeated."""
    position = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(position).astype(int)
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        d = np.abs(position - (first + tap))
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        weight = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
        np.add.at(matrix, (np.arange(new), np.clip(first + tap, 0, old - 1)), weight)
    return matrix


def resize_position_table(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Bicubic resize of an absolute position table (rows, cols, D) to `grid`.

    The rule of MAE's util/pos_embed.py (`interpolate_pos_embed`), which calls
    `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`.
    """
    if table.shape[:2] == tuple(grid):
        return table
    rows = _bicubic_matrix(table.shape[0], grid[0])
    cols = _bicubic_matrix(table.shape[1], grid[1])
    resized = np.einsum("ri,cj,ijd->rcd", rows, cols, table.astype("float64"))
    return resized.astype(table.dtype)


def _spline_matrix(x: np.ndarray, new_x: np.ndarray) -> np.ndarray:
    """(new, old) matrix of the cubic not-a-knot spline through points at `x`, read at `new_x`."""
    n = len(x)
    if n < 4:  # too few points for a cubic: the polynomial through all of them
        powers = np.arange(n)
        return new_x[:, None] ** powers @ np.linalg.inv(x[:, None] ** powers)
    h = np.diff(x)
    # Second derivatives m solve system @ m = rhs @ y.
    system, rhs = np.zeros((n, n)), np.zeros((n, n))
    for i in range(1, n - 1):
        system[i, i - 1 : i + 2] = h[i - 1], 2 * (h[i - 1] + h[i]), h[i]
        rhs[i, i - 1 : i + 2] = 6 / h[i - 1], -6 / h[i - 1] - 6 / h[i], 6 / h[i]
    system[0, :3] = h[1], -(h[0] + h[1]), h[0]
    system[-1, -3:] = h[-1], -(h[-2] + h[-1]), h[-2]
    m = np.linalg.solve(system, rhs)
    k = np.clip(np.searchsorted(x, new_x) - 1, 0, n - 2)
    right, left, step = x[k + 1] - new_x, new_x - x[k], h[k]
    eye = np.eye(n)
    return (
        (right**3 / (6 * step))[:, None] * m[k]
        + (left**3 / (6 * step))[:, None] * m[k + 1]
        + (right / step)[:, None] * eye[k]
        - (right * step / 6)[:, None] * m[k]
        + (left / step)[:, None] * eye[k + 1]
        - (left * step / 6)[:, None] * m[k + 1]
    )


def _geometric_offsets(old: int, new: int) -> np.ndarray:
    """Offsets -d…0…d of `old` table entries, growing geometrically to span `new` offsets."""
    half, span = old // 2, new // 2
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        if (1 - q**half) / (1 - q) > span:
            high = q
        else:
            low = q
    distances = np.cumsum(q ** np.arange(half))
    return np.concatenate([-distances[::-1], [0.0], distances])


def resize_relative_table(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Resize of a relative-position table (2 rows - 1, 2 cols - 1, heads) to the window `grid`.

    The geometric-progression rule of SimMIM's utils.py (`remap_pretrained_keys_*`): entries near
    offset 0 stay dense, far ones spread out, then a cubic spline is read at the new offsets.
    """
    new = (2 * grid[0] - 1, 2 * grid[1] - 1)
    if table.shape[:2] == new:
        return table
    matrices = []
    for old_side, new_side in zip(table.shape[:2], new, strict=True):
        if old_side == new_side or old_side == 1:
            matrices.append(np.ones((new_side, 1)) if old_side == 1 else np.eye(old_side))
            continue
        offsets = np.arange(new_side) - new_side // 2
        matrices.append(_spline_matrix(_geometric_offsets(old_side, new_side), offsets * 1.0))
    resized = np.einsum("ri,cj,ijh->rch", *matrices, table.astype("float64"))
    return resized.astype(table.dtype)


def resize_offset_table(table: np.ndarray, side: int) -> np.ndarray:
    """Linear resize of a table (2 old side - 1, D) of offsets along one axis to `side` tokens.

    The rule of detectron2's `get_rel_pos` (modeling/backbone/utils.py), which calls
    `torch.nn.functional.interpolate(mode="linear")`.
    """
    old, new = len(table), 2 * side - 1
    if old == new:
        return table
    position = (np.arange(new) + 0.5) * old / new - 0.5
    matrix = np.stack([np.interp(position, np.arange(old), one) for one in np.eye(old)], axis=1)
    return (matrix @ table.astype("float64")).astype(table.dtype)


def image_matrix(old: int, new: int) -> np.ndarray:
    """(new, old) float32 weights of the antialiased bicubic resize of one axis of an image.

    Pillow's rule (src/libImaging/Resample.c, BICUBIC): the cubic of a = -0.5, as wide as an output
    pixel where the image shrinks, cut off at the border and divided by its sum.
    """
    scale = max(old / new, 1.0)
    centre = (np.arange(new) + 0.5) * old / new
    d = np.abs((np.arange(old) + 0.5 - centre[:, None]) / scale)
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * (d**3 - 5 * d**2 + 8 * d - 4)
    weights = np.where(d < 1, near, np.where(d < 2, far, 0.0))
    return (weights / weights.sum(1, keepdims=True)).astype("float32")
