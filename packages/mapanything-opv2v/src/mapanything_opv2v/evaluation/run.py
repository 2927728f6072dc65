"""Figures of many frames, here or in other processes; what is done is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mapanything_opv2v import jobs
from mapanything_opv2v.evaluation.measure import EvaluationOptions, evaluate_frame
from mapanything_opv2v.evaluation.metrics import Figures
from mapanything_opv2v.evaluation.results import ResultsFolder, write_tables
from mapanything_opv2v.jobs import Place
from mapanything_opv2v.predictions import FramePredictions, load_predictions

Item = tuple[str, "FramePredictions | Path"]
"""Name of a frame, and its predictions or their file."""


def evaluate_all(
    items: Iterable[Item],
    results: ResultsFolder,
    options: EvaluationOptions,
    place: Place,
    *,
    total: int | None = None,
    progress: bool = True,
) -> None:
    """Put the figures of every item into `results`; an item that cannot be evaluated is noted there, with why."""
    work = partial(_figures, options=options)
    outcomes = jobs.run(
        work,
        items,
        total=total,
        workers=place.workers,
        executor=place.executor,
        description="evaluate",
        unit="frame",
        progress=progress,
    )
    for done in outcomes:
        name, _ = done.item
        if done.result is None:
            results.fail(name, str(done.error))
        else:
            results.add(name, done.result)


def _figures(item: Item, options: EvaluationOptions) -> Figures:
    _, frame = item
    return evaluate_frame(load_predictions(frame) if isinstance(frame, Path) else frame, options)


def conclude(results: ResultsFolder, names: Sequence[str], provenance: dict[str, Any]) -> dict[str, Any] | None:
    """Write the tables if every frame is done or failed, and return the summary; None if frames are open.

    So the last of several processes writes them, whichever it is.
    """
    figures, failed = results.load(names), results.failures(names)
    if len(figures) + len(failed) < len(names):
        return None
    return write_tables(results.folder, figures, provenance, failed)
