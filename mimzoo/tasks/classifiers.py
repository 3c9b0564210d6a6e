"""The classifiers of mimzoo's backbones."""

from mimzoo.models.mixmim import MixMIMBackbone
from mimzoo.models.swin import SwinBackbone, SwinV2Backbone
from mimzoo.models.vit import ViTBackbone
from mimzoo.tasks.image_classifier import make_classifier

ViTImageClassifier = make_classifier(ViTBackbone, __name__)
SwinImageClassifier = make_classifier(SwinBackbone, __name__)
SwinV2ImageClassifier = make_classifier(SwinV2Backbone, __name__)
MixMIMImageClassifier = make_classifier(MixMIMBackbone, __name__)
