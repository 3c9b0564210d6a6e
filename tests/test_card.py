"""Model cards: what the Hub reads of them, and what people do."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from mimzoo_training.publish.command import recipe_of
from PIL import Image
from released import Released
from test_convert_layouts import FACTS, mae, mixmim, randomized, state_of

from mimzoo.convert import convert, get_layout
from mimzoo.convert.exporting import to_tensors
from mimzoo.hub import preset_info
from mimzoo.hub.card import card, handle_of, validate
from mimzoo.hub.card_recipe import table
from mimzoo.hub.contents import Contents
from mimzoo.hub.licences import FREE, RESTRICTED, LicenceRefused, check_licences, hub_licence
from mimzoo.hub.papers import paper, source_url
from mimzoo.hub.vocabulary import length

pytestmark = pytest.mark.one_backend

NANO = "vit_nano_mae_fmnist_20ep"
CELL = "swinv2_small_simmim_in1k10_250k"


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """Cards of all kinds, by the preset's name."""
    folder = tmp_path_factory.mktemp("cards")
    released = Released(folder / "official")
    made = {NANO: card(preset_info(NANO).folder)}
    for seed, name in enumerate((CELL, f"{CELL}_in1k_224")):
        entry = preset_info(name)
        convert(released.write(entry, seed), folder / name, licence="MIT")
        made[name] = card(folder / name, recipe_of(entry))
    for file, layout, model, facts in (
        ("mae_pretrain_vit_base", "mae_full", mae, FACTS),
        ("mixmim_base_600ep", "mixmim_pretrain", mixmim, {"decoder_num_heads": 4}),
    ):
        import torch

        state = to_tensors(get_layout(layout), randomized(model()))
        path = folder / "official" / f"{file}.pth"
        torch.save({"model": {k: torch.from_numpy(v) for k, v in state.items()}}, path)
        convert(path, folder / file, **facts)
        made[file] = (folder / file / "README.md").read_text()
    return made


def front_matter(text: str) -> dict:
    return yaml.safe_load(re.match(r"---\n(.*?\n)---\n", text, re.DOTALL)[1])


def test_the_hub_takes_the_front_matter(cards, hub):
    for text in cards.values():
        validate(text)
        assert ModelCard(text).data.to_dict() == front_matter(text)
    assert hub.count("POST /api/validate-yaml") == len(cards)
    with pytest.raises(ValueError, match="license"):
        validate("---\nlicense: {a: b}\n---\n")


def test_front_matter(cards):
    for name, text in cards.items():
        found = front_matter(text)
        assert found["library_name"] == "keras-hub"
        assert found["license"] in FREE | RESTRICTED | {"other"}
        assert {"keras", "mimzoo", "masked-image-modeling"} < set(found["tags"])
        kind = "classification" if name.endswith("in1k_224") else "feature-extraction"
        assert found["pipeline_tag"] == f"image-{kind}"
        for model in found.get("model-index", []):
            for result in model["results"]:
                assert result["task"]["type"].startswith("image-")
                assert result["dataset"]["type"]
                for metric in result["metrics"]:
                    assert metric["type"] in ("accuracy", "loss")
                    assert isinstance(metric["value"], float)
                    assert metric["name"].endswith(("measured here)", "measured with mimzoo)"))
    assert front_matter(cards[NANO])["datasets"] == ["fashion_mnist"]
    assert front_matter(cards[CELL])["datasets"] == ["imagenet-1k"]


def test_published_results_have_a_source_and_measured_ones_a_command(cards):
    (model,) = front_matter(cards[f"{CELL}_in1k_224"])["model-index"]
    (result,) = model["results"]
    assert result["metrics"][0]["value"] == 83.11
    assert "not measured here" in result["metrics"][0]["name"]
    assert result["source"]["url"].endswith("microsoft/Swin-Transformer/tree/f82860b")
    # The pretrained one reaches that only by way of another file.
    (model,) = front_matter(cards[CELL])["model-index"]
    assert [r["metrics"][0]["value"] for r in model["results"]] == [0.4961]
    assert "| 83.11 | `finetune_swinv2_small_1kper10_250k.pth` |" in cards[CELL]
    measured = json.loads((preset_info(NANO).folder / "results.json").read_text())
    for result in measured:
        assert f"{result['value']:.4f}" in cards[NANO]
        assert f"| {result['date']} | `{result['command']}` |" in cards[NANO]


def test_licences(cards):
    assert front_matter(cards["mae_pretrain_vit_base"])["license"] == "cc-by-nc-4.0"
    assert "not for commercial use" in cards["mae_pretrain_vit_base"]
    found = front_matter(cards["mixmim_base_600ep"])
    assert (found["license"], found["license_name"]) == ("other", "unknown")
    assert "ask their owner" in cards["mixmim_base_600ep"]
    assert "MIT (microsoft/Swin-Transformer MODELHUB.md; licence: model card)" in cards[CELL]
    assert hub_licence("My own (v2)") == {"license": "other", "license_name": "my-own-v2"}


