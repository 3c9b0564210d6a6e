"""Which levels of a pyramid a detector looks at. Level n has a place every 2^n pixels."""

from mimzoo.models.backbone import Backbone
from mimzoo.models.vit import ViTBackbone
from mimzoo.tasks.detection.anchors import SIZE

LEVELS = 5  # RetinaNet's: P3 to P7 for patches of 16 pixels, or of 4 in a backbone with stages


def given_levels(backbone: Backbone) -> range:
    """Those that a backbone gives: its stages; of a ViT x4 to x0.5 of its map, as in ViTDet.

    Raises:
        ValueError: the patch size is no power of two.
    """
    finest = backbone.patch_size.bit_length() - 1
    if backbone.patch_size != 2**finest:
        raise ValueError(
            f"a {type(backbone).__name__} with patch_size {backbone.patch_size} gives no pyramid: "
            "take a patch size that is a power of two."
        )
    if isinstance(backbone, ViTBackbone):
        return range(max(0, finest - 2), finest + 2)
    return range(finest, finest + len(backbone.depths))


def chosen_levels(backbone: Backbone, min_level: int | None, max_level: int | None) -> range:
    """The levels of a detector.

    Args:
        backbone: what gives the first ones.
        min_level: default: the second that the backbone gives.
        max_level: default: four more, but none whose anchors are larger than the image (ours).

    Raises:
        ValueError: a first level that the backbone does not give, or a last one before it.
    """
    given = given_levels(backbone)
    if min_level is None:
        min_level = given[min(1, len(given) - 1)]
    if min_level not in given:
        raise ValueError(
            f"min_level must lie in {given[0]}..{given[-1]}, the levels that the backbone gives, "
            f"got {min_level}."
        )
    if max_level is None:
        fitting = (max(backbone.image_shape[:2]) // SIZE).bit_length() - 1
        max_level = max(min_level, min(min_level + LEVELS - 1, fitting))
    if max_level < min_level:
        raise ValueError(f"max_level {max_level} must not be below min_level {min_level}.")
    return range(min_level, max_level + 1)
