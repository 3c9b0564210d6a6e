"""A grid of the catalogue as a table."""

from typing import Any

from mimzoo.hub.catalogue import AXES, Preset, catalogue, grids


class Rows(list):
    """Rows of a table, dictionaries with the same keys, that print aligned."""

    def __repr__(self) -> str:
        if not self:
            return "no rows"
        lines = [[str(name) for name in self[0]]]
        lines += [["" if v is None else str(v) for v in row.values()] for row in self]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def grid(name: str) -> Any:
    """The pretrained models of one grid with their axes, state and results.

    ```python
    table = mimzoo.grid("simmim_data_scaling")
    table[["size", "data", "length", "loss", "top1"]].corr(numeric_only=True)  # with pandas
    ```

    Args:
        name: "simmim_data_scaling", "coyo_data_scaling", "simmim", "mae", "mixmim", "nano",
            "nano_colour" or "nano_scaling".

    Returns:
        A pandas.DataFrame, or without pandas a list of dictionaries that prints as a table.
        Results are published ones; of "nano_scaling" ours, each the mean of so many `seeds`: of 1
        where weights are bundled, as the results are theirs. What nobody published is None. A model
        that several projects trained has the results of the training that `from_preset` loads.

    Raises:
        ValueError: an unknown grid.
    """
    known = grids()
    if name not in known:
        raise ValueError(f"unknown grid {name!r}: there are {', '.join(known)}.")
    presets = [p for p in catalogue().values() if p.grid == name and p.task == "pretraining"]
    keys = [*known[name]["metrics"], *known[name].get("study", {}).get("results", {})]
    rows = Rows(_row(preset, keys) for preset in presets)
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


def _row(preset: Preset, keys: list[str]) -> dict[str, Any]:
    by = preset.checkpoint.by if preset.checkpoint else None
    found = {entry["key"]: entry["value"] for entry in preset.published if entry["by"] == by}
    found |= {entry["key"]: entry["value"] for entry in preset.measured if "key" in entry}
    axes = {axis: preset.axes[axis] for axis in AXES}
    results = {key: found.get(key) for key in keys}
    if preset.command:
        one = preset.measured[0]
        results["seeds"] = 1 if "mean" in one else len(one["seeds"])
    return {
        "name": preset.name,
        **axes,
        "state": preset.state,
        "licence": preset.licence,
        **results,
    }
