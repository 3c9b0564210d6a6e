"""What a model reaches on each class, as a table for a terminal."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SHOWN = 20


def class_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Callable[[Mapping[str, Any]], str]],
    value: str,
    metric: str,
    count: str,
    thing: str,
) -> str:
    """A table of at most 20 classes, the worst ones if there are more, and the absent ones.

    Args:
        rows: {"name", …} of each class.
        columns: heading -> what it shows of a row.
        value: key of what makes a class worse; None where there is nothing to measure.
        metric: what that is called.
        count: key of how much there is of a class.
        thing: of which there is none of an absent class.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    known = [row for row in rows if row[value] is not None]
    more = len(known) - SHOWN
    if more > 0:
        known = sorted(known, key=lambda row: row[value])[:SHOWN]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in known:
        table.add_row(Text(row["name"]), *(show(row) for show in columns.values()))
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    if more > 0:
        lines.append(f"and {more} classes with higher {metric}, in results.json")
    if absent := [row["name"] for row in rows if not row[count]]:
        lines.append(f"no {thing} of {len(absent)} classes: {few(absent)}")
    return "\n".join(lines)


def few(names: Sequence[str]) -> str:
    """The first 20 names."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
