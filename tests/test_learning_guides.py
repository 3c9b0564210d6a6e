"""The guides that teach, run at nano size, and what makes pages of guides."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[1]
GUIDES = ("mae_from_scratch", "masked_image_modeling", "targets")
# The first has Keras code of its own; the others call only what is tested on every backend.
RUN = GUIDES if keras.backend.backend() == "torch" else GUIDES[:1]
TIMEOUT = 600  # seconds; against hanging, a run takes far less


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The guides, started side by side."""
    environment = {**os.environ, "MIMZOO_GUIDE_FAST": "1", "OMP_NUM_THREADS": "1"}
    processes = {
        name: subprocess.Popen(
            [sys.executable, str(ROOT / "guides" / f"{name}.py")],
            cwd=tmp_path_factory.mktemp(name),
            env={**environment, "MPLBACKEND": "agg"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in RUN
    }
    yield processes
    for process in processes.values():
        process.kill()
        process.communicate()


def output(started, name: str) -> str:
    if name not in RUN:
        pytest.skip("runs on torch")
    text, messages = started[name].communicate(timeout=TIMEOUT)
    assert started[name].returncode == 0, messages[-3000:]
    return text


def test_mae_from_scratch_is_mimzoos(started):
    text = output(started, "mae_from_scratch")
    pattern = r"(by hand|mimzoo): ([\d,]+) weights, loss ([\d.]+) -> ([\d.]+)"
    found = {
        name: (int(w.replace(",", "")), float(a), float(b))
        for name, w, a, b in re.findall(pattern, text)
    }
    by_hand, mimzoo = found["by hand"], found["mimzoo"]
    tables = 49 * (128 + 64)  # of positions
    assert mimzoo[0] - by_hand[0] == tables
    for _, first, last in found.values():
        assert last < first


def test_masked_image_modeling(started):
    text = output(started, "masked_image_modeling")
    losses = {int(r): float(v) for r, v in re.findall(r"(\d+)% hidden: loss ([\d.]+)$", text, re.M)}
    assert list(losses) == [25, 50, 75, 90, 95]
    # What the text says of the bundled preset.
    assert losses[50] < losses[75] < losses[90] < losses[95] < 1
    assert losses[25] > 0.9 * losses[50]
    probes = dict(re.findall(r"linear probe, (.*): ([\d.]+)%", text))
    assert float(probes["pretrained"]) > float(probes["random weights"])


def test_targets(started):
    text = output(started, "targets")
    assert len(re.findall(r": loss [\d.]+ -> [\d.]+ in \d+ s", text)) == 4
    pattern = r"(.*), (\d+)it: fine-tuned ([\d.]+)%, linear probe on 100 labels ([\d.]+)%"
    results = {(n, int(s)): (float(a), float(b)) for n, s, a, b in re.findall(pattern, text)}
    assert len(results) == 8
    # What the text says of them.
    pixels = results["pixels", 2000]
    for name in ("HOG", "teacher's features"):
        assert results[name, 2000][1] > pixels[1]
        assert abs(results[name, 2000][0] - pixels[0]) < 2


@pytest.mark.one_backend
@pytest.mark.parametrize("name", GUIDES)
def test_guide_is_a_notebook_that_ends_with_an_exercise(name):
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from guide_pages import cells, is_guide
    finally:
        sys.path.pop(0)
    path = ROOT / "guides" / f"{name}.py"
    assert is_guide(path)
    found = cells(path)
    text = [cell.source for cell in found if cell.is_text]
    code = [cell.source for cell in found if not cell.is_text]
    assert code[0].startswith("import mimzoo\n")
    assert "## Exercise" in text[-1]
    for source in code:
        compile(source, name, "exec")
    if name == "mae_from_scratch":
        method = "\n".join(s for s in code if re.search(r"^(def|class) ", s, re.M))
        assert len([line for line in method.splitlines() if line.strip()]) <= 110


@pytest.mark.one_backend
def test_page_of_a_guide_has_its_results(tmp_path, monkeypatch):
    """Text, code, what it printed and drew."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import guide_pages
    finally:
        sys.path.pop(0)
    guide = tmp_path / "small.py"
    guide.write_text(
        "# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nimport matplotlib.pyplot as plt\n"
        "print('printed')\nfigure = plt.figure()\n\n# %% [markdown]\n# End.\n"
    )
    monkeypatch.setattr(guide_pages, "RUNS", tmp_path / "runs")
    page = guide_pages.markdown(guide, tmp_path / "site", str.upper)
    assert "```text" not in page
    assert guide_pages.run(guide, tmp_path / "runs" / "small") > 0
    page = guide_pages.markdown(guide, tmp_path / "site", str.upper)
    assert page.startswith("# TITLE\n\nWORDS.\n\n```python\nimport matplotlib")
    assert "```text\nprinted\n```" in page
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert (tmp_path / "site" / "guides" / picture).is_file()
    guide.write_text("# %% [markdown]\n# # Title\n\n# %%\n\nraise ValueError('seen')\n")
    with pytest.raises(ValueError, match="seen") as raised:
        guide_pages.run(guide, tmp_path / "runs" / "small")
    assert raised.traceback[-1].lineno + 1 == 6  # the guide's own line
