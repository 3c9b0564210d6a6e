"""SimMIM through the runner: pretrain, go on, fine-tune; named subsets."""

import dataclasses
import json

import numpy as np
import pytest
from mimzoo_training import parts
from mimzoo_training.classify import recipe_for
from mimzoo_training.finetune import finetune
from mimzoo_training.measure import load_mim_task
from mimzoo_training.recipes import get_recipe
from mimzoo_training.runner import pretrain
from mimzoo_training.workdir import RunError, Workdir

from mimzoo.data import ArraySource, named_subset, read_scores, take_subset
from mimzoo.data.named_subsets import NAMED_SUBSETS, NamedSubset, example_id
from mimzoo.models import SwinV2Backbone
from mimzoo.pretraining import SimMIM, SlidingWindowTarget


class Files(ArraySource):
    """Images with the names of files."""

    def example_name(self, index: int) -> str:
        return f"n{index % 7:08d}/n{index % 7:08d}_{index}.JPEG"


def files(count: int = 1000) -> Files:
    images = np.zeros((count, 4, 4, 3), "uint8")
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
    return Files(images, np.arange(count) % 7, name="files")


def numbers(source: ArraySource) -> set[int]:
    return {256 * int(image[0, 0, 0]) + int(image[0, 0, 1]) for image in source.images}


def test_named_subsets_are_nested_and_follow_from_names():
    names = [name for name in NAMED_SUBSETS if name.startswith("in1k")]
    parts_of = {name: numbers(named_subset(files(), name)) for name in names}
    assert [len(parts_of[f"in1k{n}"]) for n in (10, 20, 50)] == [100, 200, 500]
    assert parts_of["in1k10"] < parts_of["in1k20"] < parts_of["in1k50"]
    # The list is published: these never change.
    assert sorted(parts_of["in1k10"])[:8] == [10, 21, 36, 46, 50, 55, 56, 58]
    balanced = named_subset(files(), "in1k10", "stratified")
    assert set(np.bincount(balanced.labels)) == {14}


def test_an_example_has_one_id_wherever_it_lies():
    for name in ("train/n01/n01_5.JPEG", "n01\\n01_5.JPEG", "n01_5.JPEG", "n01_5", "a.b/n01_5.png"):
        assert example_id(name) == "n01_5"
    assert example_id("tfds:x:1.0.0 train[3]") == "tfds:x:1.0.0 train[3]"


def test_subsets_that_are_none():
    with pytest.raises(ValueError, match="choose one of in1k10"):
        named_subset(files(), "in1k25")

    class Same(ArraySource):
        def example_name(self, index: int) -> str:
            return f"{index}/image.png"

    same = Same(np.zeros((9, 4, 4, 3), "uint8"), name="same")
    with pytest.raises(ValueError, match="several examples of one name"):
        named_subset(same, "in1k10")


def test_a_recipe_cuts_the_whole_set_to_its_list(monkeypatch):
    monkeypatch.setitem(NAMED_SUBSETS, "in1k20", NamedSubset(200, 1000))
    recipe = dataclasses.replace(get_recipe("swinv2_base_simmim_in1k20_250k"), num_examples=200)
    assert len(parts.subset_for(recipe, files(1000))) == 200
    assert len(parts.subset_for(recipe, files(200))) == 200
    other = take_subset(files(), count=50)
    assert parts.subset_for(recipe, other) is other
    drawn = recipe.with_changes(sampling="stratified")
    assert drawn.name == "swinv2_base_simmim_in1k20_250k_stratified"
    assert len(np.unique(parts.subset_for(drawn, files(1000)).labels)) == 7
    with pytest.raises(ValueError, match="chooses from a whole data set"):
        parts.subset_for(drawn, other)
    with pytest.raises(ValueError, match="'filtered', which needs both"):
        recipe.with_changes(sampling="filtered")


