"""The front matter of a preset's model card, as the Hub reads it."""

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from mimzoo.hub.contents import Contents
from mimzoo.hub.escape import one_line
from mimzoo.hub.licences import hub_licence
from mimzoo.hub.papers import source_url
from mimzoo.hub.vocabulary import data_set, measured_on


def metadata(found: Contents) -> ModelCardData:
    """The front matter of a preset's card."""
    axes = found.axes
    if found.entry and found.entry.finetuned:
        trained_on = found.entry.finetuned.rpartition("_")[0]
    else:  # a fine-tuned model is of the data that it was tuned on
        trained_on = found.recipe.get("data") or axes.get("data") or ""
    ids = {data_set(str(trained_on)).hub_id}
    tags = ["keras", "mimzoo", "masked-image-modeling", axes.get("method"), axes.get("backbone")]
    results = _evaluations(found)
    kinds = {
        "classifier": "image-classification",
        "segmenter": "image-segmentation",
        "detector": "object-detection",
    }
    return ModelCardData(
        **hub_licence(found.licence),
        library_name="keras-hub",
        pipeline_tag=kinds.get(found.kind, "image-feature-extraction"),
        tags=list(dict.fromkeys(one_line(tag) for tag in tags if tag)),
        datasets=sorted(one for one in ids if one) or None,
        model_name=one_line(found.name) if results else None,
        eval_results=results or None,
    )


def _evaluations(found: Contents) -> list[EvalResult]:
    """Results of this very file: measured by us, or if there are none those of its authors."""
    if found.results:
        return [_measured(result) for result in found.results]
    own = [
        r for r in found.conversion.get("published", []) if r["file"] == found.conversion["file"]
    ]
    return [made for result in own if (made := _published(result))]


def _measured(result: dict[str, Any]) -> EvalResult:
    data, split = measured_on(one_line(result["data"]))
    metric = one_line(result["metric"])
    return EvalResult(
        task_type=_task(metric),
        dataset_type=data.hub_id or data.name,
        dataset_name=data.name,
        dataset_split=split,
        metric_type=_metric(metric),
        metric_value=result["value"],
        metric_name=f"{metric} (measured with mimzoo)",
    )


def _published(result: dict[str, Any]) -> EvalResult | None:
    if "ImageNet-1K" not in result["metric"]:
        return None
    url = source_url(result["source"])
    by = "its authors" if result["by"] == "official" else result["by"]
    data = data_set("in1k")
    return EvalResult(
        task_type=_task(result["metric"]),
        dataset_type=str(data.hub_id),
        dataset_name=data.name,
        metric_type=_metric(result["metric"]),
        metric_value=result["value"],
        metric_name=f"{result['metric']} (published by {by}, not measured here)",
        source_name=result["source"] if url else None,
        source_url=url,
    )


def _task(metric: str) -> str:
    if "box AP" in metric:
        return "object-detection"
    if "IoU" in metric:
        return "image-segmentation"
    classes = any(word in metric for word in ("top-", "accuracy", "cross-entropy"))
    return "image-classification" if classes else "image-feature-extraction"


def _metric(metric: str) -> str:
    if "box AP" in metric:
        return "mAP"
    if "IoU" in metric:
        return "mean_iou"
    return "accuracy" if "top-" in metric or "accuracy" in metric else "loss"
