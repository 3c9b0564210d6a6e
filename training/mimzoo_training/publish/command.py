"""`mimzoo publish`: its arguments to a Publisher, its progress and its table."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub.utils import disable_progress_bars

from mimzoo.hub.cache import readable
from mimzoo.hub.escape import one_line
from mimzoo_training.progress import duration
from mimzoo_training.publish.items import find_item, items_of_grid
from mimzoo_training.publish.publisher import FAILED, PLANNED, PUBLISHED, REFUSED, Publisher


def publish(args: argparse.Namespace) -> int:
    """Publishes presets, and prints a table of the outcomes.

    Returns:
        1 if one failed, or if one that was named is refused, else 0.

    Raises:
        ValueError: nothing to publish, an unknown name, or no way to write to the Hub.
    """
    named = [find_item(text) for text in args.presets]
    items = named + (items_of_grid(args.grid) if args.grid else [])
    items = list({item.name: item for item in items}.values())
    if not items:
        raise ValueError("nothing to publish: name a folder or preset, or a --grid.")
    images = [_existing(path) for path in args.images]
    # One bar for all presets in place of huggingface_hub's one for each file.
    disable_progress_bars()
    outcomes: list[Any] = []
    try:
        with Display() as display:
            publisher = Publisher(
                args.org,
                dry_run=args.dry_run,
                allow_licences=args.allow_licence,
                checkpoints=Path(args.checkpoints) if args.checkpoints else None,
                again=args.again,
                recipe_of=recipe_of,
                draw=lambda found, path: draw(found, path, images),
                progress=display.doing,
            )
            if reason := publisher.check(items):
                print(f"a dry run only: {one_line(reason)}", file=sys.stderr)
            sizes = {item.name: publisher.local_size(item) or 1 for item in items}
            for outcome in display.follow(publisher.run(items), sizes):
                outcomes.append(outcome)
    finally:  # after Ctrl-C, too
        if outcomes:
            _print(outcomes, args.dry_run)
    names = {item.name for item in named}
    for outcome in outcomes:
        if outcome.card and outcome.name in names:
            print(f"\n--- README.md of {outcome.name} ---\n{_lines(outcome.card)}")
    bad = [o for o in outcomes if o.what == FAILED or (o.what == REFUSED and o.name in names)]
    return 1 if bad else 0


def recipe_of(entry: Any) -> dict | None:
    """The recipe behind official weights, where it is known; None for another project's."""
    from mimzoo_training.recipes import get_recipe

    if not entry.recipe or (entry.checkpoint and entry.checkpoint.by != "official"):
        return None
    try:
        return get_recipe(entry.recipe).to_json()
    except ValueError:
        return None


def draw(found: Any, path: Path, images: list[Path]) -> None:
    """Draws reconstructions of images, or of Fashion-MNIST's for a model that was trained on it."""
    from mimzoo.data import decode_image, open_source
    from mimzoo_training import measure
    from mimzoo_training.pictures import draw_reconstruction

    if images:
        pixels = [decode_image(str(image)) for image in images]
    elif found.axes.get("data") == "fmnist":
        pixels = list(open_source("embedded", "test").images[:8])
    else:
        return
    task = measure.load_mim_task(str(found.path))
    pixels += pixels[-1:] * (len(pixels) % task.multiple)  # MixMIM mixes pairs
    draw_reconstruction(task.reconstruct(pixels), path)


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise ValueError(f"there is no image {path}.")
    return Path(path)


class Display:
    """Progress: a bar with the time left on a terminal, elsewhere a line for each preset."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Display":
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                BarColumn(), TextColumn("{task.completed}/{task.total} {task.description}")
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def doing(self, name: str, what: str) -> None:
        """Shows the current step."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=f"{name}: {what}{self._left}")

    def follow(self, outcomes: Iterator[Any], sizes: dict[str, int]) -> Iterator[Any]:
        """Passes outcomes on, and shows them.

        Args:
            outcomes: one a preset.
            sizes: the weight of each in the estimate of the time left.
        """
        total, done, left = len(sizes), 0, sum(sizes.values())
        worked, seconds = 0, 0.0
        begun = time.monotonic()
        self._left = ""
        if self._bar is not None:
            self._task = self._bar.add_task("", total=total)
        for outcome in outcomes:
            done, left = done + 1, left - sizes[outcome.name]
            # Presets published before take no time, so they say nothing of the rest.
            if outcome.what in (PUBLISHED, PLANNED):
                worked, seconds = worked + sizes[outcome.name], seconds + outcome.seconds
            rest = f", about {duration(seconds / worked * left)} left" if worked and left else ""
            line = f"{outcome.name}: {outcome.what} in {duration(outcome.seconds)}"
            if self._bar is None:
                print(f"[{done}/{total}] {line}{rest}", flush=True)
            else:
                self._left = rest
                self._bar.update(self._task, completed=done, description=line + rest)
            yield outcome
        spent = duration(time.monotonic() - begun)
        if self._bar is None:
            print(f"{total} presets in {spent}", flush=True)


def _print(outcomes: list[Any], dry_run: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=400, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("preset", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("", overflow="fold")
    for outcome in outcomes:
        table.add_row(outcome.name, outcome.what, Text(one_line(outcome.note)))
        if dry_run:
            for name, size in outcome.files.items():
                table.add_row(Text(f"  {one_line(name)}"), "", readable(size))
    console.print(table)
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.what] = counts.get(outcome.what, 0) + 1
    summary = ", ".join(f"{number} {what}" for what, number in counts.items())
    size = sum(outcome.size for outcome in outcomes)
    print(summary + (f", {readable(size)}" if size else ""))


def _lines(text: str) -> str:
    """The text for a terminal, with the indentation of YAML and BibTeX."""
    lines = ((line, one_line(line)) for line in text.splitlines())
    return "\n".join(" " * (len(line) - len(line.lstrip(" "))) + plain for line, plain in lines)
