"""Image classification on MixMIMBackbone."""

import keras

from mimzoo.models.image_classifier import ImageClassifier, ImageClassifierPreprocessor
from mimzoo.models.mixmim.mixmim_backbone import MixMIMBackbone
from mimzoo.models.preprocessing import ImageConverter


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMIMImageConverter(ImageConverter):
    """ImageConverter of MixMIM presets."""

    backbone_cls = MixMIMBackbone


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMIMImageClassifierPreprocessor(ImageClassifierPreprocessor):
    """ImageClassifierPreprocessor of MixMIM presets."""

    backbone_cls = MixMIMBackbone
    image_converter_cls = MixMIMImageConverter


@keras.saving.register_keras_serializable(package="mimzoo")
class MixMIMImageClassifier(ImageClassifier):
    """ImageClassifier on a MixMIMBackbone; see there for the arguments."""

    backbone_cls = MixMIMBackbone
    preprocessor_cls = MixMIMImageClassifierPreprocessor
