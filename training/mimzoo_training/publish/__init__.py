"""`mimzoo publish`: presets onto the Hub, verified and read back."""

from mimzoo_training.publish.command import publish

__all__ = ["publish"]
