"""Studies: what a file may say, what the numbers say, and what published numbers give."""

import itertools

import numpy as np
import pytest
from mimzoo_training.study import load_study
from mimzoo_training.study.comparing import at_cost
from mimzoo_training.study.findings import judge
from mimzoo_training.study.laws import fit_laws, frontier
from mimzoo_training.study.report import write_report
from mimzoo_training.study.rows import (
    correlation,
    overfitted,
    pick,
    published_rows,
    read_csv,
    write_csv,
)
from mimzoo_training.study.sampling import sample
from mimzoo_training.study.spec import Study, shipped, study_of
from mimzoo_training.study.verdict import CONFIRMED, REFUTED, UNTESTABLE

from mimzoo.data import ArraySource

pytestmark = pytest.mark.one_backend

RAW = {
    "title": "A test",
    "models": {
        "small": {
            "recipe": "vit_nano_mae_fmnist",
            "size": "s",
            "changes": {"architecture": {"embed_dim": 16}, "decoder_dim": 8},
        }
    },
    "grid": [
        {"models": ["small"], "data": [0.1, 600], "lengths": ["10it", "2ep"]},
        {"models": ["small"], "data": [600], "lengths": ["10it"], "seeds": [0, 1]},
    ],
    "evaluate": {
        "finetune": [{"labels": 100, "length": "2ep"}],
        "features": {"labels": [10, 100]},
    },
}


def test_a_study_is_its_cells():
    study = study_of("test", RAW)
    assert [cell.name for cell in study.cells] == [
        "small_10pct_10it_seed0",
        "small_10pct_2ep_seed0",
        "small_600img_10it_seed0",
        "small_600img_2ep_seed0",
        "small_600img_10it_seed1",
    ]
    recipe = study.cells[-1].recipe()
    assert (recipe.seed, recipe.length, recipe.part("decoder")["embed_dim"]) == (1, "10it", 8)
    assert recipe.part("backbone")["embed_dim"] == 16
    assert recipe.inferred["task"] == "set by the study"
    assert study.labels == [100, 10, 100]


def test_learning_rates_are_an_axis():
    grid = [{**RAW["grid"][1], "seeds": [0], "peak_learning_rates": [3e-4, 0.01]}]
    cells = study_of("test", {**RAW, "grid": grid}).cells
    assert [cell.name for cell in cells] == [
        "small_rate3e-4_600img_10it_seed0",
        "small_rate1e-2_600img_10it_seed0",
    ]
    recipes = [cell.recipe() for cell in cells]
    assert [recipe.peak_learning_rate for recipe in recipes] == pytest.approx([3e-4, 0.01])
    assert len({recipe.name for recipe in recipes}) == 2
    assert cells[0].size(recipes[0]).endswith(", rate 3e-4")
    model = RAW["models"]["small"]
    model = {**model, "changes": {**model.get("changes", {}), "peak_learning_rate": 0.002}}
    cell = study_of("test", {**RAW, "models": {"small": model}}).cells[0]
    assert cell.recipe().peak_learning_rate == pytest.approx(0.002)
    model["changes"]["base_learning_rate"] = 0.1
    with pytest.raises(ValueError, match="give one"):
        cell.recipe()


def test_samplings_are_parts_of_names_and_choose_images():
    grid = [{**RAW["grid"][1], "seeds": [0], "samplings": ["random", "balanced"]}]
    cells = study_of("test", {**RAW, "grid": grid}).cells
    assert [cell.name for cell in cells] == [
        "small_600img-random_10it_seed0",
        "small_600img_10it_seed0",
    ]
    images = np.zeros((40, 2, 2, 3), "uint8")
    images[1::2, 0] = 9  # every second one has contrast
    labels = np.arange(40) // 20
    source = ArraySource(images, labels)
    assert np.bincount(sample(source, 10, "balanced", 0).labels).tolist() == [5, 5]
    assert len(sample(source, 0.25, "random", 0)) == 10
    found = [sample(source, 8, "random", seed).labels.sum() for seed in range(20)]
    assert len(set(found)) > 1
    half = sample(source, 20, "contrast", 0).images
    assert half[:, 0].min() == 9
    numbered = ArraySource(np.tile(np.arange(40, dtype="uint8")[:, None, None, None], (1, 1, 1, 3)))
    repeated = sample(numbered, 20, "repeated", 0).images[..., 0]
    assert np.unique(repeated, return_counts=True)[1].tolist() == [10, 10]
    with pytest.raises(ValueError, match="takes 30 of 60 images"):
        sample(source, 30, "contrast", 0)


