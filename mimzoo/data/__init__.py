"""Sources, transforms and the loader: everything between files and `fit`.

Importing this package is cheap: PIL, grain and Keras are loaded when a name is first used.
"""

from mimzoo.lazy import on_demand

_HOMES = {
    "ArraySource": "sources",
    "BoxSource": "boxes",
    "BoxedPictures": "boxed_pictures",
    "Compose": "transform",
    "IMAGENET_MEAN": "normalize",
    "IMAGENET_STD": "normalize",
    "ImageError": "images",
    "KerasAugment": "augment",
    "LabelMapSource": "label_maps",
    "LabelledPictures": "label_maps",
    "Loader": "loader",
    "Normalize": "normalize",
    "Objects": "objects",
    "OneOf": "augment",
    "Photometric": "label_transforms",
    "RandomCropPad": "transforms",
    "RandomFlip": "transforms",
    "RandomResizedCrop": "transforms",
    "RandomScaleCrop": "label_transforms",
    "ResizeCrop": "transforms",
    "ResizePad": "box_transforms",
    "ScaleJitter": "box_transforms",
    "Source": "sources",
    "Subset": "subsets",
    "check_labels": "sources",
    "decode_image": "images",
    "finetune_augment": "augment",
    "match_classes": "classes",
    "named_subset": "named_subsets",
    "open_boxes": "box_files",
    "open_label_maps": "label_map_files",
    "open_source": "opening",
    "read_scores": "named_subsets",
    "rand_augment": "augment",
    "take_subset": "subsets",
    "to_rgb": "images",
}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = on_demand(__name__, _HOMES)
