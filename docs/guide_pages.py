"""Guides as pages: their text, their code, and what it printed and drew if it was run.

    python docs/guide_pages.py guides/targets.py build/guides    # runs it

A guide is Python in percent format, as notebooks are opened from it.
"""

import contextlib
import io
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "build" / "guides"
LONGEST = 40  # lines of output that a page shows


class Cell(NamedTuple):
    """A cell: whether it is text, what it holds, and its first line in the file."""

    is_text: bool
    source: str
    line: int


def is_guide(path: Path) -> bool:
    """Whether a file is in percent format."""
    return path.read_text(encoding="utf-8").startswith("# %% [markdown]\n")


def cells(path: Path) -> list[Cell]:
    """The cells of a guide."""
    found, text = [], path.read_text(encoding="utf-8")
    for match in re.finditer(r"(?ms)^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", text):
        line = text.count("\n", 0, match.start(2)) + 1
        line += len(match[2]) - len(match[2].lstrip("\n"))
        source = match[2].strip("\n")
        if match[1]:
            source = re.sub(r"(?m)^# ?", "", source)
        if source:
            found.append(Cell(bool(match[1]), source, line))
    return found


def run(path: Path, out: Path) -> float:
    """Runs a guide in `out`, keeps what each cell printed and drew; returns the seconds."""
    os.environ["MPLBACKEND"] = "agg"
    import matplotlib.pyplot as plt

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    code = [cell for cell in cells(path) if not cell.is_text]
    namespace, outputs, start = {"__name__": "__main__"}, [], time.monotonic()
    with contextlib.chdir(out):
        for number, cell in enumerate(code):
            # Errors name the guide's own lines.
            block = compile("\n" * (cell.line - 1) + cell.source, str(path), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(block, namespace)
            pictures = []
            for figure in plt.get_fignums():
                pictures.append(f"{number}_{figure}.png")
                plt.figure(figure).savefig(pictures[-1], dpi=100)
            plt.close("all")
            # Paths as a reader sees them who runs the guide from the root of the repository.
            text = printed.getvalue().replace(f"{out.resolve()}/", "").replace(f"{ROOT}/", "")
            outputs.append({"text": text, "pictures": pictures})
    (out / "outputs.json").write_text(json.dumps(outputs), encoding="utf-8")
    return time.monotonic() - start


def markdown(path: Path, site: Path, linked: Callable[[str], str]) -> str:
    """A guide as Markdown, with the results of its last run.

    Args:
        path: of the guide.
        site: the folder of pages; the guide's pictures are copied into it.
        linked: makes the links of its text lead to pages.
    """
    folder = RUNS / path.stem
    outputs = []
    if (folder / "outputs.json").is_file():
        outputs = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))
    else:
        print(f"{path.name} has no results: `make guides` runs it")
    lines, results = [], iter(outputs)
    for cell in cells(path):
        if cell.is_text:
            lines += [linked(cell.source), ""]
            continue
        lines += ["```python", cell.source, "```", ""]
        result = next(results, {"text": "", "pictures": []})
        printed = result["text"].strip("\n").splitlines()
        if len(printed) > LONGEST:
            printed = [*printed[:10], "…", *printed[10 - LONGEST :]]
        if printed:
            lines += ["```text", *printed, "```", ""]
        for picture in result["pictures"]:
            target = site / "guides" / path.stem / picture
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / picture, target)
            lines += [f"![What the code above draws]({path.stem}/{picture})", ""]
    notebook = f"jupytext --to notebook guides/{path.name}"
    lines += ["---", "", f"This page is `guides/{path.name}`; `{notebook}` makes a notebook of it."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        if is_guide(path):
            seconds = run(path.resolve(), RUNS / path.stem)
            print(f"{path}: {seconds:.0f} s", flush=True)
