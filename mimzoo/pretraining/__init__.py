"""MIM pretraining: backbone + masking + decoder + target, one method a file."""

from mimzoo.pretraining.decoders import LinearDecoder, MAEDecoder, MixMIMDecoder
from mimzoo.pretraining.mae import MAE
from mimzoo.pretraining.masking import RandomMasking
from mimzoo.pretraining.mix_masking import MixMasking
from mimzoo.pretraining.mixmim import MixMIM
from mimzoo.pretraining.simmim import SimMIM
from mimzoo.pretraining.targets import PixelTarget, SlidingWindowTarget
from mimzoo.pretraining.task import MIMTask

__all__ = [
    "MAE",
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
]
