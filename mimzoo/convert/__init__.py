"""Checkpoints of other libraries in, and out again.

A layout (`layouts/`, one a file) is declared: names, transforms, and what its files do not tell.
Its table is read forwards by `convert` and backwards by `export`.
"""

from mimzoo.convert.exporting import export
from mimzoo.convert.importing import convert
from mimzoo.convert.layout import Layout, all_layouts, detect, get_layout

__all__ = ["Layout", "all_layouts", "convert", "detect", "export", "get_layout"]
