"""The version of mimzoo."""

__version__ = "0.1.0"
