"""Image classification on ViTBackbone."""

import keras

from mimzoo.models.image_classifier import ImageClassifier, ImageClassifierPreprocessor
from mimzoo.models.preprocessing import ImageConverter
from mimzoo.models.vit.vit_backbone import ViTBackbone


@keras.saving.register_keras_serializable(package="mimzoo")
class ViTImageConverter(ImageConverter):
    """ImageConverter of ViT presets."""

    backbone_cls = ViTBackbone


@keras.saving.register_keras_serializable(package="mimzoo")
class ViTImageClassifierPreprocessor(ImageClassifierPreprocessor):
    """ImageClassifierPreprocessor of ViT presets."""

    backbone_cls = ViTBackbone
    image_converter_cls = ViTImageConverter


@keras.saving.register_keras_serializable(package="mimzoo")
class ViTImageClassifier(ImageClassifier):
    """ImageClassifier on a ViTBackbone; see there for the arguments."""

    backbone_cls = ViTBackbone
    preprocessor_cls = ViTImageClassifierPreprocessor
