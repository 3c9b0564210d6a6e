"""`import mimzoo` is light, and its parts import what lies below them only."""

import ast
import subprocess
import sys
from pathlib import Path

MIMZOO = Path(__file__).parent.parent / "mimzoo"
HEAVY = ("torch", "jax", "tensorflow", "matplotlib", "PIL", "tensorflow_datasets", "transformers")


def loaded(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    return set(eval(done.stdout.strip().splitlines()[-1]))


def test_nothing_heavy_is_imported_by_us():
    assert loaded("import mimzoo") <= loaded("import keras_hub")


def imports_of(folder: str) -> set[tuple[str, str]]:
    """(file, module of mimzoo that it imports) of a part of the library."""
    return {
        (path.name, module)
        for path in (MIMZOO / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if module.startswith("mimzoo.")
    }


def test_arrows_point_one_way():
    for folder, below in {
        "backend": ["backend"],
        "layers": ["backend", "layers"],
        "models": ["backend", "data", "layers", "models", "hub"],
        "models/vit": ["backend", "layers", "models"],
        "models/swin": ["backend", "layers", "models"],
        "models/mixmim": ["backend", "layers", "models"],
    }.items():
        wrong = {
            (file, module)
            for file, module in imports_of(folder)
            if module.split(".")[1] not in below
        }
        assert not wrong, f"{folder} may import {below} only"
