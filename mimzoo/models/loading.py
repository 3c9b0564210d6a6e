"""Loads weights without two things that loading does not need."""

from collections.abc import Iterator
from contextlib import contextmanager

from mimzoo.layers.linear import blank_weights


@contextmanager
def lean_loading() -> Iterator[None]:
    """For building a model whose weights are loaded at once.

    Nothing is drawn that a file replaces (a fifth of the time of loading ViT-B on torch), and Keras
    makes no new layer for each one it loads (another fifth to a quarter).
    """
    _remember_skipped_attributes()
    with blank_weights():
        yield


def _remember_skipped_attributes() -> None:
    # Keras 3.15 keeps what it skips in a layer as "saving_attr_skipset_...", but looks it up as
    # "saving_attr_skiplist_..." (saving_lib.py, get_attr_skipset): so it makes a layer to read the
    # names from, each time. Nothing is lost where another Keras does without.
    try:
        from keras.src.backend.common.global_state import (
            get_global_attribute,
            set_global_attribute,
        )
        from keras.src.saving.saving_lib import get_attr_skipset
    except ImportError:
        return
    for kind in ("Layer", "Functional"):
        name = f"saving_attr_skiplist_{kind}"
        if get_global_attribute(name) is None:
            set_global_attribute(name, get_attr_skipset(kind))
