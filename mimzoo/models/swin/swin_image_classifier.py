"""Image classification on SwinBackbone and SwinV2Backbone."""

import keras

from mimzoo.models.image_classifier import ImageClassifier, ImageClassifierPreprocessor
from mimzoo.models.preprocessing import ImageConverter
from mimzoo.models.swin.swin_backbone import SwinBackbone
from mimzoo.models.swin.swin_v2_backbone import SwinV2Backbone


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinImageConverter(ImageConverter):
    """ImageConverter of Swin presets."""

    backbone_cls = SwinBackbone


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinImageClassifierPreprocessor(ImageClassifierPreprocessor):
    """ImageClassifierPreprocessor of Swin presets."""

    backbone_cls = SwinBackbone
    image_converter_cls = SwinImageConverter


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinImageClassifier(ImageClassifier):
    """ImageClassifier on a SwinBackbone; see there for the arguments."""

    backbone_cls = SwinBackbone
    preprocessor_cls = SwinImageClassifierPreprocessor


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinV2ImageConverter(ImageConverter):
    """ImageConverter of Swin V2 presets."""

    backbone_cls = SwinV2Backbone


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinV2ImageClassifierPreprocessor(ImageClassifierPreprocessor):
    """ImageClassifierPreprocessor of Swin V2 presets."""

    backbone_cls = SwinV2Backbone
    image_converter_cls = SwinV2ImageConverter


@keras.saving.register_keras_serializable(package="mimzoo")
class SwinV2ImageClassifier(ImageClassifier):
    """ImageClassifier on a SwinV2Backbone; see there for the arguments."""

    backbone_cls = SwinV2Backbone
    preprocessor_cls = SwinV2ImageClassifierPreprocessor
