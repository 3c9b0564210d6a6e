"""The guides that teach, run at nano size, and what makes pages of guides."""

import itertools
import multiprocessing
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import keras
import pytest
from guide_runs import run_guide

ROOT = Path(__file__).parents[1]
GUIDES = (
    "mae_from_scratch",
    "many_devices",
    "masked_image_modeling",
    "targets",
    "features",
    "mixmim",
    "from_folder_to_hub",
    "presets_and_conversion",
    "simmim_and_windows",
    "loss_curves",
    "few_labels",
    "fine_tuning_well",
    "segmentation",
)
# The first has Keras code of its own; the others call only what is tested on every backend.
RUN = GUIDES if keras.backend.backend() == "torch" else GUIDES[:1]
# Imported once for all guides. JAX and TensorFlow start threads, which no fork survives.
PRELOADED = ["guide_runs", "keras", "matplotlib.pyplot", "mimzoo", "mimzoo.pretraining"]
TIMEOUT = 600  # seconds; against hanging, a run takes far less


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The guides, two at a time, each in a process of its own: name -> what it printed, to come."""
    settings = {"MIMZOO_GUIDE_FAST": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    context = multiprocessing.get_context("forkserver")
    if keras.backend.backend() == "torch":
        context.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        pool = ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1)
        yield {
            name: pool.submit(
                run_guide, str(ROOT / "guides" / f"{name}.py"), str(tmp_path_factory.mktemp(name))
            )
            for name in RUN
        }
        pool.shutdown(cancel_futures=True)


def output(started, name: str) -> str:
    if name not in RUN:
        pytest.skip("runs on torch")
    return started[name].result(TIMEOUT)


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


def test_features(started):
    text = output(started, "features")
    pattern = r"(.*), (pretrained|random) weights: kNN ([\d.]+)%, linear probe ([\d.]+)%"
    found = {(n, w): (float(a), float(b)) for n, w, a, b in re.findall(pattern, text)}
    assert len(found) == 7
    # What the text says of them.
    for name in ("MAE", "SimMIM", "MixMIM"):
        for trained, random in zip(found[name, "pretrained"], found[name, "random"], strict=True):
            assert trained > random
    bags = dict(re.findall(r"Bag, (random|MAE): (\d) of 8", text))
    assert int(bags["MAE"]) > int(bags["random"])
    blocks = dict(re.findall(r"kNN after each block, (\w+): (.*)", text))
    trained = [float(value.rstrip("%")) for value in blocks["pretrained"].split()]
    assert trained[0] < trained[2]
    # The maps are those of the layers.
    differences = re.findall(r"at most (\S+) from what the layers compute", text)
    assert len(differences) == 2
    assert all(float(value) < 1e-4 for value in differences)
    (alike,) = re.findall(r"all patches alike: ([\d.]+) pixels", text)
    far = dict(re.findall(r"(random|pretrained), by block: (.*)", text))
    assert all(float(value) < float(alike) for value in far["pretrained"].split())
    assert all(abs(float(value) - float(alike)) < 1 for value in far["random"].split())


def test_fine_tuning_well(started):
    text = output(started, "fine_tuning_well")
    pattern = r"(\d+) labels, (.*): (\d+)% of its own images, ([\d.]+)% of unseen ones"
    names = {name for _, name, _, _ in re.findall(pattern, text)}
    assert names >= {"all parts", "no layer decay", "no drop path", "no augmentation", "no EMA"}
    shares = [float(share) for share in re.findall(r"(?m)^  ([\d.]+)  \S+$", text)]
    assert shares[-1] == 1
    assert all(abs(a - 0.75 * b) < 0.01 for a, b in itertools.pairwise(shares))
    (rates,) = re.findall(r"drop path, block by block: (.*)", text)
    assert rates.startswith("0.00 ")
    assert rates.endswith(" 0.10")


def test_few_labels(started):
    text = output(started, "few_labels")
    pattern = r"(\d+) labels, (.*), (\w+) weights: ([\d.]+)% "
    found = {(int(n), way, w): float(a) for n, way, w, a in re.findall(pattern, text)}
    assert len(found) == 12
    # What the text says of them, where nothing is trained long.
    for labels in (20, 100):
        assert found[labels, "kNN", "pretrained"] > found[labels, "kNN", "random"]


def test_many_devices(started):
    text = output(started, "many_devices")
    assert text.count("parts together are the batch: True") == 2
    whole, equal, unequal = re.findall(r"(?:whole batch|average) .*: (\S+)$", text, re.M)
    assert whole == equal != unequal
    # Two devices, then one.
    assert re.search(r"2 cpu devices.*\n.*1 cpu device\n *resumed at step \d", text)
    ((count, difference),) = re.findall(r"(\d+) epochs, at most (\S+) from the run on one", text)
    assert int(count) == 2
    assert float(difference) < 1e-5


def test_segmentation(started):
    text = output(started, "segmentation")
    assert "pixels of number 5, which is no class" in text
    pattern = r"(linear|upernet), (pretrained|random) weights: mean IoU 0\.\d+$"
    assert len(set(re.findall(pattern, text, re.M))) == 4
    ((by_hand, measured),) = re.findall(r"mean IoU by hand ([\d.]+), by evaluate ([\d.]+)", text)
    assert float(by_hand) == pytest.approx(float(measured), abs=2e-4)
    assert [int(n) for n in re.findall(r"stride \d+: (\d+) windows", text)] == [4, 9, 25]
    assert "the same label map: True" in text


def test_loss_curves(started):
    text = output(started, "loss_curves")
    pattern = r"(.*): [\d,]+ weights, training ([\d.]+), validation ([\d.]+), best ([\d.]+) after"
    runs = {name: (float(a), float(b)) for name, a, b, _ in re.findall(pattern, text)}
    assert len(runs) == 4
    assert all(0 < loss < 1 for pair in runs.values() for loss in pair)
    # What the text says of the published runs.
    pattern = r"(.*) images, (\w+): [\d.]+ -> [\d.]+, (rises|falls)"
    ends = {(images, size): end for images, size, end in re.findall(pattern, text)}
    assert {end for (images, _), end in ends.items() if images == "128,000"} == {"rises"}
    assert {end for (images, _), end in ends.items() if images == "1.28 million"} == {"falls"}
    half = {size: end for (images, size), end in ends.items() if images == "641,000"}
    assert half == {"base": "falls", "large": "falls", "huge": "rises", "giant": "rises"}


def test_simmim_and_windows(started):
    text = output(started, "simmim_and_windows")
    assert "MAE drops tokens, which a SwinV2Backbone cannot encode" in text
    pattern = r"units of (\d+) pixels: \d+% hidden, copying ([\d.]+), the network ([\d.]+)"
    found = {int(n): (float(a), float(b)) for n, a, b in re.findall(pattern, text)}
    # What the text says of copying and of units that the network was not trained with.
    assert found[4][0] < found[8][0] < found[16][0]
    assert found[8][1] < min(found[4][1], found[16][1])
    assert found[8][1] < found[8][0]
    # A window; four windows that the shifted one joins; at last everything.
    seen = [int(n) for n in re.findall(r"after block \d: (\d+) of 256 patches matter", text)]
    assert seen[:2] == [16, 64]
    assert seen == sorted(seen)
    assert seen[-1] == 256


def test_mixmim(started):
    text = output(started, "mixmim")
    # What the text says of mixtures, of attention and of the ratios.
    assert "shown by both mixtures: [1]\n" in text
    assert "50% of the pairs are allowed" in text
    pattern = r"kept apart: (\d+) results of the same image change, (\d+) of the other image"
    kept_apart, together = re.findall(pattern, text)
    assert int(kept_apart[0]) > 0
    assert int(kept_apart[1]) == 0
    assert int(together[1]) > 0
    losses = [float(loss) for loss in re.findall(r"% of the partner: loss ([\d.]+)", text)]
    assert len(losses) == 3
    assert losses[1] == min(losses)


def test_presets_and_conversion(started):
    text = output(started, "presets_and_conversion")
    assert text.count("the same features: True") == 2
    losses = dict(re.findall(r"(\d\d) px: loss ([\d.]+)", text))
    assert float(losses["28"]) < float(losses["56"]) < 1
    assert "'layout': 'mae_encoder_only', 'tensors': 78, 'ignored': 0" in text
    assert len(re.findall(r"78 tensors; 32 of the decoder|mimzoo's ViTBackbone", text)) == 2
    for error in ("lacks blocks.3.mlp.fc1.bias", "no place for blocks.0.gate", "drop_path_rate"):
        assert error in text
    assert "has sha256" in text


def test_from_folder_to_hub(started):
    text = output(started, "from_folder_to_hub")
    # Faults are found, none is left, and the dry run is good.
    assert re.findall(r"exit status: (\d)", text) == ["1", "0", "0"]
    assert "runs/mine/preset/model.weights.h5\n" in text
    assert re.search(r"(?m)^[\d,]+ weights$", text)


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
        "from pathlib import Path\nprint('printed', Path('runs/a').resolve())\n"
        "figure = plt.figure()\n\n# %% [markdown]\n# End.\n"
    )
    monkeypatch.setattr(guide_pages, "RUNS", tmp_path / "runs")
    page = guide_pages.markdown(guide, tmp_path / "site", str.upper)
    assert "```text" not in page
    assert guide_pages.run(guide, tmp_path / "runs" / "small") > 0
    page = guide_pages.markdown(guide, tmp_path / "site", str.upper)
    assert page.startswith("# TITLE\n\nWORDS.\n\n```python\nimport matplotlib")
    assert "```text\nprinted runs/a\n```" in page
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert (tmp_path / "site" / "guides" / picture).is_file()
    guide.write_text("# %% [markdown]\n# # Title\n\n# %%\n\nraise ValueError('seen')\n")
    with pytest.raises(ValueError, match="seen") as raised:
        guide_pages.run(guide, tmp_path / "runs" / "small")
    assert raised.traceback[-1].lineno + 1 == 6  # the guide's own line
