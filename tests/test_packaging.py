"""pyproject.toml names what is imported, and tests/lowest.txt its lower bounds."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_backend

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Module -> the package that brings it.
PACKAGES = {"PIL": "pillow", "ml_dtypes": "ml-dtypes"}
OURS = {"mimzoo", "mimzoo_training"}
# Used where somebody has it; the same rows without.
OPTIONAL = {"pandas"}


def requirement(line: str) -> tuple[str, str]:
    """ "keras>=3.15.1,<4" -> ("keras", "3.15.1")."""
    name, bound = re.match(r"([\w-]+)>=([\d.]+)", line).groups()
    return name, bound


def padded(version: str) -> tuple[int, ...]:
    parts = tuple(map(int, version.split(".")))
    return parts + (0,) * (3 - len(parts))


def test_the_lowest_versions_are_the_lower_bounds():
    bounds = dict(map(requirement, PROJECT["dependencies"]))
    bounds |= dict(map(requirement, PROJECT["optional-dependencies"]["torch"]))
    lines = (ROOT / "tests/lowest.txt").read_text(encoding="utf-8").splitlines()
    lowest = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {n: padded(v) for n, v in lowest.items()} == {n: padded(v) for n, v in bounds.items()}


def test_what_is_imported_is_declared():
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + [line for name in extras for line in extras[name]]
    declared = {requirement(line)[0] for line in lines if ">=" in line}
    imported = {}
    for folder in ("mimzoo", "training/mimzoo_training"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                else:
                    names = [node.module] if isinstance(node, ast.ImportFrom) else []
                imported |= {name.partition(".")[0]: path for name in names if name}
    foreign = imported.keys() - sys.stdlib_module_names - OURS - OPTIONAL
    unknown = {
        name: str(imported[name].relative_to(ROOT))
        for name in foreign
        if PACKAGES.get(name, name.replace("_", "-")) not in declared
    }
    assert not unknown
