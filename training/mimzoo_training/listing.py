"""`mimzoo list`, `info` and `cache`: the catalogue, recipes and downloads, without Keras."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from mimzoo_training.entries import entry, how_to_get, json_of, pixels, results, value_text
from mimzoo_training.recipes.objects import is_spec

# What the list shows of a preset: the first of these that it has.
_PREFERRED = (
    "top-1 after fine-tuning at 224 px",
    "top-1 after fine-tuning",
    "top-1",
    "fine-tuned on 1,000 labels",
    "linear probe on 1,000 labels",
    "linear probe on 100 labels",
    "accuracy",
)
FILTERS = ("method", "backbone", "size", "data", "length", "state", "task")


def list_all(args: argparse.Namespace) -> None:
    """Prints what can be loaded at once, then the rest; or one grid with its results.

    Raises:
        ValueError: nothing matches the filters.
    """
    from mimzoo.hub import grid
    from mimzoo.hub.catalogue import STATES, catalogue, list_presets
    from mimzoo_training.recipes import list_recipes

    wanted = {name: getattr(args, name) for name in FILTERS if getattr(args, name)}
    if args.grid and not args.json:
        if wanted or args.contains:
            asked = ", ".join([f"--{name}" for name in wanted] or [args.contains])
            raise ValueError(f"--grid shows all of a grid's results: leave out {asked}.")
        _print_rows(grid(args.grid))
        return
    of_grid = {"grid": args.grid} if args.grid else {}
    names = list_presets(**wanted, **of_grid)
    presets = [catalogue()[name] for name in names if args.contains in name]
    recipes = [] if wanted else [n for n in list_recipes() if args.contains in n]
    if args.json:
        print(json.dumps([entry(preset) for preset in presets], indent=1, ensure_ascii=False))
        return
    if not presets and not recipes:
        raise ValueError(f"no preset and no recipe has {args.contains or wanted!r}.")
    everything = args.all or bool(wanted) or bool(args.contains)
    by_state = {state: [p for p in presets if p.state == state] for state in STATES}
    bundled = by_state.pop(STATES[0])
    _print_presets("Load at once: these come with the package", bundled)
    if not everything:
        _print_grids(presets)
        return
    _print_presets("Downloaded when first loaded", by_state.pop(STATES[1]))
    _print_presets("Recipe only: no weights, `mimzoo pretrain` makes them", by_state[STATES[2]])
    _print_recipes(recipes)


def _print_presets(heading: str, presets: list[Any]) -> None:
    if not presets:
        return
    table = _table("preset", "size", "pixels", "licence", "result")
    for preset in presets:
        side = str(pixels(preset) or "")
        table.add_row(preset.name, _size(preset), side, preset.licence, _best_known(preset))
    _console().print(heading, style="bold")
    _console().print(table)
    _console().print()


def _print_grids(presets: list[Any]) -> None:
    """A line for each grid: what it is about, and how many of its presets have weights."""
    from mimzoo.hub.catalogue import STATES, grids

    table = _table("grid", "presets", "with weights", "about")
    for name, grid in grids().items():
        own = [preset for preset in presets if preset.grid == name]
        weights = sum(preset.state != STATES[2] for preset in own)
        table.add_row(name, str(len(own)), str(weights), grid["title"])
    _console().print(
        "More presets: `mimzoo list --grid NAME`, or `--all` with recipes", style="bold"
    )
    _console().print(table)


def _print_recipes(names: list[str]) -> None:
    from mimzoo_training.recipes import get_recipe

    if not names:
        return
    table = _table("recipe", "for", "data", "length", "batch", "settings")
    for name in names:
        recipe = get_recipe(name)
        origin = recipe.origin.partition(":")[0]
        row = recipe.kind, recipe.data, recipe.length, str(recipe.batch_size), origin
        table.add_row(name, *row)
    _console().print("Recipes", style="bold")
    _console().print(table)


def _size(preset: Any) -> str:
    """The size's name, and the number of weights where a file says it."""
    from mimzoo.hub.vocabulary import count

    metadata = json_of(preset.folder / "metadata.json")
    number = metadata.get("parameter_count")
    return f"{preset.axes['size']}, {count(number)}" if number else preset.axes["size"]


