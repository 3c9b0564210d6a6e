"""Images in folders, and what a command says, for the tests of commands."""

import numpy as np
import pytest
from mimzoo_training import cli
from PIL import Image

RECIPE = "vit_nano_mae_fmnist_20ep"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 40 images of 28 px in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = random.integers(0, 120, (28, 28, 3)) + 120 * (number % 2)
        Image.fromarray(pixels.astype("uint8")).save(path)
    return folder


def says(capsys, *arguments, code=1):
    """Runs a command that has to fail, and returns what it says: one line, no traceback."""
    assert cli.main([str(a) for a in arguments]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mimzoo: ")
    return lines[0]
