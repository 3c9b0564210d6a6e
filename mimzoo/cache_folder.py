"""Where mimzoo keeps what it can make again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of converted checkpoints, shard indexes and files from the web.

    Returns:
        `$MIMZOO_CACHE`, or `mimzoo` in `$XDG_CACHE_HOME` or `~/.cache`. It can be removed at any
        time. Files from the Hub are in the Hub's own cache, see `mimzoo.hub.cache`.
    """
    if own := os.environ.get("MIMZOO_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mimzoo"
