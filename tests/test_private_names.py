"""Private names of libraries that mimzoo uses: what for, whether they are there, and no others."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.skipif(keras.config.backend() != "torch", reason="some are of torch's optimizers"),
]

ROOT = Path(__file__).parent.parent
LIBRARIES = ("keras", "keras_hub", "torch", "jax", "tensorflow", "numpy", "grain")
PUBLIC = {"_replace", "_asdict", "_fields"}  # of named tuples


def adam() -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.AdamW()
    optimizer.build([keras.Variable([1.0])])
    return optimizer


HOOKS = "layers with torch's hooks are called one by one"
torch = pytest.importorskip("torch")

# name -> (whose it is, why it is used)
TABLE = {
    "_flatten_layers": (
        keras.layers.Layer,
        "a preprocessor's layers are marked as built, or Keras on torch runs each batch twice; and "
        "hooks are looked for in all layers of a model",
    ),
    "_parallel_update_step": (adam, "the step of all variables at once, fused or scaled"),
    "_momentums": (adam, "the fused step of Adam reads and writes its slots"),
    "_velocities": (adam, "the fused step of Adam reads and writes its slots"),
    "_get_variable_index": (adam, "finds the slot and the multiplier of a variable"),
    "_get_current_learning_rate": (adam, "LayerDecay scales the rate of the optimizer in it"),
    "_apply_weight_decay": (adam, "LayerDecay scales the decay of the optimizer in it"),
    "_forward_hooks": (keras.layers.Layer, HOOKS),
    "_forward_pre_hooks": (keras.layers.Layer, HOOKS),
    "_backward_hooks": (keras.layers.Layer, HOOKS),
    "_backward_pre_hooks": (keras.layers.Layer, HOOKS),
    "_value": (
        lambda: keras.Variable([1.0]),
        "the tensor of a variable as it is stored, in float32 also where layers compute in less",
    ),
    "_foreach_add_": (torch, "advances all generators in one call on the device"),
    "_use_weight_decay": (adam, "LayerDecay spares what the optimizer in it spares"),
}


@pytest.mark.parametrize("name", TABLE)
def test_it_is_still_there(name):
    owner, why = TABLE[name]
    owner = owner() if inspect.isfunction(owner) or owner is keras.layers.Layer else owner
    assert hasattr(owner, name), (
        f"Keras {keras.__version__} has no {name} any more. It was used because: {why}."
    )


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def is_private_module(module: str) -> bool:
    library, *parts = module.split(".")
    return library in LIBRARIES and ("src" in parts or any(map(is_private, parts)))


def own_names(tree: ast.AST) -> Iterator[str]:
    """Private names that the file defines: functions, classes, variables, attributes of self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from [node.attr] if getattr(node.value, "id", "") in ("self", "cls") else []


def used_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of private attributes, modules, imports, and names in getattr and the like."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if is_private_module(a.name)]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            names = [a.name for a in node.names]
            names += [node.module] if is_private_module(node.module) else []
        elif isinstance(node, ast.Call):
            function = node.func
            called = getattr(function, "id", getattr(function, "attr", ""))
            if called in ("getattr", "hasattr", "setattr", "get", "pop"):
                names = [a.value for a in node.args if isinstance(a, ast.Constant)]
            names += [keyword.arg for keyword in node.keywords if keyword.arg]
        for name in names:
            if isinstance(name, str) and (is_private(name) or is_private_module(name)):
                yield name, node.lineno


def test_no_others_are_used():
    files = [*ROOT.glob("mimzoo/**/*.py"), *ROOT.glob("training/**/*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    # A function of one file is not what another file means by its name; a method may be.
    methods = {
        name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for name in own_names(node)
    }
    used = {
        name: f"{path.relative_to(ROOT)}:{line}"
        for path, tree in trees.items()
        for name, line in used_names(tree)
        if name not in methods | set(own_names(tree))
    }
    new = {name: where for name, where in used.items() if name not in TABLE}
    assert not new, f"private names of libraries: use public ones, or add them to TABLE: {new}"
    gone = set(TABLE) - set(used)
    assert not gone, f"no longer used, remove them from TABLE: {sorted(gone)}"
