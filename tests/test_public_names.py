"""Every public name says what it is, and every public function its arguments' types."""

import ast
import importlib
import inspect
import pkgutil
import re

import pytest

import mimzoo

pytestmark = pytest.mark.one_backend

PACKAGES = sorted(
    info.name for info in pkgutil.walk_packages(mimzoo.__path__, "mimzoo.") if info.ispkg
)


def public(package: str) -> list[tuple[str, object]]:
    """Names of a package's `__all__` and what they are; modules and plain values left out."""
    module = importlib.import_module(package)
    found = [(name, getattr(module, name)) for name in getattr(module, "__all__", ())]
    return [(name, it) for name, it in found if inspect.isclass(it) or inspect.isroutine(it)]


def members(cls: type) -> list[tuple[str, object]]:
    """Public functions and properties that a class of ours adds, or has from one of ours."""
    found = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("mimzoo"):
            found |= {name: it for name, it in vars(base).items() if not name.startswith("_")}
    kinds = (property, classmethod, staticmethod)
    return [(n, it) for n, it in found.items() if isinstance(it, kinds) or _is_ours(it)]


def _is_ours(it: object) -> bool:
    return inspect.isfunction(it) and it.__module__.startswith("mimzoo")


@pytest.mark.parametrize("package", ["mimzoo", *PACKAGES])
def test_every_public_name_has_a_docstring(package):
    module = importlib.import_module(package)
    assert module.__doc__, package
    without = []
    for name, it in public(package):
        if not inspect.getdoc(it):
            without.append(name)
        if inspect.isclass(it):
            # An overridden function may have the one of its base, as `inspect` finds it.
            own = {n for n, member in members(it) if not inspect.getdoc(getattr(it, n, member))}
            without += [f"{name}.{n}" for n in own]
    assert without == []


@pytest.mark.parametrize("package", ["mimzoo", *PACKAGES])
def test_all_names_exist_and_are_sorted_once(package):
    names = list(getattr(importlib.import_module(package), "__all__", ()))
    assert len(names) == len(set(names))
    module = importlib.import_module(package)
    assert [name for name in names if not hasattr(module, name)] == []


def test_public_functions_have_type_hints():
    without = []
    for package in PACKAGES:
        for name, it in public(package):
            if inspect.isfunction(it) and it.__module__.startswith("mimzoo"):
                signature = inspect.signature(it)
                hints = [p.annotation for p in signature.parameters.values()]
                hints.append(signature.return_annotation)
                if inspect.Signature.empty in hints:
                    without.append(f"{package}.{name}")
    assert without == []


def test_examples_name_what_exists():
    """Code in docstrings is Python, and every `mimzoo.x.y` in it is there."""
    for package in PACKAGES:
        for name, it in public(package):
            for block in re.findall(r"(?ms)^```python\n(.*?)^```", inspect.getdoc(it) or ""):
                tree = ast.parse(block)
                for node in ast.walk(tree):
                    if isinstance(node, ast.Attribute):
                        dotted = ast.unparse(node)
                        if re.fullmatch(r"mimzoo(\.\w+)+", dotted):
                            found = mimzoo
                            for part in dotted.split(".")[1:]:
                                assert hasattr(found, part), f"{package}.{name}: {dotted}"
                                found = getattr(found, part)
