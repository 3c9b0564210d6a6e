"""All that three papers found, asked of a study's rows: rules that can come out either way."""

from mimzoo_training.study.comparing import (
    COSTS,
    mixing_helps,
    sampling_hardly_matters,
    strong_targets_help,
)
from mimzoo_training.study.rows import Row, accuracies, is_balanced, pick, values
from mimzoo_training.study.scaling import (
    large_models_are_better,
    large_models_overfit_more,
    length_needs_data,
    loss_predicts,
    more_data_hardly_helps,
    size_needs_data,
    small_data_overfits,
)
from mimzoo_training.study.verdict import Finding


def judge(rows: list[Row]) -> list[Finding]:
    """All findings, in the order of the papers."""
    known = accuracies(rows)
    accuracy = known[0] if known else ""
    every, rows = rows, list(filter(is_balanced, rows))
    scaling = {f: pick(rows, family=f) for f in values(rows, "family")}
    # A grid has sizes, amounts of data and lengths; single runs beside it are comparisons.
    scaling = {f: g for f, g in scaling.items() if len(set(values(g, "images"))) > 1}
    return [
        loss_predicts(scaling, accuracy),
        small_data_overfits(scaling),
        large_models_overfit_more(scaling),
        length_needs_data(scaling, accuracy),
        more_data_hardly_helps(scaling, accuracy),
        size_needs_data(scaling, accuracy),
        large_models_are_better(scaling, accuracy),
        *(strong_targets_help(rows, accuracy, by) for by in COSTS),
        sampling_hardly_matters(every, accuracy),
        *(mixing_helps(rows, accuracy, by) for by in COSTS),
    ]