@pytest.mark.parametrize("name", shipped())
def test_every_recipe_of_the_studies_that_come_along_exists(name):
    study = load_study(name)
    assert len({cell.name for cell in study.cells}) == len(study.cells) > 1
    assert all(isinstance(cell.recipe().batch_size, int) for cell in study.cells)


@pytest.mark.parametrize(
    ("change", "printed"),
    [
        ({"grids": []}, "'grids' is unknown; did you mean grid?"),
        ({"grid": []}, "has no cells"),
        (
            {"grid": [{"models": ["big"], "data": [1], "lengths": ["1ep"]}]},
            "'big'; there are small",
        ),
        ({"grid": [{"models": ["small"], "data": [1.5], "lengths": ["1ep"]}]}, "data must be"),
        ({"grid": [{**RAW["grid"][0], "samplings": ["odd"]}]}, "samplings are balanced, random"),
        ({"grid": [{**RAW["grid"][0], "data": [1], "samplings": ["random"]}]}, "need a part"),
        ({"grid": [{**RAW["grid"][0], "peak_learning_rates": [0]}]}, "above 0, not 0"),
        ({"evaluate": {"finetune": [{"labels": 5}]}}, "needs a length"),
        ({"evaluate": {"finetune": [{"length": "5ep"}]}}, "labels must be a number"),
        ({"evaluate": {"features": {"labels": [1], "kinds": ["svm"]}}}, "probe and knn"),
        ({"models": None}, "has no `models`"),
        (
            {
                "models": {"../x": RAW["models"]["small"]},
                "grid": [{**RAW["grid"][0], "models": ["../x"]}],
            },
            "cannot be the name of a folder",
        ),
    ],
)
def test_a_wrong_file_is_told(change, printed):
    raw = {key: value for key, value in {**RAW, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=printed):
        study_of("test", raw)


def test_wrong_names_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="did you mean simmim_data_scaling"):
        load_study("simim_data_scaling")
    path = tmp_path / "x.toml"
    path.write_text("title = ")
    with pytest.raises(ValueError, match="cannot be read"):
        load_study(str(path))
    raw = {**RAW, "models": {"small": {"recipe": "vit_nano_mea_fmnist"}}}
    with pytest.raises(ValueError, match=r"unknown recipe .*vit_nano_mae_fmnist"):
        study_of("x", raw).cells[0].recipe()
    raw = {**RAW, "models": {"small": {**RAW["models"]["small"], "changes": {"batch": 2}}}}
    with pytest.raises(ValueError, match="'batch' is unknown"):
        study_of("x", raw).cells[0].recipe()


def test_published_results_of_the_grid():
    """The correlation over the released cells of paper A, and what the paper says of it."""
    rows = published_rows(load_study("simmim_data_scaling"))
    assert len(rows) == 63
    r = correlation(rows, "val_loss", "top1")
    assert r.value == pytest.approx(-0.79, abs=0.005)
    assert -0.95 < r.low < r.value < r.high < -0.5
    verdicts = {finding.claim: finding.verdict for finding in judge(rows)}
    assert list(verdicts.values())[:7] == [CONFIRMED] * 7, verdicts
    assert list(verdicts.values())[7:] == [UNTESTABLE] * 5, verdicts
    worse = overfitted(rows)
    assert ("simmim swinv2", "giant", 640_584) in worse
    assert not any(images > 1_000_000 for _, _, images in worse)


