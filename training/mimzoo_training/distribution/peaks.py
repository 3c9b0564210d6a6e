"""What a device can do at most: dense bfloat16 products, FLOP a second, from its data sheet."""

# Part of the name that backends give a device -> peak. The first that fits counts.
PEAKS = {
    "H200": 989e12,  # NVIDIA H200 data sheet, half of the figure with sparsity
    "H100 PCIe": 756e12,  # NVIDIA H100 data sheet, likewise
    "H100": 989e12,
    "A100": 312e12,  # NVIDIA A100 data sheet
    "TPU v6 lite": 918e12,  # Cloud TPU documentation, per chip
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
}


def peak(name: str) -> float | None:
    """Of one device; None if it is not known."""
    return next((value for part, value in PEAKS.items() if part.lower() in name.lower()), None)
