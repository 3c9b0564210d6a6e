"""The map of the house: which room imports which, no circles, and how much one method needs.

python tests/test_arrows.py [mimzoo/pretraining/mae.py] prints the import closure of a file.
"""

import ast
import functools
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.one_backend

ROOT = Path(__file__).parent.parent

# Single files that every room may import, and that import no room.
SHARED = {"cache_folder", "lazy", "run_length", "version"}
# room -> the rooms that it may import.
BELOW = {
    **{name: set() for name in SHARED},
    "backend": set(),
    "data": set(),
    "hub": set(),
    "layers": {"backend"},
    "models": {"backend", "layers", "hub"},
    "tasks": {"backend", "layers", "models", "data", "hub"},
    "optimizers": {"backend", "models"},
    "pretraining": {"backend", "layers", "models", "tasks", "data", "optimizers", "hub"},
    "downstream": {"backend", "layers", "models", "data"},
    "convert": {"layers", "models", "tasks", "data", "pretraining", "hub"},
    "mimzoo": {"models", "optimizers", "tasks", "hub"},  # mimzoo/__init__.py; the rest on demand
}
# Only inside of functions: `from_preset` and `save_to_preset`.
LAZY = {("models", "hub"), ("tasks", "hub")}
# A family of backbones is a model alone.
PURE = ("mimzoo.models.vit", "mimzoo.models.swin", "mimzoo.models.mixmim")


class Import(NamedTuple):
    """One import of a module of ours: whose, which, in which line, and whether in a function."""

    source: str
    target: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{MODULES[self.source].relative_to(ROOT)}:{self.line} imports {self.target}"


def modules() -> dict[str, Path]:
    """Names of all modules -> files."""
    found = {}
    for base, package in ((ROOT, "mimzoo"), (ROOT / "training", "mimzoo_training")):
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def nodes(tree: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Import statements, and whether they stand in a function; not those for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from nodes(ast.Module([other], []), lazy)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node, lazy
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from nodes(node, lazy or inside)


def names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Modules of ours that a statement imports: the nearest that are files."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in MODULES)
    elif node.module in MODULES:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in MODULES else homes(node.module).get(alias.name, node.module)


@functools.cache
def homes(package: str) -> dict[str, str]:
    """What a package loads on demand by a table `_HOMES` -> the module it is in."""
    for node in ast.parse(MODULES[package].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOMES":
            return {k: f"{package}.{v}" for k, v in ast.literal_eval(node.value).items()}
    return {}


@functools.cache
def imports(module: str) -> tuple[Import, ...]:
    """All imports of ours in a module, at its top and in its functions."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return tuple(
        Import(module, name, node.lineno, lazy)
        for node, lazy in nodes(tree)
        for name in names(node)
    )


def room(module: str) -> str:
    """mimzoo.data.loader -> data; mimzoo_training.cli -> mimzoo_training."""
    package, *rest = module.split(".")
    return rest[0] if package == "mimzoo" and rest else package


def forbidden(arrow: Import) -> bool:
    """Whether an import goes against the map."""
    own, other = room(arrow.source), room(arrow.target)
    if own in (other, "mimzoo_training"):
        return False
    if (own, other) in LAZY and not arrow.lazy:
        return True
    return other not in BELOW[own] | SHARED


def closure(module: str) -> set[str]:
    """A module and all modules that it imports, and they import, at any time.

    Packages count where a name is imported from them, not because a module lies in them.
    """
    found, to_come = set(), [module]
    while to_come:
        if (name := to_come.pop()) not in found:
            found.add(name)
            to_come += [arrow.target for arrow in imports(name)]
    return found


def size(names: set[str]) -> tuple[int, int]:
    """(files, lines) of modules."""
    return len(names), sum(len(MODULES[n].read_text("utf-8").splitlines()) for n in names)


def test_every_room_is_on_the_map():
    assert {room(name) for name in MODULES} == {*BELOW, "mimzoo_training"}


def test_arrows_point_one_way():
    wrong = [str(a) for name in MODULES for a in imports(name) if forbidden(a)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("family", PURE)
def test_families_of_backbones_know_no_data_and_no_files(family):
    arrows = [a for name in MODULES if name.startswith(family) for a in imports(name)]
    assert arrows
    assert {room(a.target) for a in arrows} <= {"backend", "layers", "models"}


def test_there_is_no_circle():
    graph = {name: {arrow.target for arrow in imports(name)} for name in MODULES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_what_counts_as_an_import():
    text = """
if TYPE_CHECKING:
    import mimzoo.convert
from mimzoo.data import Loader
from mimzoo.models import Backbone
class A:
    def f():
        from mimzoo import hub
"""
    found = [(name, lazy) for node, lazy in nodes(ast.parse(text)) for name in names(node)]
    assert found == [
        ("mimzoo.data.loader", False),
        ("mimzoo.models", False),
        ("mimzoo.hub", True),
    ]
    assert forbidden(Import("mimzoo.tasks.task", "mimzoo.hub.resolve", 1, False))
    assert not forbidden(Import("mimzoo.tasks.task", "mimzoo.hub.resolve", 1, True))
    assert forbidden(Import("mimzoo.data.loader", "mimzoo.tasks.task", 1, True))
    assert forbidden(Import("mimzoo.hub.card", "mimzoo_training.cli", 1, True))


def report(path: str) -> str:
    """How much a file needs, by room."""
    module = next(name for name, file in MODULES.items() if file == (ROOT / path).resolve())
    every = closure(module)
    lines = ["{}: {} files, {} lines".format(path, *size(every))]
    for one in sorted({room(name) for name in every}):
        part = {name for name in every if room(name) == one}
        lines.append("  {}: {} files, {} lines".format(one, *size(part)))
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(*(sys.argv[1:] or ["mimzoo/pretraining/mae.py"])))
