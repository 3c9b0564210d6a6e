"""`import mimzoo` is light."""

import subprocess
import sys

HEAVY = ("torch", "jax", "tensorflow", "matplotlib", "PIL", "tensorflow_datasets", "transformers")


def loaded(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    return set(eval(done.stdout.strip().splitlines()[-1]))


def test_nothing_heavy_is_imported_by_us():
    assert loaded("import mimzoo") <= loaded("import keras_hub")
