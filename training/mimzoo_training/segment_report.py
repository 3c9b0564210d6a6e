"""What a segmenter reaches on each class."""

import io
import math
from collections.abc import Sequence
from typing import Any

from mimzoo.tasks.segmentation.confusion import Confusion

SHOWN = 20


def by_class(confusion: Confusion, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """{"name", "pixels", "iou"} of each class; the IoU of a class that does not occur is None."""
    names = names or [str(number) for number in range(len(confusion.counts))]
    return [
        {"name": name, "pixels": pixels, "iou": None if math.isnan(iou) else round(iou, 6)}
        for name, pixels, iou in zip(
            names, confusion.pixels.tolist(), confusion.iou.tolist(), strict=True
        )
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """A table of at most 20 classes for a terminal, the worst ones if there are more."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    known = [row for row in rows if row["iou"] is not None]
    more = len(known) - SHOWN
    if more > 0:
        known = sorted(known, key=lambda row: row["iou"])[:SHOWN]
    total = max(sum(row["pixels"] for row in rows), 1)
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("class")
    for heading in ("pixels", "IoU"):
        made.add_column(heading, justify="right")
    for row in known:
        made.add_row(Text(row["name"]), f"{row['pixels'] / total:.1%}", f"{row['iou']:.4f}")
    console = Console(file=io.StringIO(), width=100)
    console.print(made)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    if more > 0:
        lines.append(f"and {more} classes with higher IoU, in results.json")
    absent = [row["name"] for row in rows if not row["pixels"]]
    if absent:
        few = ", ".join(absent[:SHOWN]) + (", …" if len(absent) > SHOWN else "")
        lines.append(f"no pixel of {len(absent)} classes: {few}")
    return "\n".join(lines)
