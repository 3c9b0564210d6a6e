"""Short names of methods, backbones, data sets and lengths, in words for people and the Hub."""

import re
from typing import NamedTuple

METHODS = {
    "mae": "MAE",
    "mae-clip": "MAE towards CLIP's features",
    "mae-features": "MAE towards the features of another preset",
    "mae-hog": "MAE towards histograms of oriented gradients",
    "mae-pixels": "MAE towards pixels, not normalised",
    "simmim": "SimMIM",
    "mixmim": "MixMIM",
}
BACKBONES = {"vit": "ViT", "swin": "Swin", "swinv2": "Swin V2", "mixmim": "MixMIM's backbone"}
TARGETS = {
    "PixelTarget": "pixels",
    "SlidingWindowTarget": "pixels normalised by a window around each",
    "HOGTarget": "histograms of oriented gradients",
    "FeatureTarget": "the features of a frozen teacher",
}


class Data(NamedTuple):
    """A data set: in words, its own name, and its identifier on the Hub, if it is there."""

    words: str
    name: str
    hub_id: str | None


_IN1K = ("ImageNet-1K", "imagenet-1k")
_COYO = ("COYO-700M", "kakaobrain/coyo-700m")
DATA = {
    "in1k": Data("ImageNet-1K", *_IN1K),
    **{f"in1k{p}": Data(f"{p} % of ImageNet-1K's images", *_IN1K) for p in (10, 20, 50)},
    "in22k": Data("ImageNet-22K", "ImageNet-22K", None),
    "fmnist": Data("Fashion-MNIST", "Fashion-MNIST", "fashion_mnist"),
    "cifar10": Data("CIFAR-10", "CIFAR-10", "uoft-cs/cifar10"),
    "coyo500k": Data("500,000 images of COYO-700M", *_COYO),
    **{f"coyo{m}m": Data(f"{m} million images of COYO-700M", *_COYO) for m in (1, 5, 10, 100)},
}


def data_set(short: str) -> Data:
    """A data set by the short name that presets and recipes have: "fmnist", "fmnist-1pct"."""
    whole, part, amount = short.rpartition("-")
    if part and (found := re.fullmatch(r"([\d.]+)(pct|img)", amount)):
        of = data_set(whole)
        part = f"{found[1]} %" if found[2] == "pct" else f"{int(found[1]):,}"
        return of._replace(words=f"{part} of {of.words}'s images")
    return DATA.get(short, Data(short, short, None))


def measured_on(text: str) -> tuple[Data, str | None]:
    """Data set and split of a result's "on", such as "fashion_mnist test (10000 images)"."""
    name, _, rest = text.partition(" ")
    split = rest.split(" ")[0] if rest and not rest.startswith("(") else None
    if name in ("fashion_mnist", "embedded"):
        return DATA["fmnist"], split
    if name.endswith("imagenet2012"):
        return DATA["in1k"], split
    return data_set(name), split


def length(short: str) -> str:
    """ "125k" -> "125,000 steps"."""
    found = re.fullmatch(r"([\d.e]+)(ep|it|k|img)", short)
    if not found:
        return short
    number, unit = float(found[1]), found[2]
    words = {"ep": "epochs", "it": "steps", "k": "steps", "img": "images"}[unit]
    number *= 1000 if unit == "k" else 1
    return f"{number:,.0f} {words if number != 1 else words[:-1]}"


def count(number: int) -> str:
    """86890000 -> "86.9 million"."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return str(number)
