"""`mimzoo list`, `info` and `cache`: the catalogue, recipes and downloads, without Keras."""

import argparse
from typing import Any

from mimzoo_training.light import without_keras

FILTERS = ("method", "backbone", "size", "data", "length", "state", "task")


def list_all(args: argparse.Namespace) -> None:
    """Prints the presets and the recipes, or one grid with its results.

    Raises:
        ValueError: nothing has what was asked for.
    """
    with without_keras():
        from mimzoo.hub import grid
        from mimzoo.hub.catalogue import catalogue, list_presets
        from mimzoo_training.recipes import get_recipe, list_recipes

        if args.grid:
            _print_rows(grid(args.grid))
            return
        wanted = {name: getattr(args, name) for name in FILTERS if getattr(args, name)}
        presets = [catalogue()[n] for n in list_presets(**wanted) if args.contains in n]
        recipes = [] if wanted else [n for n in list_recipes() if args.contains in n]
        if not presets and not recipes:
            raise ValueError(f"no preset and no recipe has {args.contains or wanted!r}.")
        if presets:
            table = _table("preset", "state", "licence", "result")
            for preset in presets:
                table.add_row(preset.name, preset.state, preset.licence, _best_known(preset))
            _console().print(table)
        if recipes:
            table = _table("recipe", "for", "data", "length", "batch", "figures")
            for name in recipes:
                recipe = get_recipe(name)
                figures = recipe.origin.partition(":")[0]
                row = recipe.kind, recipe.data, recipe.length, str(recipe.batch_size), figures
                table.add_row(name, *row)
            _console().print(table)


def info(args: argparse.Namespace) -> None:
    """Prints a preset, how to get or make it, its results and its recipe; or a recipe."""
    with without_keras():
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
                # Its sentence is about presets, which are more.
                preset_info(args.name)
        if recipe:
            _print_recipe(recipe)


def _console() -> Any:
    """Where tables are printed; into a file or pipe, rows are not broken."""
    from rich.console import Console

    found = Console(highlight=False)
    if found.is_terminal:
        return found
    return Console(width=1000, highlight=False)


def cache(args: argparse.Namespace) -> None:
    """Prints where downloads and conversions are kept, and what there is of them."""
    with without_keras():
        from mimzoo.hub import cache as caches

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
        for kind, name, path in caches.contents():
            size = caches.size_of(path)
            table.add_row(kind, name, caches.readable(size))
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
    for kind, entries in (("measured", preset.measured), ("published", preset.published)):
        if entries:
            return f"{entries[0]['metric']}: {entries[0]['value']} ({kind})"
    return ""


def how_to_get(preset: Any) -> str:
    """What a user does to have the weights of a preset."""
    if preset.state == "bundled":
        return f'from_preset("{preset.name}"): it is in the package'
    if preset.checkpoint is None:
        return preset.made_by
    if preset.checkpoint.by_hand:
        return (
            f"download {preset.checkpoint.file} in a browser, then "
            f"mimzoo convert {preset.checkpoint.file} --out {preset.name}"
        )
    return f'from_preset("{preset.name}"): downloads {preset.checkpoint.file} and converts it'


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
    for entry in preset.published:
        told = f"{entry['metric']}: {entry['value']}; {entry['source']}; {entry['file']}"
        table.add_row("published", told)
    for entry in preset.measured:
        told = f"{entry['metric']}: {entry['value']}; {entry['data']}; {entry['date']}"
        table.add_row("measured", f"{told}; {entry['command']}")
    for other in preset.others:
        note = f"; {other.note}" if other.note else ""
        table.add_row("also", f"{other.url} ({other.layout}, {other.licence}){note}")
    _console().print(table)
    _console().print()


def _print_recipe(recipe: Any) -> None:
    table = _table("recipe", recipe.name, "not published, but")
    for name, value in recipe.to_json().items():
        if name not in ("name", "inferred"):
            table.add_row(name, str(value), recipe.inferred.get(name, ""))
    _console().print(table)
