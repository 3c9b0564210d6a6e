"""The documentation is true: its code runs, its commands exist, its messages are ours."""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import keras
import pytest
from mimzoo_training.arguments import build_parser

pytestmark = pytest.mark.one_backend

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"))


@pytest.fixture
def registered():
    """What a page registers with Keras, other tests do not meet."""
    known = keras.saving.get_custom_objects()
    before = dict(known)
    yield known
    # mimzoo's own classes register when their modules are first imported, which may be here.
    for name in set(known) - set(before):
        if not known[name].__module__.startswith("mimzoo"):
            del known[name]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["add_a_method", "add_a_backbone", "add_a_layout"])
def test_code_that_adds_something_runs(name, tmp_path, monkeypatch):
    import mimzoo_training.runner  # before names in it are replaced

    import mimzoo

    assert mimzoo_training.runner
    monkeypatch.chdir(tmp_path)
    # Trained on a few images: it is the code that is tested.
    few = mimzoo.data.take_subset(mimzoo.data.open_source("embedded", "train"), count=512)
    monkeypatch.setattr(mimzoo.data, "open_source", lambda *_: few, raising=False)
    namespace = {"__name__": "__main__"}  # as in a script or a notebook
    for block in blocks(ROOT / "docs" / f"{name}.md", "python"):
        exec(compile(block, f"{name}.md", "exec"), namespace)
    if name == "add_a_method":
        history = namespace["history"].history["loss"]
        assert len(history) == 1
        assert 0 < history[0] < 2
        same, task = namespace["same"], namespace["task"]
        assert type(same) is type(task)
        for one, other in zip(same.weights, task.weights, strict=True):
            assert (one.numpy() == other.numpy()).all()
        assert namespace["classifier"].num_classes == 10
        assert (tmp_path / "runs" / "meantoken" / "preset" / "task.json").is_file()
    if name == "add_a_backbone":
        paths = [weight.path for weight in namespace["backbone"].weights]
        assert any("qkv" in path for path in paths)
        assert namespace["task"].decoder.built


def test_the_layout_of_the_page_reads_a_file(tmp_path, monkeypatch):
    import numpy as np
    from safetensors.numpy import save_file

    from mimzoo.convert import convert, registry
    from mimzoo.convert.exporting import to_tensors
    from mimzoo.models import Backbone, ViTBackbone

    namespace = {}
    exec(blocks(ROOT / "docs" / "add_a_layout.md", "python")[0], namespace)
    (layout,) = namespace["LAYOUTS"]
    backbone = ViTBackbone.from_size("nano", image_shape=(28, 28, 3))
    tensors = to_tensors(layout, backbone)
    assert all(name.startswith("student.") for name in tensors)
    save_file(tensors, tmp_path / "lab.safetensors")
    monkeypatch.setattr(registry, "all_layouts", lambda: {layout.name: layout})
    assert convert(tmp_path / "lab.safetensors", tmp_path / "out")["layout"] == "student_vit"
    same = Backbone.from_preset(str(tmp_path / "out"))
    for one, other in zip(backbone.weights, same.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_python_and_commands_exist(page):
    for block in blocks(page, "python"):
        ast.parse(block)
    for block in blocks(page, "console"):
        lines = re.findall(r"(?m)^\$ (mimzoo .*)$", block.replace("\\\n", " "))
        for line in lines:
            build_parser().parse_args(shlex.split(line, comments=True)[1:])


def messages() -> str:
    """All texts of the package, with … for what they fill in."""
    found = []
    for folder in ("mimzoo", "training/mimzoo_training"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [getattr(value, "value", None) for value in node.values]
                    found.append("".join(p if isinstance(p, str) else "…" for p in parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def test_troubleshooting_quotes_messages_of_ours():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    known = messages()
    unknown = [quoted for quoted in re.findall(r"(?m)^### (.+)$", page) if quoted not in known]
    assert unknown == []


def test_extras_of_the_page_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    table = page.partition("| extra |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert named == set(extras["optional-dependencies"])


# === The site ===


@pytest.fixture(scope="module")
def make_pages():
    import sys

    sys.path.insert(0, str(ROOT / "docs"))
    try:
        spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def test_every_page_is_in_the_menu(make_pages):
    menu = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M))
    pages = {name for name in make_pages.sources().values() if name.endswith(".md")}
    pages |= {f"api/{package}.md" for package in make_pages.PACKAGES}
    assert menu == pages


def test_links_lead_to_pages_of_the_site(make_pages, tmp_path):
    pages, readme = make_pages.Pages(tmp_path), ROOT / "README.md"
    code = "```\n[f](docs/data.md)\n```\n"
    for text, linked in {
        "[a](docs/data.md#shards)": "[a](data.md#shards)",
        "![b](benchmarks/results.png)": "![b](files/benchmarks/results.png)",
        "[`c/`](docs) [d](https://x.y)": "`c/` [d](https://x.y)",
        "[![e](LICENSE)](docs/speed.md)": "[![e](files/LICENSE)](speed.md)",
        code: code,
    }.items():
        assert pages.linked(text, readme, "index.md") == linked
    assert (tmp_path / "files" / "benchmarks" / "results.png").is_file()
    with pytest.raises(SystemExit, match=r"README.md: there is no nowhere\.md"):
        pages.linked("[a](nowhere.md)", readme, "index.md")


def test_reference_has_every_public_name(make_pages):
    for package in make_pages.PACKAGES:
        page = make_pages.reference(package)
        module = importlib.import_module(f"mimzoo.{package}")
        for name in module.__all__:
            assert re.search(rf"heading: {name}$|^`{name}`: see", page, re.M), f"{package}.{name}"
