"""A study's report: a CSV file of all cells, figures, and Markdown that reads them."""

from collections.abc import Callable
from pathlib import Path

from mimzoo_training.files import write_file
from mimzoo_training.study import figures
from mimzoo_training.study.findings import judge
from mimzoo_training.study.laws import DRAWS, Law, fit_laws
from mimzoo_training.study.rows import (
    Row,
    accuracies,
    accuracy_label,
    amount,
    average,
    correlation,
    grouped,
    is_balanced,
    overfitted,
    pick,
    values,
    write_csv,
)
from mimzoo_training.study.spec import Study
from mimzoo_training.study.verdict import PAPERS, UNTESTABLE, Finding

_LAWS = (
    "Validation loss = floor + scale x ** -exponent, by least squares over the best run at each "
    f"amount or size, and over the runs that beat all cheaper ones. In brackets: 95 % of {DRAWS} "
    "bootstrap samples of the runs; a sample may miss the best run, so the band leans upwards."
)


def write_report(
    folder: Path,
    study: Study,
    rows: list[Row],
    *,
    source: str,
    fit: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Writes `study.csv`, figures and `report.md`, and prints the correlations.

    Args:
        folder: where.
        study: that was run.
        rows: of the cells that are finished.
        source: of the images, for captions.
        fit: whether scaling laws are fitted, too.
        say: gets a line for each correlation, law and file.
    """
    write_csv(rows, folder / "study.csv")
    findings = judge(rows)
    plain = list(filter(is_balanced, rows))
    made = draw(folder, study, plain, source)
    laws = {f: fit_laws(pick(plain, family=f)) for f in values(plain, "family")} if fit else {}
    for family, found in laws.items():
        if found:
            made.append((family, name := f"scaling_laws_{family.replace(' ', '_')}.png"))
            figures.laws(found, folder / name, f"{study.name}, {family}; {source}.")
        for law in found:
            say(f"{family}: {law}")
    text = markdown(study, rows, findings, made, source, laws)
    write_file(folder / "report.md", lambda path: path.write_text(text, encoding="utf-8"))
    for family in values(plain, "family"):
        for accuracy in accuracies(plain):
            r = correlation(pick(plain, family=family), "val_loss", accuracy)
            if r is not None:
                say(f"{family}: validation loss and {accuracy_label(accuracy)}: r = {r}")
    names = ["report.md", "study.csv", *dict.fromkeys(n for _, n in made)]
    say(f"{folder}: {', '.join(names)}")


def draw(folder: Path, study: Study, rows: list[Row], source: str) -> list[tuple[str, str]]:
    """(kind, file name) of each figure that the rows are enough for."""
    made: list[tuple[str, str]] = []
    known = accuracies(rows)

    def add(kind: str, name: str, make: Callable[..., None], *arguments: object) -> None:
        make(*arguments)
        made.append((kind, name))

    for family in values(rows, "family"):
        group = pick(rows, family=family)
        caption = f"{study.name}, {family}; {source}."
        short = family.replace(" ", "_")
        several = len(set(values(group, "images"))) > 1
        if several and len(set(values(group, "steps"))) > 1:
            name = f"loss_against_length_{short}.png"
            add(
                "loss_against_length",
                name,
                figures.loss_against_length,
                group,
                folder / name,
                caption,
            )
            for accuracy in known[:1]:
                name = f"overview_{short}.png"
                add("overview", name, figures.overview, group, accuracy, folder / name, caption)
        for accuracy in known if several else []:
            for kind in ("accuracy_against_loss", "accuracy_against_data"):
                name = f"{kind}_{short}_{accuracy}.png"
                add(kind, name, getattr(figures, kind), group, accuracy, folder / name, caption)
    if len(values(rows, "family")) > 1 and known:
        for by in ("images_seen", "seconds"):
            name = f"compare_{by}_{known[0]}.png"
            caption = f"{study.name}; {source}."
            add(f"compare_{by}", name, figures.compare, rows, known[0], by, folder / name, caption)
    return made


def markdown(
    study: Study,
    rows: list[Row],
    findings: list[Finding],
    made: list[tuple[str, str]],
    source: str,
    laws: dict[str, list[Law]],
) -> str:
    """The report's text."""
    seeds = len(set(values(rows, "seed")))
    lines = [
        f"# {study.title}",
        "",
        f"{len(rows)} of {len(study.cells)} cells of the study `{study.name}`: {source}"
        f"{f', up to {seeds} seeds a cell' if seeds > 1 else ''}. Made by `mimzoo study`; all "
        "numbers are in [study.csv](study.csv).",
        "",
        *(f"![{name}]({name})\n" for kind, name in made if kind == "overview"),
        "## Findings",
        "",
        "Each is a sentence of a paper and a rule that the numbers meet or not "
        "(`scaling.py` and `comparing.py` in `mimzoo_training/study`).",
        "",
    ]
    shown: set[str] = set()
    for finding in findings:
        names = [n for kind, n in made if kind == finding.figure and n not in shown]
        shown.update(names)
        if finding.verdict != UNTESTABLE:
            lines += [f"### {finding.paper}: {finding.claim}", "", f"**{finding.verdict}**", ""]
            lines += [*(f"- {text}" for text in finding.evidence), ""]
        lines += [f"![{name}]({name})\n" for name in names]
    open_ones = [f for f in findings if f.verdict == UNTESTABLE]
    if open_ones:
        lines += ["These cells cannot test:", ""]
        for f in open_ones:
            why = f" ({'; '.join(f.evidence)})" if f.evidence else ""
            lines.append(f"- {f.paper}: {f.claim.rstrip('.')}{why}")
        lines.append("")
    if laws:
        lines += ["## Scaling laws", "", _LAWS, ""]
    for family, found in laws.items():
        lines += [f"- {family}: {law}" for law in found]
        if not found:
            lines.append(f"- {family}: too few different amounts, sizes or lengths for a fit")
        lines += [f"\n![{name}]({name})\n" for kind, name in made if kind == family]
    lines += ["## Numbers", ""]
    for family in values(rows, "family"):
        lines += [f"### {family}", "", *_table(pick(rows, family=family)), ""]
    ring = "Ring (○): worse than a shorter run on the same images."
    lines += [f"Mean over seeds ± standard deviation. {ring}"]
    lines += ["", *(f"{letter}: {title}." for letter, title in PAPERS.items())]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: list[Row]) -> list[str]:
    """One line for each size, amount of data and length."""
    known = accuracies(rows)
    plain = list(filter(is_balanced, rows))
    worse = overfitted(plain)
    heads = ["size", "images", "steps", "seeds", "validation loss", *map(accuracy_label, known)]
    lines = [heads]
    keys = ("size", "images", "steps", "sampling")
    for (size, images, steps, _), group in grouped(rows, keys).items():
        loss = average(group, "val_loss")
        longest = steps == max(values(pick(rows, size=size, images=images), "steps"))
        longest &= is_balanced(group[0])
        ring = " ○" if longest and (group[0]["family"], size, images) in worse else ""
        cells = [size, amount(group[0]), f"{steps:,}", str(len(group)), f"{loss}{ring}"]
        for name in known:
            m = average(group, name)
            spread = f" ± {100 * m.spread:.1f}" if m and m.count > 1 else ""
            cells.append(f"{100 * m.value:.1f}{spread} %" if m else "")
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(t.ljust(w) for t, w in zip(cells, widths, strict=True)) + " |"

    return [line(lines[0]), line(["-" * w for w in widths]), *map(line, lines[1:])]
