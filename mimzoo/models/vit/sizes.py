"""The named sizes of a ViT."""

# embed_dim, depth, num_heads, patch_size. Ti and S: DeiT (arXiv 2012.12877); B, L, H: MAE
# (models_mae.py); nano: ours, for 28 px images.
VIT_SIZES = {
    "nano": (128, 6, 4, 4),
    "tiny": (192, 12, 3, 16),
    "small": (384, 12, 6, 16),
    "base": (768, 12, 12, 16),
    "large": (1024, 24, 16, 16),
    "huge": (1280, 32, 16, 14),
}


def vit_size(size: str) -> dict:
    """`embed_dim`, `depth`, `num_heads`, `patch_size` of nano, tiny, small, base, large, huge.

    Raises:
        ValueError: an unknown size.
    """
    if size not in VIT_SIZES:
        raise ValueError(f"unknown ViT size {size!r}: choose one of {', '.join(VIT_SIZES)}.")
    return dict(
        zip(("embed_dim", "depth", "num_heads", "patch_size"), VIT_SIZES[size], strict=True)
    )
