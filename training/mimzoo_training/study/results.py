"""What a cell measured, in the words of its preset's `results.json` and of the catalogue."""

from pathlib import Path

from mimzoo.hub.vocabulary import length
from mimzoo_training.files import read_json, write_file, write_json
from mimzoo_training.study.rows import Row, measured
from mimzoo_training.study.spec import Study

NEIGHBOURS = 20


def words(study: Study, name: str) -> str:
    """ "probe_100" -> "accuracy, linear probe on 100 labels, mean-pooled features"."""
    kind, _, labels = name.partition("_")
    on = f"on {int(labels):,} labels"
    if kind == "finetune":
        entry = next(e for e in study.finetune if e["labels"] == int(labels))
        return f"accuracy, fine-tuned {on} for {length(entry['length'])}"
    neighbours = study.features.get("k", NEIGHBOURS)
    called = {"probe": "linear probe", "knn": f"{neighbours} nearest neighbours"}
    return f"accuracy, {called[kind]} {on}, mean-pooled features"


def record(preset: Path, row: Row, study: Study, tested: str) -> None:
    """Adds a cell's accuracies to its preset: to `results.json` and the card.

    Args:
        preset: folder of the pretrained preset, with its masked loss.
        row: of `cell.json`.
        study: that the cell is of.
        tested: images of the accuracies.
    """
    from mimzoo.hub.card import card

    path = preset / "results.json"
    loss = read_json(path)[0]
    shared = {"data": tested, **{key: loss[key] for key in ("date", "command", "backend")}}
    accuracies = ({"metric": words(study, n), "value": row[n], **shared} for n in measured(row))
    write_json(path, [loss, *accuracies])
    text = card(preset)
    write_file(preset / "README.md", lambda copy: copy.write_text(text, encoding="utf-8"))
