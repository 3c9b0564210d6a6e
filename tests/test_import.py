"""`import mimzoo` is light, and prints nothing of its own."""

import re
import subprocess
import sys
from pathlib import Path

import keras

HEAVY = ("torch", "jax", "tensorflow", "matplotlib", "PIL", "tensorflow_datasets", "transformers")
PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"


def loaded(statement: str) -> tuple[set[str], list[str]]:
    """Which heavy libraries a statement imports, and the lines that it prints to stderr."""
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(eval(done.stdout.strip().splitlines()[-1])), done.stderr.splitlines()


def test_nothing_heavy_is_imported_and_only_tensorflow_prints():
    ours, printed = loaded("import mimzoo")
    assert ours <= loaded("import keras_hub")[0]
    if keras.backend.backend() != "tensorflow":
        # The command of the page hides all of it.
        (pattern,) = re.findall(r'grep -vE "(.+?)"', PAGE.read_text(encoding="utf-8"))
        assert [line for line in printed if not re.search(pattern, line)] == []
