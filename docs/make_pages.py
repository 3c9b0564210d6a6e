"""The pages of the site: `make docs` runs this, then Zensical.

    python docs/make_pages.py build/pages
    zensical build --strict
    python docs/make_pages.py build/pages build/site    # what the search asks the network for

Copies README, docs, guides and the grid explorer into one folder, writes a page for each public
package, and makes every link lead to a page or file in there. What a link names has to exist.
"""

import importlib
import os
import re
import shutil
import sys
from pathlib import Path

from guide_pages import is_guide, markdown

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tasks", "models", "pretraining", "downstream", "data", "optimizers", "layers")
PACKAGES += ("convert", "hub")
SHIM = "https://unpkg.com/iframe-worker/shim"
# [text](target) and ![text](target), with nothing like it inside of the text but a picture.
LINK = re.compile(r"(!?)\[((?:!\[[^\]]*\]\([^)]*\)|[^\]])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def sources() -> dict[Path, str]:
    """Files that become pages -> their names on the site."""
    found = {ROOT / "README.md": "index.md", ROOT / "CONTRIBUTING.md": "contributing.md"}
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.suffix in (".md", ".png", ".csv"):
            found[path] = str(path.relative_to(ROOT / "docs"))
    for path in sorted((ROOT / "guides").glob("*.py")):
        if is_guide(path):
            found[path] = f"guides/{path.stem}.md"
    return found


class Pages:
    """Writes the pages into a folder."""

    def __init__(self, out: Path):
        self.out = out
        self.known = sources()

    def write(self) -> int:
        """Writes all; returns their number."""
        for path, name in self.known.items():
            target = self.out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix == ".md":
                target.write_text(self.page(path, name), encoding="utf-8")
            else:
                shutil.copyfile(path, target)
        for package in PACKAGES:
            target = self.out / "api" / f"{package}.md"
            target.parent.mkdir(exist_ok=True)
            target.write_text(reference(package), encoding="utf-8")
        explorer = ROOT / "build" / "explorer"
        if not (explorer / "index.html").is_file():
            raise SystemExit("there is no build/explorer/index.html: run `make explorer` first.")
        for path in explorer.rglob("*"):
            if path.suffix in (".html", ".png"):
                target = self.out / "explorer" / path.relative_to(explorer)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        return len(self.known) + len(PACKAGES)

    def page(self, path: Path, name: str) -> str:
        """A page of Markdown or a guide, with links that lead to pages."""
        if path.suffix == ".py":
            return markdown(path, self.out, lambda text: self.linked(text, path, name))
        return self.linked(path.read_text(encoding="utf-8"), path, name)

    def linked(self, text: str, path: Path, name: str) -> str:
        """The text with links that lead to the site's pages; code blocks stay as they are."""
        parts = FENCE.split(text)
        parts[::2] = [
            LINK.sub(lambda match: self.link(match, path, name), part) for part in parts[::2]
        ]
        return "".join(parts)

    def link(self, match: re.Match, path: Path, name: str) -> str:
        """One link; of a folder or a file that is no page, the name or a copy."""
        picture, text, target = match.groups()
        text = LINK.sub(lambda inner: self.link(inner, path, name), text)
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            return f"{picture}[{text}]({target})"
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve()
        if not found.exists():
            raise SystemExit(f"{path.relative_to(ROOT)}: there is no {file} ({match[0]}).")
        if found.is_dir():
            return text if text.startswith("`") else f"`{found.relative_to(ROOT)}/`"
        if found not in self.known:
            copy = self.out / "files" / found.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, copy)
            inside = str(copy.relative_to(self.out))
        else:
            inside = self.known[found]
        relative = os.path.relpath(inside, Path(name).parent)
        return f"{picture}[{text}]({relative}{'#' if anchor else ''}{anchor})"


def reference(package: str) -> str:
    """The page of a package: its docstring, and each public name from where it is defined."""
    module = importlib.import_module(f"mimzoo.{package}")
    lines = [f"# mimzoo.{package}", "", module.__doc__ or "", ""]
    for name in module.__all__:
        home = getattr(getattr(module, name), "__module__", None)
        home = home or f"{module.__name__}.{module._HOMES[name]}"  # of a constant
        if package == "models" and home.startswith("mimzoo.tasks."):
            lines += [f"`{name}`: see [mimzoo.tasks](tasks.md).", ""]
        else:
            lines += [f"::: {home}.{name}", "    options:", f"      heading: {name}", ""]
    return "\n".join(lines)


def main(out: str, site: str = "") -> None:
    """Writes the pages into an empty folder, or finishes the site that was made of them."""
    if site:
        print(f"{ship_shim(Path(site))} pages of HTML in {site}")
        return
    folder = Path(out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{Pages(folder).write()} pages and files in {folder}")


def ship_shim(site: Path) -> int:
    """Puts into the site what lets its search run from disk, which the theme would download.

    Returns:
        The number of pages.
    """
    shim = site / "assets" / "javascripts" / "iframe-worker.js"
    shutil.copyfile(
        ROOT / "explorer" / "node_modules" / "iframe-worker" / "shim" / "index.js", shim
    )
    pages = list(site.rglob("*.html"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        near = os.path.relpath(shim, page.parent)
        page.write_text(text.replace(SHIM, near), encoding="utf-8")
    return len(pages)


if __name__ == "__main__":
    main(*sys.argv[1:])