def info(args: argparse.Namespace) -> None:
    """Prints a preset with its origin, results and recipe; or a recipe."""
    from mimzoo.hub.catalogue import catalogue, preset_info
    from mimzoo_training.recipes import get_recipe

    if args.name in catalogue():
        preset = preset_info(args.name)
        _print_preset(preset)
        recipe = get_recipe(preset.recipe) if preset.recipe else None
    else:
        try:
            recipe = get_recipe(args.name)
        except ValueError:
            # Its sentence offers the nearest presets.
            preset_info(args.name)
    if recipe:
        _print_recipe(recipe)


def _console() -> Any:
    """The console of tables; into a file or pipe, rows are not wrapped."""
    from rich.console import Console

    found = Console(highlight=False)
    if found.is_terminal:
        return found
    return Console(width=1000, highlight=False)


def cache(args: argparse.Namespace) -> None:
    """Prints the folders of downloads and conversions, and their contents with sizes."""
    from rich.text import Text

    from mimzoo.hub import cache as caches
    from mimzoo.hub.escape import one_line

    print(f"mimzoo's cache  {caches.cache_folder()}  (MIMZOO_CACHE moves it)")
    print(f"the Hub's       {caches.hub_cache_folder()}  (HF_HOME or HF_HUB_CACHE moves it)")
    if args.clear_partial:
        partial = caches.partial_files()
        freed = sum(path.stat().st_size for path in partial)
        for path in partial:
            path.unlink()
        print(f"removed {len(partial)} partial downloads, {caches.readable(freed)}")
    table, total = _table("kind", "what", "size"), 0
    table.columns[-1].justify = "right"
    for kind, name, size in caches.contents():
        table.add_row(kind, Text(one_line(name)), caches.readable(size))
        total += size
    table.add_row("", "together", caches.readable(total))
    _console().print(table)


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("preset", "recipe"))
    return table


def _print_rows(rows: Any) -> None:
    """A list of dictionaries, or pandas' table of them."""
    rows = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    table = _table(*("preset" if name == "name" else name for name in rows[0]))
    for row in rows:
        # pandas says NaN where there is no number.
        table.add_row(*("" if v is None or v != v else str(v) for v in row.values()))
    _console().print(table)


def _best_known(preset: Any) -> str:
    """The preferred result of the weights that load, else of another training."""
    found = results(preset)
    if not found:
        return ""

    def rank(result: dict[str, Any]) -> tuple[bool, int]:
        ranks = (i for i, words in enumerate(_PREFERRED) if words in result["metric"])
        return not result["shown"], next(ranks, len(_PREFERRED))

    best = min(found, key=rank)
    if best["metric"].endswith(", %"):  # published, with more digits than a column of many needs
        best = best | {"value": f"{best['value'] + 1e-9:.1f}"}
    return f"{_named(best)} ({best['kind']})"


def _named(result: dict[str, Any]) -> str:
    return f"{result['metric'].removesuffix(', %')}: {value_text(result)}"


def _print_preset(preset: Any) -> None:
    table = _table("preset", preset.name)
    table.add_row("what", f"{preset.task}, {preset.state}")
    table.add_row("how to get it", how_to_get(preset))
    for name in ("licence", "source", "recipe"):
        table.add_row(name, getattr(preset, name))
    for axis, value in preset.axes.items():
        table.add_row(axis, str(value))
    if preset.finetuned:
        table.add_row("fine-tuned on", preset.finetuned)
    for result in results(preset):
        if result["kind"] == "measured":
            of = (result["note"], result["data"], result["date"], result["command"])
        else:
            of = ("" if result["shown"] else "another training", result["source"], result["file"])
        table.add_row(result["kind"], "; ".join([_named(result), *filter(None, of)]))
    for other in preset.others:
        note = f"; {other.note}" if other.note else ""
        table.add_row("also", f"{other.url} ({other.layout}, {other.licence}){note}")
    _console().print(table)
    _console().print()


def _print_recipe(recipe: Any) -> None:
    table = _table("recipe", recipe.name, "not published, but")
    for name, value in _fields(recipe.to_json()):
        if name not in ("name", "inferred"):
            table.add_row(name, value, recipe.inferred.get(name.removeprefix("task."), ""))
    _console().print(table)


def _fields(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values; an object gives a row for itself and one for each of its arguments."""
    for name, value in values.items():
        if is_spec(value):
            yield prefix + name, value["class_name"].removeprefix("mimzoo>")
            yield from _fields(value["config"], f"{prefix}{name}.")
        else:
            yield prefix + name, str(value)
