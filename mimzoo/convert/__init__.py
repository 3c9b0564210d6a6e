"""Checkpoints of other libraries in, and out again.

A layout (`layouts/`, one a file) declares names, transforms, and where missing settings come from.
Its table is read forwards by `convert` and backwards by `export`.
"""

from mimzoo.convert.exporting import export
from mimzoo.convert.importing import convert
from mimzoo.convert.layout import Layout
from mimzoo.convert.registry import all_layouts, detect, get_layout

__all__ = ["Layout", "all_layouts", "convert", "detect", "export", "get_layout"]
