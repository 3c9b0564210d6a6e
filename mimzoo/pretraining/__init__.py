"""MIM pretraining: backbone + masking + decoder + target, one method a file."""

from mimzoo.pretraining.decoders import MAEDecoder
from mimzoo.pretraining.mae import MAE
from mimzoo.pretraining.masking import RandomMasking
from mimzoo.pretraining.targets import PixelTarget
from mimzoo.pretraining.task import MIMTask

__all__ = ["MAE", "MAEDecoder", "MIMTask", "PixelTarget", "RandomMasking"]
