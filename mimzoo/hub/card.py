"""The model card of a preset: one writer for converted, trained and published ones.

It says what lies in the folder and what the catalogue knows of it, and nothing else. Text from the
folder's files passes through `mimzoo.hub.escape`: it may be anybody's.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from mimzoo.hub.card_metadata import metadata
from mimzoo.hub.card_recipe import recipe_table, table
from mimzoo.hub.catalogue import ORGANISATION, catalogue
from mimzoo.hub.contents import FINETUNED, Contents
from mimzoo.hub.escape import all_text, code, markdown, one_line
from mimzoo.hub.handle import HF_PREFIX, Handle
from mimzoo.hub.licences import UNKNOWN
from mimzoo.hub.papers import paper
from mimzoo.hub.vocabulary import BACKBONES, METHODS, TARGETS, count, data_set, length

# Rows of accuracies of single classes.
MAX_ROWS = 20
# Names of more classes than these would hide the rest of the card.
MAX_NAMES = 100
_TUNED = ("classifier", "segmenter", "detector")  # kinds that know classes
# Kind -> a word of the metric that a card begins with.
_METRICS = {"classifier": "accuracy", "segmenter": "IoU", "detector": "AP50"}


def card(folder: Path, recipe: dict[str, Any] | None = None, handle: str | None = None) -> str:
    """The model card of a preset's folder, Markdown with the Hub's front matter.

    Args:
        folder: with weights and their records; a README.md in it is not read.
        recipe: as JSON, of weights whose folder has none.
        handle: the argument of `from_preset`; default: the name that the catalogue has, else a
            placeholder for the folder.

    Raises:
        ValueError: no folder of a preset, or one with a file that cannot be read.
    """
    found = Contents.read(folder, recipe)
    called = handle or (found.name if found.entry else "path/to/this/folder")
    parts = [
        f"# {markdown(found.name)}",
        _what(found),
        _use(found, called),
        *_pictures(found),
        *_results(found),
        *_classes(found),
        *_accuracies(found),
        *_recipe(found),
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
    axes = all_text(found.axes)
    backbone = BACKBONES.get(axes.get("backbone", ""), markdown(found.config["class_name"]))
    size = [axes["size"]] if "size" in axes else []
    size += [f"{count(found.weights)} weights without head and decoder"] if found.weights else []
    first = f"{backbone} ({', '.join(size)})" if size else backbone
    if "method" in axes:
        first += f", pretrained with {METHODS.get(axes['method'], axes['method'])}"
        first += f" on {data_set(axes['data']).words} for {length(axes['length'])}"
    first += _tuned(found)
    home = "A preset of mimzoo, for Keras 3 on JAX, torch or TensorFlow."
    sentences = (f"{first}.", _takes(found), _saw(found), _accuracy(found))
    return " ".join(filter(None, sentences)) + f"\n\n{home}"


def _tuned(found: Contents) -> str:
    if found.entry and found.entry.finetuned:
        data, _, side = found.entry.finetuned.rpartition("_")
        return f", then fine-tuned to classify {data_set(data).words} at {side} px"
    if found.recipe.get("kind") in FINETUNED:
        start = f" from {code(found.run['start'])}" if "start" in found.run else ""
        words = markdown(data_set(str(found.recipe["data"])).words)
        lasted = markdown(length(str(found.recipe["length"])))
        done = {"segmenter": "segment", "detector": "detect objects in"}.get(found.kind, "classify")
        return f", fine-tuned{start} to {done} {words} for {lasted}"
    return ""


def _takes(found: Contents) -> str:
    height, width, _ = found.image_shape
    size = f"It takes RGB images, at {width} x {height} px as it was trained"
    if found.kind == "classifier":
        return f"{size}, and gives {found.task['config']['num_classes']} classes."
    if found.kind == "segmenter":
        count = found.task["config"]["num_classes"]
        return (
            f"It takes RGB images of any size, through windows of {width} x {height} px, and gives "
            f"each pixel one of {count} classes."
        )
    if found.kind == "detector":
        count = found.task["config"]["num_classes"]
        return (
            f"It takes RGB images of any size, resized to fit into {width} x {height} px, and "
            f"gives boxes of objects of {count} classes."
        )
    if found.kind == "backbone":
        return f"{size}; it is the encoder alone, without the decoder of its pretraining."
    config = found.task["config"]
    ratio = config["masking"]["config"]["mask_ratio"]
    target = config["target"]["class_name"]
    target = TARGETS.get(target, markdown(target))
    shown = "covered by another image" if found.task["class_name"] == "MixMIM" else "hidden"
    return f"{size}; in pretraining {ratio:.0%} of each was {shown}, and {target} were predicted."


def _saw(found: Contents) -> str:
    """The images that this very training was run on."""
    if "source" not in found.run:
        return ""
    classes = found.run.get("num_classes")
    inside = f" in {classes} classes" if found.kind in _TUNED and classes else ""
    done = "Fine-tuned" if found.recipe.get("kind") in FINETUNED else "Trained"
    number = found.run.get("num_examples", "an unknown number of")
    number = f"{number:,}" if isinstance(number, int) else markdown(number)
    return f"{done} on {code(found.run['source'])}, {number} images{inside}."


def _accuracy(found: Contents) -> str:
    for result in found.results:
        if (word := _METRICS.get(found.kind)) and word in str(result["metric"]):
            return f"{_capital(result['metric'])} {_value(result)} on {markdown(result['data'])}."
    return ""


def _capital(text: object) -> str:
    plain = markdown(text)
    return plain[:1].upper() + plain[1:]


def _use(found: Contents, called: str) -> str:
    name = json.dumps(one_line(called), ensure_ascii=False)
    if found.kind == "classifier":
        lines = [
            "import keras",
            "",
            f"model = mimzoo.models.ImageClassifier.from_preset({name})",
            'photo = keras.utils.img_to_array(keras.utils.load_img("photo.jpg"))',
            "print(model.decode_predictions(model.predict(photo[None])))",
        ]
    elif found.kind == "segmenter":
        lines = [
            "import keras",
            "",
            f"model = mimzoo.models.ImageSegmenter.from_preset({name})",
            'photo = keras.utils.img_to_array(keras.utils.load_img("photo.jpg"))',
            "label_map = model.predict(photo[None])[0]  # the class of each pixel",
        ]
    elif found.kind == "detector":
        lines = [
            "import keras",
            "",
            f"model = mimzoo.models.ObjectDetector.from_preset({name})",
            'photo = keras.utils.img_to_array(keras.utils.load_img("photo.jpg"))',
            "objects = model.predict(photo[None])[0]  # boxes (N, 4), labels and confidence (N,)",
        ]
    else:
        lines = [
            "",
            "# To fine-tune on images and labels: model.fit(images, labels)",
            f"model = mimzoo.models.ImageClassifier.from_preset({name}, num_classes=10)",
        ]
        method = str(found.task.get("class_name"))
        if found.kind == "mim" and method.isidentifier():
            lines += [
                "# To continue pretraining: task.fit(images); to look: task.reconstruct(images)",
                f"task = mimzoo.pretraining.{method}.from_preset({name})",
            ]
    return "\n".join(["```python", "import mimzoo", *lines, "```"])


def _pictures(found: Contents) -> list[str]:
    shown = []
    if "reconstruction.png" in found.has:
        shown.append(
            "![Original, masked and reconstructed images](reconstruction.png)\n\nRows are named at "
            "their left: the image first, the model's reconstruction last."
        )
    if "curve.png" in found.has:
        shown.append("![Loss over epochs](curve.png)")
    return shown


def _results(found: Contents) -> list[str]:
    parts = []
    if found.results:
        names = ("measured with mimzoo", "value", "on", "date", "command")
        rows = [
            (
                markdown(r["metric"]),
                _value(r),
                markdown(r["data"]),
                markdown(r["date"]),
                code(r["command"]),
            )
            for r in found.results
        ]
        parts.append(table(names, rows))
    if found.conversion.get("published"):
        names = ("published by others, not measured here", "value", "of", "source")
        rows = [
            (markdown(r["metric"]), markdown(r["value"]), code(r["file"]), markdown(r["source"]))
            for r in found.conversion["published"]
        ]
        parts.append(table(names, rows))
    return ["## Results", *parts] if parts else []


def _value(result: dict[str, Any]) -> str:
    """A result, and what it is to be compared with."""
    beside = {"from_scratch": "from scratch", "random_network": "a random network"}
    others = [
        f"{words}: {_number(result[name])}" for name, words in beside.items() if name in result
    ]
    value = _number(result["value"])
    return f"{value} ({', '.join(others)})" if others else value


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else markdown(value)


def _recipe(found: Contents) -> list[str]:
    try:
        return recipe_table(replace(found, recipe=all_text(found.recipe)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{found.path / 'recipe.json'} is no recipe ({type(error).__name__}: "
            f"{one_line(error)}): make the preset again."
        ) from error


def _classes(found: Contents) -> list[str]:
    if found.kind not in _TUNED:
        return []
    names = found.task["config"].get("class_names")
    if names == "imagenet":
        return ["## Classes", "The 1,000 classes of ImageNet-1K, in its order."]
    if not isinstance(names, list) or not names:
        return ["## Classes", "The classes have no names: predictions are numbers, from 0."]
    more = f", and {len(names) - MAX_NAMES} more in `task.json`" if len(names) > MAX_NAMES else ""
    return ["## Classes", ", ".join(map(markdown, names[:MAX_NAMES])) + f"{more}."]


def _accuracies(found: Contents) -> list[str]:
    """The accuracy on each class, as far as a result has it; the worst ones of many."""
    measured = next((r for r in found.results if isinstance(r.get("classes"), list)), {})
    rows = [row for row in measured.get("classes", ()) if isinstance(row, dict)]
    rows = [row for row in rows if isinstance(row.get("accuracy"), float) and "name" in row]
    if not rows:
        return []
    shown = sorted(rows, key=lambda row: row["accuracy"])[:MAX_ROWS]
    cells = [
        (markdown(r["name"]), markdown(r.get("images", "")), _number(r["accuracy"])) for r in shown
    ]
    words = f"The accuracy on each class of {markdown(measured['data'])}, the lowest first"
    more = len(rows) - len(shown)
    return [
        words + (f"; {more} more in `results.json`." if more else "."),
        table(("class", "images", "accuracy"), cells),
    ]


def _provenance(found: Contents) -> list[str]:
    source = f" ({markdown(found.licence_source)})" if found.licence_source else ""
    rows = [("licence of the weights", f"{markdown(found.licence)}{source}")]
    if found.conversion:
        record = found.conversion
        url = record["source"]
        if found.entry and found.entry.checkpoint:
            url = found.entry.checkpoint.url
        rows = [
            ("source", _link(url)),
            ("file", code(record["file"])),
            ("sha256", code(record["sha256"])),
            ("layout", f"{code(record['layout'])} ({markdown(record['origin'])})"),
            ("converted by", f"mimzoo {markdown(record['mimzoo'])}; every number is the file's"),
            *rows,
        ]
        if found.entry and found.entry.checkpoint and found.entry.checkpoint.note:
            rows.append(("note", markdown(found.entry.checkpoint.note)))
    elif found.run:
        backend = f"{found.run.get('backend')}, {found.run.get('precision')}"
        rows = [
            ("made by", "the recipe in `recipe.json`"),
            ("backend, precision", markdown(backend)),
            *rows,
        ]
    return ["## Where the weights come from", table(("", ""), rows)]


def _link(url: object) -> str:
    """An address to click on, where there is one."""
    text = one_line(url)
    if re.fullmatch(r"https://[\w./?=&%#:~+,@-]+", text, re.ASCII):
        return f"<{text}>"
    try:
        handle = Handle.parse(text) if text.startswith(HF_PREFIX) else None
    except ValueError:
        handle = None
    if handle is None or not re.fullmatch(r"[\w./@%-]*", f"{handle.revision}{handle.path}"):
        return code(text)
    tail = f"/blob/{handle.revision or 'main'}/{handle.path}" if handle.path else ""
    return f"[{text}](https://huggingface.co/{handle.repo}{tail})"


def _limits(found: Contents) -> list[str]:
    lines = []
    if found.kind not in _TUNED:
        lines.append("It knows no classes: its features are for fine-tuning or a linear probe.")
    if found.conversion:
        lines.append("mimzoo has not trained it, and its authors' results were not measured again.")
    if found.kind == "mim" and "reconstruction.png" not in found.has:
        lines.append("No picture of a reconstruction: none of its training images were available.")
    if "-nc-" in f"{found.licence.lower()}-":
        lines.append(f"{markdown(found.licence)}: not for commercial use.")
    if found.licence == UNKNOWN:
        lines.append("No licence of the weights is known: ask their owner before you use them.")
    if found.conversion and found.recipe.get("inferred"):
        lines.append("Part of the recipe was never published; the table marks what was inferred.")
    return ["## Limits", "\n".join(f"- {line}" for line in lines)] if lines else []


def _citation(found: Contents) -> list[str]:
    papers = [read for cited in found.papers if (read := paper(cited))]
    if not papers:
        return []
    links = ", ".join(f"[arXiv {p.arxiv}](https://arxiv.org/abs/{p.arxiv})" for p in papers)
    entries = "\n\n".join(p.bibtex for p in papers)
    return ["## Citation", links, f"```bibtex\n{entries}\n```"]


def handle_of(repo: str) -> str:
    """The argument of `from_preset` for a repository on the Hub."""
    organisation, name = repo.split("/")
    return name if organisation == ORGANISATION and name in catalogue() else f"hf://{repo}"
