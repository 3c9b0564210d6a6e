"""What `mimzoo doctor` finds wrong, and how it is printed."""

import dataclasses
from collections import Counter, defaultdict

from rich.table import Table
from rich.text import Text

_SHOWN = 3
_MAX_ROWS = 30


@dataclasses.dataclass
class Findings:
    """Faults: kind -> how often, and a few examples of it."""

    counts: Counter = dataclasses.field(default_factory=Counter)
    shown: dict[str, list[str]] = dataclasses.field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, text: str) -> None:
        """Notes one problem."""
        from mimzoo.data.ids import printable

        self.counts[kind] += 1
        if len(self.shown[kind]) < _SHOWN:
            self.shown[kind].append(printable(text))


def table_of(first: str, *others: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def print_counts(what: str, splits: list[str], counts: dict[str, Counter]) -> None:
    """Prints a table: of each class how often it is in each split."""
    from mimzoo_training.listing import _console

    table = table_of(what, *splits)
    for label in list(counts)[:_MAX_ROWS]:
        table.add_row(Text(label), *(str(counts[label][name]) for name in splits))
    _console().print(table)
    if len(counts) > _MAX_ROWS:
        _console().print(f"and {len(counts) - _MAX_ROWS} more")


def report(findings: Findings) -> int:
    """Prints what is wrong; gives the exit status."""
    from mimzoo_training.listing import _console

    if not findings.counts:
        _console().print("nothing is wrong")
        return 0
    table = table_of("what is wrong", "count", "such as")
    table.columns[2].justify = "left"
    for kind, count in findings.counts.items():
        more = count - len(findings.shown[kind])
        shown = "\n".join(findings.shown[kind]) + (f"\nand {more} more" if more > 0 else "")
        table.add_row(kind, str(count), Text(shown))
    _console().print(table)
    return 1