def power_law(floor=0.4, scale=2.0, exponent=0.5, noise=0.0):
    random = np.random.default_rng(0)
    return [
        {
            "images": n,
            "weights": weights,
            "val_loss": floor + scale * n**-exponent + 0.01 * k + noise * random.normal(),
        }
        for n in (100, 300, 1000, 3000, 10_000)
        for k, weights in enumerate((10, 20))
    ]


def test_a_law_is_found_again():
    (law,) = fit_laws(power_law())  # two sizes are too few for a law of size
    assert law.column == "images"
    found = law.floor.value, law.scale.value, law.exponent.value
    np.testing.assert_allclose(found, (0.4, 2.0, 0.5), rtol=1e-6)
    (noisy,) = fit_laws(power_law(noise=0.003))
    assert noisy.floor.low < 0.4 < noisy.floor.high
    assert noisy.exponent.low < 0.5 < noisy.exponent.high
    assert noisy.exponent.low < noisy.exponent.value < noisy.exponent.high


def test_laws_keep_to_what_a_loss_can_be():
    # Of losses that rise with the images, and of ones that would need a floor below 0.
    (rising,) = fit_laws(power_law(scale=-0.5))
    assert rising.scale.value == 0
    (falling,) = fit_laws(power_law(floor=-0.05, scale=2.0))
    assert falling.floor.value == 0
    assert not fit_laws(power_law()[:6])


def test_the_best_runs_of_compute():
    points = frontier(np.array([1, 2, 3, 3]), np.array([0.5, 0.6, 0.4, 0.45]), "flops")
    assert points == [(1, 0.5), (3, 0.4)]


def made_up(overfit=0.02, gain=0.05, larger=0.01, seeds=(0, 1)):
    """Rows of a grid in which few images are overfitted and more images help."""
    rows = []
    axes = (("s", 1), ("l", 2)), (100, 1000), (10, 40), seeds
    for number, ((size, rank), images, steps, seed) in enumerate(itertools.product(*axes)):
        few_and_long = images == 100 and steps == 40
        loss = 0.5 - 0.01 * rank - 0.001 * steps + (overfit * rank + 0.03) * few_and_long
        accuracy = 0.6 + gain * (images == 1000) * (steps == 40) * rank - 0.02 * few_and_long
        accuracy += larger * (rank - 1)
        rows.append(
            {
                "name": f"cell{number}",
                "family": "mae vit",
                "model": f"mae_{size}",
                "size": size,
                "data": images,
                "images": images,
                "length": f"{steps}it",
                "steps": steps,
                "images_seen": steps * 10,
                "seed": seed,
                "weights": rank,
                "seconds": steps * rank,
                "val_loss": loss + 1e-4 * seed,
                "finetune_100": accuracy + 1e-3 * seed,
            }
        )
    return rows


def verdicts(rows):
    return [finding.verdict for finding in judge(rows)]


def test_findings_come_out_either_way():
    rows = made_up()
    assert verdicts(rows)[:7] == [CONFIRMED] * 7
    # No overfitting, and no gain: longer and larger is only better.
    other = made_up(overfit=-0.03, gain=0.0, larger=0.0)
    assert verdicts(other)[1:3] == [REFUTED, REFUTED]
    assert verdicts(other)[5:7] == [REFUTED, REFUTED]
    # A teacher's features and MixMIM, at the cost of the smaller MAE's long run.
    shared = {"size": "s", "steps": 40, "images_seen": 400, "seconds": 41, "images": 1000}
    strong = {**rows[0], **shared, "family": "mae vit features", "model": "f", "finetune_100": 0.9}
    mixed = {**rows[0], **shared, "family": "mixmim", "model": "m", "finetune_100": 0.1}
    assert verdicts([*rows, strong, mixed])[7:] == [
        CONFIRMED,
        CONFIRMED,
        UNTESTABLE,
        REFUTED,
        REFUTED,
    ]
    # Twice the time of the longest rival: nothing to compare with.
    slow = {**mixed, "seconds": 100}
    assert verdicts([*rows, slow])[7:] == [UNTESTABLE] * 3 + [REFUTED, UNTESTABLE]


