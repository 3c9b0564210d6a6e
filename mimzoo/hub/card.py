"""The model card of a preset: one for what was converted, what was trained here, what is published.

It says what lies in the folder and what the catalogue knows of it, and nothing else.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from mimzoo.hub.card_metadata import metadata
from mimzoo.hub.card_recipe import recipe_table, table
from mimzoo.hub.catalogue import ORGANISATION, catalogue
from mimzoo.hub.contents import Contents
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.hub.licences import UNKNOWN
from mimzoo.hub.words import (
    BACKBONES,
    METHODS,
    TARGETS,
    count,
    data_set,
    length,
    paper,
)


def card(folder: Path, recipe: dict[str, Any] | None = None, handle: str | None = None) -> str:
    """The model card of a preset's folder, Markdown with the Hub's front matter.

    Args:
        folder: with weights and what tells of them; a README.md in it is not read.
        recipe: as JSON, of weights whose folder has none.
        handle: what `from_preset` is to be called with; default: the name that the catalogue has,
            else a word for the folder.

    Raises:
        ValueError: no folder of a preset, or one with a file that cannot be read.
    """
    found = Contents.read(folder, recipe)
    called = handle or (found.name if found.entry else "path/to/this/folder")
    parts = [
        f"# {found.name}",
        _what(found),
        _use(found, called),
        *_pictures(found),
        *_results(found),
        *recipe_table(found),
        *_provenance(found),
        *_limits(found),
        *_citation(found),
    ]
    front = metadata(found).to_yaml()
    return f"---\n{front}\n---\n" + "\n\n".join(parts) + "\n"


def validate(text: str) -> None:
    """Lets the Hub check a card.

    Raises:
        ValueError: it refuses the front matter.
    """
    ModelCard(text).validate()


# --- parts ---------------------------------------------------------------------------------------


def _what(found: Contents) -> str:
    axes = found.axes
    backbone = BACKBONES.get(axes.get("backbone", ""), found.config["class_name"])
    told = [axes["size"]] if "size" in axes else []
    told += [f"{count(found.weights)} weights without head and decoder"] if found.weights else []
    first = f"{backbone} ({', '.join(told)})" if told else backbone
    if "method" in axes:
        first += f", pretrained with {METHODS.get(axes['method'], axes['method'])}"
        first += f" on {data_set(axes['data']).words} for {length(axes['length'])}"
    first += _tuned(found)
    home = "A preset of mimzoo, for Keras 3 on JAX, torch or TensorFlow."
    return f"{first}. {_sees(found)}\n\n{home}"


def _tuned(found: Contents) -> str:
    if found.entry and found.entry.finetuned:
        data, _, side = found.entry.finetuned.rpartition("_")
        return f", then fine-tuned to classify {data_set(data).words} at {side} px"
    if found.recipe.get("kind") == "finetune":
        start = f" from `{found.run['start']}`" if "start" in found.run else ""
        lasted = length(found.recipe["length"])
        return (
            f", fine-tuned{start} to classify {data_set(found.recipe['data']).words} for {lasted}"
        )
    return ""


def _sees(found: Contents) -> str:
    height, width, _ = found.image_shape
    size = f"It takes RGB images, at {width} x {height} px as it was trained"
    if found.kind == "classifier":
        return f"{size}, and gives {found.task['config']['num_classes']} classes."
    if found.kind == "backbone":
        return f"{size}; it is the encoder alone, without the decoder of its pretraining."
    config = found.task["config"]
    ratio = config["masking"]["config"]["mask_ratio"]
    target = config["target"]["class_name"]
    target = TARGETS.get(target, target)
    shown = "covered by another image" if found.task["class_name"] == "MixMIM" else "hidden"
    return (
        f"{size}; in pretraining {ratio:.0%} of each was {shown}, and {target} had to be predicted."
    )


def _use(found: Contents, called: str) -> str:
    if found.kind == "classifier":
        lines = [
            "import keras",
            "",
            f'model = mimzoo.models.ImageClassifier.from_preset("{called}")',
            'photo = keras.utils.img_to_array(keras.utils.load_img("photo.jpg"))',
            "print(model.decode_predictions(model.predict(photo[None])))",
        ]
    else:
        lines = [
            "",
            "# To fine-tune on images and labels: model.fit(images, labels)",
            f'model = mimzoo.models.ImageClassifier.from_preset("{called}", num_classes=10)',
        ]
        if found.kind == "mim":
            method = found.task["class_name"]
            lines += [
                "# To go on pretraining, or to look: task.fit(images), task.reconstruct(images)",
                f'task = mimzoo.pretraining.{method}.from_preset("{called}")',
            ]
    return "\n".join(["```python", "import mimzoo", *lines, "```"])


def _pictures(found: Contents) -> list[str]:
    shown = []
    if "reconstruction.png" in found.has:
        shown.append(
            "![Original, masked and reconstructed images](reconstruction.png)\n\nEach row is "
            "named beside it: the image first, what the model makes of it last."
        )
    if "curve.png" in found.has:
        shown.append("![Loss over epochs](curve.png)")
    return shown


def _results(found: Contents) -> list[str]:
    parts = []
    if found.results:
        names = ("measured with mimzoo", "value", "on", "date", "command")
        rows = [
            (r["metric"], _value(r), r["data"], r["date"], f"`{r['command']}`")
            for r in found.results
        ]
        parts.append(table(names, rows))
    if found.conversion.get("published"):
        names = ("published by others, not measured here", "value", "of", "source")
        rows = [
            (r["metric"], r["value"], f"`{r['file']}`", r["source"])
            for r in found.conversion["published"]
        ]
        parts.append(table(names, rows))
    return ["## Results", *parts] if parts else []


def _value(result: dict[str, Any]) -> str:
    """A result, and what it is to be compared with."""
    beside = {"from_scratch": "from scratch", "random_network": "a random network"}
    told = [f"{words}: {result[name]:.4f}" for name, words in beside.items() if name in result]
    value = result["value"]
    value = f"{value:.4f}" if isinstance(value, float) else str(value)
    return f"{value} ({', '.join(told)})" if told else value


def _provenance(found: Contents) -> list[str]:
    licence = f"{found.licence}" + (f" ({found.licence_source})" if found.licence_source else "")
    rows = [("licence of the weights", licence)]
    if found.conversion:
        record = found.conversion
        url = record["source"]
        if found.entry and found.entry.checkpoint:
            url = found.entry.checkpoint.url
        rows = [
            ("source", _link(url)),
            ("file", f"`{record['file']}`"),
            ("sha256", f"`{record['sha256']}`"),
            ("layout", f"`{record['layout']}` ({record['origin']})"),
            ("converted by", f"mimzoo {record['mimzoo']}; every number is that of the file"),
            *rows,
        ]
        if found.entry and found.entry.checkpoint and found.entry.checkpoint.note:
            rows.append(("note", found.entry.checkpoint.note))
    elif found.run:
        run = found.run
        images = f"{run['source']}, {run['num_examples']} images"
        rows = [
            ("made by", f"the recipe in `recipe.json` on {images}"),
            ("backend, precision", f"{run['backend']}, {run['precision']}"),
            *rows,
        ]
    return ["## Where the weights come from", table(("", ""), rows)]


def _link(url: str) -> str:
    """An address to click on, where there is one."""
    if not url.startswith(HF_PREFIX):
        return f"<{url}>" if url.startswith("https://") else f"`{url}`"
    handle = Handle.parse(url)
    tail = f"/blob/{handle.revision or 'main'}/{handle.path}" if handle.path else ""
    return f"[{url}](https://huggingface.co/{handle.repo}{tail})"


def _limits(found: Contents) -> list[str]:
    told = []
    if found.kind != "classifier":
        told.append("It knows no classes: its features are for fine-tuning or a linear probe.")
    if found.conversion:
        told.append("mimzoo has not trained it, and its authors' figures were not measured again.")
    if found.kind == "mim" and "reconstruction.png" not in found.has:
        told.append("There is no picture of a reconstruction: no images of its data were at hand.")
    if found.axes.get("data") == "fmnist":
        told.append("It has seen small grey pictures of clothes, and nothing else.")
    if "-nc-" in f"{found.licence.lower()}-":
        told.append(f"{found.licence}: not for commercial use.")
    if found.licence == UNKNOWN:
        told.append("No licence of the weights is known: ask their owner before you use them.")
    if found.conversion and found.recipe.get("inferred"):
        told.append("Part of the recipe was never published; the table marks what was inferred.")
    return ["## Limits", "\n".join(f"- {line}" for line in told)] if told else []


def _citation(found: Contents) -> list[str]:
    papers = [read for cited in found.papers if (read := paper(cited))]
    if not papers:
        return []
    links = ", ".join(f"[arXiv {p.arxiv}](https://arxiv.org/abs/{p.arxiv})" for p in papers)
    entries = "\n\n".join(p.bibtex for p in papers)
    return ["## Citation", links, f"```bibtex\n{entries}\n```"]


def handle_of(repo: str) -> str:
    """What `from_preset` takes for a repository on the Hub."""
    organisation, name = repo.split("/")
    return name if organisation == ORGANISATION and name in catalogue() else f"hf://{repo}"
