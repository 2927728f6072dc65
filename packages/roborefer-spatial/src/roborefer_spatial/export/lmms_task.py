"""Functions of the exported lmms-eval tasks. lmms-eval calls them with a document of `export_lmms`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from roborefer_spatial.images import read_rgb
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.metrics import SUCCESS
from roborefer_spatial.scoring.score import ScoreOptions, score

METRICS: dict[str, bool] = {
    "overall_accuracy": True,
    "hit_at_mask": True,
    "not_visible_recall": True,
    **dict.fromkeys(SUCCESS, True),
    "l2_error": False,
}
"""Metric -> whether higher is better. A mean over the documents to which the metric applies."""


def sample_of(doc: Mapping[str, Any]) -> Sample:
    """Return the document's sample."""
    return Sample.from_row(json.loads(doc["sample"]), where=f"document {doc['id']}")


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """Return the images in the order of the prompt."""
    return [Image.fromarray(read_rgb(path)) for path in sample_of(doc).image]  # type: ignore[arg-type]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """Return the question, as the task's profile puts it."""
    return str(doc["prompt"]) if "prompt" in doc else sample_of(doc).prompt  # tasks of an older version have none


def doc_to_target(doc: Mapping[str, Any]) -> str:
    """Return the true answer."""
    return sample_of(doc).answer


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score one answer; only the metrics that apply are returned, so that means have the right denominators.

    `hit_at_mask` and `success_*` have every visible object as denominator, `not_visible_recall` every object
    out of view, `l2_error` the answers with a point inside the image, `overall_accuracy` all.
    """
    sample, reading = sample_of(doc), json.loads(doc.get("reading", "{}"))
    seen = tuple((width, height) for width, height in reading.pop("seen", ())) or None
    scores = score([sample], [Prediction(sample.id, results[0], seen=seen)], ScoreOptions(**reading))
    if not sample.visible:
        correct = float(scores.said_not_visible[0])
        return {"overall_accuracy": correct, "not_visible_recall": correct}
    hit = float(scores.hit[0])
    found = {"overall_accuracy": hit, "hit_at_mask": hit}
    found |= {name: float(value) for name, value in zip(SUCCESS, scores.success[0])}
    return found if np.isnan(scores.l2[0]) else found | {"l2_error": float(scores.l2[0])}