def test_samplings_are_compared_with_the_balanced_one(tmp_path):
    rows = made_up()
    drawn = [row | {"sampling": "random"} for row in pick(rows, images=1000, size="s")]
    others = [f.claim for f in judge(rows) if f.verdict != UNTESTABLE]
    (finding,) = [f for f in judge(rows + drawn) if "sampled" in f.claim]
    assert (finding.verdict, len(finding.evidence)) == (CONFIRMED, 2)
    worse = [row | {"finetune_100": row["finetune_100"] - 0.1} for row in drawn]
    found = judge(rows + worse)
    (finding,) = [f for f in found if "sampled" in f.claim]
    assert finding.verdict == REFUTED
    assert "random 50.0 ± 0.1 %, balanced 60.1 ± 0.1 % (-10.0 points" in "; ".join(finding.evidence)
    # Nothing else looks at them.
    assert [f.claim for f in found if f.verdict != UNTESTABLE] == [*others, finding.claim]
    study = Study("test", "A test", {}, study_of("test", RAW).cells, [], {})
    write_report(tmp_path, study, rows + worse, source="noise", say=lambda line: None)
    assert "| s    | 1,000, random | 40" in (tmp_path / "report.md").read_text()


def test_what_seeds_differ_by_confirms_nothing():
    rows = made_up()
    noisy = [row | {"val_loss": row["val_loss"] + 0.1 * row["seed"]} for row in rows]
    assert verdicts(noisy)[1:3] == [REFUTED, REFUTED]
    few, large = judge(rows)[1:3]
    change = "100 images: loss 0.5 ± 7.1e-05 after 40 steps, 0.48 ± 7.1e-05 after 10 (+0.0200)"
    assert change in few.evidence[0]
    assert "(greatest std over seeds 0.0001)" in large.evidence[0]


def test_accuracy_at_a_cost_lies_between_runs():
    rows = [row for row in made_up(seeds=(0,)) if row["model"] == "mae_s" and row["images"] == 1000]
    # 100 images: 0.6; 400 images: 0.65; half way by the logarithm.
    found = [at_cost(rows, "finetune_100", "images_seen", cost) for cost in (100, 200, 400, 430)]
    assert [m.value for m in found] == pytest.approx([0.6, 0.625, 0.65, 0.65])
    assert at_cost(rows, "finetune_100", "images_seen", 450) is None
    assert at_cost(rows[:1], "finetune_100", "images_seen", 95).value == 0.6


def test_a_report_of_everything(tmp_path):
    rows = made_up()
    mixed = {**rows[0], "family": "mixmim", "model": "m"}
    study = Study("test", "A test", {}, study_of("test", RAW).cells, [], {})
    said = []
    write_report(tmp_path, study, [*rows, mixed], source="noise", fit=True, say=said.append)
    text = (tmp_path / "report.md").read_text()
    figures = {path.name for path in tmp_path.glob("*.png")}
    assert figures == {
        "loss_against_length_mae_vit.png",
        "overview_mae_vit.png",
        "accuracy_against_loss_mae_vit_finetune_100.png",
        "accuracy_against_data_mae_vit_finetune_100.png",
        "compare_images_seen_finetune_100.png",
        "compare_seconds_finetune_100.png",
    }
    assert all(f"]({name})" in text for name in figures if not name.startswith("compare"))
    assert "| s    | 100    | 40    | 2     |" in text
    assert "r = -0." in said[0]
    again = read_csv(tmp_path / "study.csv")
    assert again == [*rows, mixed]
    write_csv(again, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "study.csv").read_text()
