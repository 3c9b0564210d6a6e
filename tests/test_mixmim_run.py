"""MixMIM through the runner: pretrain, look, fine-tune."""

import dataclasses
import json

import numpy as np
import pytest
from mimzoo_training import parts, pictures
from mimzoo_training.classify import recipe_for
from mimzoo_training.finetune import finetune
from mimzoo_training.measure import load_mim_task
from mimzoo_training.recipes import get_recipe, list_recipes
from mimzoo_training.runner import pretrain

from mimzoo.data import ArraySource
from mimzoo.models import MixMIMBackbone
from mimzoo.pretraining import MixMIM


def tiny(count: int) -> ArraySource:
    labels = np.arange(count) % 2
    images = np.random.default_rng(1).integers(0, 100, (count, 8, 8, 3))
    images = (images + 120 * labels[:, None, None, None]).astype("uint8")
    return ArraySource(images, labels, ("dark", "light"), "tiny train")


@pytest.fixture
def pico(monkeypatch):
    """A size of its own, with two blocks."""
    small = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": (8, 8)}
    sizes = {**MixMIMBackbone.sizes["nano"], **small}
    monkeypatch.setitem(MixMIMBackbone.sizes, "nano", sizes)


def short(recipe, **changes):
    return dataclasses.replace(
        recipe, length="2it", warmup="0it", batch_size=4, crop_padding=1, **changes
    )


@pytest.mark.one_backend
def test_pretrain_look_and_finetune(tmp_path, pico):
    recipe = get_recipe("mixmim_nano_fmnist_5ep")
    recipe = short(recipe, num_examples=22).with_task(
        decoder={"embed_dim": 8, "num_heads": 1, "depth": 1},
        masking={"shared": "batch", "mask_ratio_range": 0.2},
        mixing_embedding=True,
    )
    source, said = tiny(22), []
    pretrain(recipe, source, tmp_path / "odd", validation=tiny(7), say=said.append)
    assert any("1 of 7 images" in line for line in said)
    place = pretrain(recipe, source, tmp_path / "run", validation=source, say=str)
    (result,) = json.loads((place.path / "results.json").read_text())
    task = load_mim_task(str(place.preset))
    assert isinstance(task, MixMIM)
    assert task.mixing_embedding is not None
    # Validation has a mask a pair, so the batch does not matter.
    loss = parts.masked_loss(task, source, 6)
    assert loss == pytest.approx(result["value"], rel=1e-4)
    assert load_mim_task(str(place.preset), 0.3).masking.get_config()["mask_ratio_range"] == 0.2

    shown = task.reconstruct(np.stack([source.image(i) for i in range(4)]))
    pictures.draw_reconstruction(shown, tmp_path / "seen.png")
    assert (tmp_path / "seen.png").stat().st_size > 1000
    assert list(place.path.glob("reconstruction_*.png"))

    tuning = recipe_for(str(place.preset))
    assert tuning.name == "mixmim_nano_finetune_fmnist_32"
    tuned = finetune(
        str(place.preset), source, tmp_path / "tuned", short(tuning), validation=source, say=str
    )
    assert (tuned.preset / "model.weights.h5").is_file()


def test_an_odd_batch_is_refused(tmp_path, pico):
    recipe = short(get_recipe("mixmim_nano_fmnist_5ep")).with_changes(batch_size=5)
    with pytest.raises(ValueError, match="a multiple of 2"):
        pretrain(recipe, tiny(22), tmp_path / "run", say=str)


def test_the_first_recipe_of_fine_tuning_is_for_224_px():
    tunings = [name for name in list_recipes("finetune") if name.startswith("mixmim_base_")]
    assert tunings[0] == "mixmim_base_finetune_in1k_224"