def test_licences_that_let_us_publish():
    check_licences(["MIT", "Apache-2.0"])
    check_licences(["CC-BY-NC-4.0", "MIT"], ["cc-by-nc-4.0"])
    for licence, why in (
        ("unknown", "no licence .* --allow-licence unknown"),
        ("CC-BY-NC-4.0", "commercial use"),
        ("GPL-3.0", "conditions"),
    ):
        with pytest.raises(LicenceRefused, match=why):
            check_licences(["MIT", licence], ["cc-by-nc-2.0"])


def test_what_it_says(cards):
    first = cards[CELL].split("# ")[1].splitlines()[2]
    assert first.startswith("Swin V2 (small, ")
    assert "pretrained with SimMIM on 10 % of ImageNet-1K's images for 250,000 steps." in first
    assert "60% of each was hidden" in first
    assert "then fine-tuned to classify ImageNet-1K at 224 px" in cards[f"{CELL}_in1k_224"]
    # A recipe of which a part was inferred says which, by what rule.
    assert re.search(
        r"\| schedule \| warm-up of 6,250 steps, .* \| not published for this", cards[CELL]
    )
    assert re.search(r"\| weight decay \| 0.05 \|  \|", cards[CELL])
    for text in cards.values():
        assert "## Where the weights come from" in text
        assert "@misc{" in text
        assert not re.search(r"\| None|\{\}|/tmp/", text.partition("## Where")[0])
    assert "eprint = {2206.04664}" in cards[CELL]
    assert "eprint = {2111.09886}" in cards[CELL]
    assert "No picture of a reconstruction" in cards[CELL]
    assert "](reconstruction.png)" in cards[NANO]


def test_the_bundled_card_is_the_one_that_is_written_now(cards):
    """python -c "…card(folder)" writes it anew."""
    assert (preset_info(NANO).folder / "README.md").read_text(encoding="utf-8") == cards[NANO]


@pytest.mark.parametrize("name", [NANO, f"{CELL}_in1k_224"])
def test_the_code_runs(name, cards, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), "uint8")
    Image.fromarray(pixels).save("photo.jpg")
    code = re.search(r"```python\n(.*?)```", cards[name], re.DOTALL)[1]
    assert code.startswith("import mimzoo\n")
    if name != NANO:
        convert(Released(tmp_path / "official").write(preset_info(name), 0), tmp_path / "preset")
        code = code.replace(name, str(tmp_path / "preset"))
    exec(code, {})
    assert name == NANO or "[[('" in capsys.readouterr().out


def test_contents_of_other_folders(tmp_path):
    """A name, a licence and a card for what the catalogue does not know."""
    randomized(mae().backbone).save_to_preset(str(tmp_path / "my_vit"))
    found = Contents.read(tmp_path / "my_vit")
    assert (found.name, found.kind, found.licence) == ("my_vit", "backbone", "unknown")
    text = card(tmp_path / "my_vit", handle="hf://me/my_vit")
    assert 'from_preset("hf://me/my_vit", num_classes=10)' in text
    assert "the encoder alone" in text
    run = {"start": "vit_base_mae_in1k_1600ep", "num_examples": 9, "source": "photos"}
    recipe = {**recipe_of(preset_info("vit_base_mae_in1k_1600ep_in1k_224")), "name": "mine"}
    stored = {"recipe": recipe, "run": run | {"backend": "jax", "precision": "float32"}}
    (tmp_path / "my_vit" / "recipe.json").write_text(json.dumps(stored))
    # What was fine-tuned keeps the licence of what it began with.
    assert Contents.read(tmp_path / "my_vit").licence == "CC-BY-NC-4.0"
    assert "fine-tuned from `vit_base_mae_in1k_1600ep`" in card(tmp_path / "my_vit")
    (tmp_path / "my_vit" / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match=r"recipe\.json is no JSON file"):
        card(tmp_path / "my_vit")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        card(tmp_path)


def test_another_file_of_a_preset_does_not_get_its_name(tmp_path):
    state, facts, _ = state_of("mae_full")
    from checkpoints import write

    path = write(state, tmp_path / "mae_visualize_vit_base.pth".replace(".pth", ".safetensors"))
    entry = convert(path, tmp_path / "a", **facts)
    record = {**entry, "preset": "vit_base_mae_in1k_1600ep", "file": "mae_visualize_vit_base.pth"}
    (tmp_path / "a" / "conversion.json").write_text(json.dumps(record))
    assert Contents.read(tmp_path / "a").name == "mae_visualize_vit_base"


def test_words():
    assert length("125k") == "125,000 steps"
    assert length("800ep") == "800 epochs"
    assert length("1e6img") == "1,000,000 images"
    assert source_url("facebookresearch/mae README.md (commit efb2a80)") == (
        "https://github.com/facebookresearch/mae/tree/efb2a80"
    )
    assert source_url("its model card") is None
    assert paper("Liu et al., MixMAE / MixMIM, arXiv 2205.13137").arxiv == "2205.13137"
    assert paper("") is None
    assert table(("a", "b"), [("1|2", 3)]).splitlines()[2] == "| 1\\|2 | 3 |"
    assert handle_of(f"mimzoo/{CELL}") == CELL
    assert handle_of(f"me/{CELL}") == f"hf://me/{CELL}"
    assert Path(preset_info(NANO).folder).name == NANO