def test_counted_subsets_and_other_samplings(monkeypatch, tmp_path):
    for name, count in (("coyo500k", 50), ("coyo1m", 100)):
        monkeypatch.setitem(NAMED_SUBSETS, name, NamedSubset(count))
    small, large = (numbers(named_subset(files(), n)) for n in ("coyo500k", "coyo1m"))
    assert (len(small), len(large)) == (50, 100)
    assert small < large
    # Odd numbers have a score of 0.4, even ones of 0.2; those of 100 have none.
    rows = [f"x/{i}.JPEG,{0.4 if i % 2 else 0.2}" for i in range(1000) if i % 100]
    rows = [f"n{int(r[2:].partition('.')[0]) % 7:08d}_{r[2:]}" for r in rows]
    (tmp_path / "scores.csv").write_text("id,score\n" + "\n".join(rows) + "\n")
    scores = read_scores(tmp_path / "scores.csv")
    kept = numbers(named_subset(files(), "coyo1m", "filtered", scores, 0.3))
    assert len(kept) == 100
    assert all(number % 2 for number in kept)
    kept = numbers(named_subset(files(), "coyo1m", "filtered", scores, 0.1))
    assert any(number % 2 == 0 for number in kept)
    assert all(number % 100 for number in kept)
    with pytest.raises(ValueError, match=r"coyo1m is 100 images, and files has 0 with a score"):
        named_subset(files(), "coyo1m", "filtered", scores, 0.5)
    with pytest.raises(ValueError, match="coyo1m is 100 images, and files has 60"):
        named_subset(files(60), "coyo1m")
    with pytest.raises(ValueError, match="'filtered', which needs both"):
        named_subset(files(), "coyo1m", "filtered", scores)
    (tmp_path / "scores.csv").write_text("id,score\na,high\n")
    with pytest.raises(ValueError, match="line 2: 'high' is no score"):
        read_scores(tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("a,1\n")
    with pytest.raises(ValueError, match="names the columns id and score"):
        read_scores(tmp_path / "scores.csv")


@pytest.fixture(scope="module")
def source():
    random = np.random.default_rng(1)
    labels = np.arange(22) % 2
    images = random.integers(0, 100, (22, 8, 8, 3)) + 120 * labels[:, None, None, None]
    return ArraySource(images.astype("uint8"), labels, ("dark", "light"), "tiny train")


@pytest.fixture
def pico(monkeypatch):
    """A size of its own, with two blocks."""
    sizes = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
    monkeypatch.setitem(SwinV2Backbone.sizes, "nano", {**SwinV2Backbone.sizes["nano"], **sizes})


def short(recipe, **changes):
    return dataclasses.replace(
        recipe, length="2it", warmup="0it", batch_size=4, crop_padding=1, **changes
    )


@pytest.mark.one_backend
def test_pretrain_and_finetune(source, tmp_path, pico):
    recipe = get_recipe("swinv2_nano_simmim_fmnist_5ep")
    recipe = short(recipe, num_examples=22).with_task(target={"window_size": 11})
    said = []
    place = pretrain(recipe, source, tmp_path / "run", validation=source, say=said.append)
    assert "swinv2_nano_simmim_fmnist" in said[0]
    (result,) = json.loads((place.path / "results.json").read_text())
    task = load_mim_task(str(place.preset))
    assert isinstance(task, SimMIM)
    assert isinstance(task.backbone, SwinV2Backbone)
    assert isinstance(task.target, SlidingWindowTarget)
    loss = parts.masked_loss(task, source, 5)
    assert loss == pytest.approx(result["value"], rel=1e-4)

    tuning = recipe_for(str(place.preset))
    assert tuning.name == "swinv2_nano_simmim_finetune_fmnist_32"
    tuned = finetune(
        str(place.preset), source, tmp_path / "tuned", short(tuning), validation=source, say=str
    )
    assert (tuned.preset / "model.weights.h5").is_file()
    vit = short(get_recipe("vit_nano_mae_finetune_fmnist_28"))
    with pytest.raises(ValueError, match=r"for a backbone 'vit', and .* SwinV2Backbone"):
        finetune(str(place.preset), source, tmp_path / "other", vit, say=str)


def test_the_optimizer_spares_what_simmim_spares():
    recipe = get_recipe("swinv2_nano_simmim_fmnist_5ep")
    task = parts.build_task(recipe)
    optimizer = parts.pretrain_optimizer(recipe, task, parts.schedule(recipe, 60_000))
    variables = task.trainable_variables
    decayed = [v for v, is_decayed in zip(variables, optimizer._decayed, strict=True) if is_decayed]
    assert {v.path.rpartition("/")[2] for v in decayed} == {"kernel"}
    assert not [v.path for v in decayed if "position_bias" in v.path]
    assert parts.no_weight_decay(recipe, task) == list(recipe.no_weight_decay)
    rate = parts.schedule(get_recipe("swinv2_base_simmim_in1k_500k"), 1_281_167)
    rates = [float(rate(step)) for step in (0, 6_250, 437_499, 437_500)]
    assert rates == pytest.approx([2e-6, 4e-4, 4e-4, 4e-5])


def test_two_runs_do_not_share_a_folder(tmp_path):
    place = Workdir(tmp_path / "run")
    second = Workdir(tmp_path / "run").locked()
    with place.locked(), pytest.raises(RunError, match="another run is at work"):
        second.__enter__()
    with place.locked():
        pass
