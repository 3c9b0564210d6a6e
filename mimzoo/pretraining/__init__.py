"""MIM pretraining: backbone + masking + decoder + target, one method a file."""

from mimzoo.pretraining.data2vec import (
    ConvDecoder,
    Data2Vec,
    Data2VecBackbone,
    Data2VecImageClassifier,
    Data2VecTarget,
    InverseBlockMasking,
)
from mimzoo.pretraining.decoders import LinearDecoder, MAEDecoder, MixMIMDecoder
from mimzoo.pretraining.ema import EMA, Teacher
from mimzoo.pretraining.features import FeatureTarget
from mimzoo.pretraining.hog import HOGTarget
from mimzoo.pretraining.mae import MAE
from mimzoo.pretraining.masking import RandomMasking
from mimzoo.pretraining.mix_masking import MixMasking
from mimzoo.pretraining.mixmim import MixMIM
from mimzoo.pretraining.simmim import SimMIM
from mimzoo.pretraining.targets import PixelTarget, SlidingWindowTarget, Target
from mimzoo.pretraining.task import MIMTask

__all__ = [
    "EMA",
    "MAE",
    "ConvDecoder",
    "Data2Vec",
    "Data2VecBackbone",
    "Data2VecImageClassifier",
    "Data2VecTarget",
    "FeatureTarget",
    "HOGTarget",
    "InverseBlockMasking",
    "LinearDecoder",
    "MAEDecoder",
    "MIMTask",
    "MixMIM",
    "MixMIMDecoder",
    "MixMasking",
    "PixelTarget",
    "RandomMasking",
    "SimMIM",
    "SlidingWindowTarget",
    "Target",
    "Teacher",
]
