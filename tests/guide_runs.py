"""Runs a guide in a process of its own: tests/test_learning_guides.py."""

import contextlib
import io
import os
import runpy


def run_guide(path: str, folder: str) -> str:
    """What a guide prints when it is run in a folder."""
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(path, run_name="__main__")
    return printed.getvalue()
