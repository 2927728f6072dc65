"""Figures of many frames and of trivial baselines beside them, here or in other processes; what is done is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mapanything_opv2v import jobs
from mapanything_opv2v.evaluation import baselines, verdict
from mapanything_opv2v.evaluation.measure import EvaluationOptions, evaluate_frame
from mapanything_opv2v.evaluation.metrics import Figures
from mapanything_opv2v.evaluation.results import ResultsFolder, summarise, write_frames, write_tables
from mapanything_opv2v.jobs import Place
from mapanything_opv2v.predictions import FramePredictions, load_predictions

Item = tuple[str, "FramePredictions | Path"]
"""Name of a frame, and its predictions or their file."""

BASELINES = (baselines.CONSTANT, baselines.COPIED)


def evaluate_all(
    items: Iterable[Item],
    results: ResultsFolder,
    options: EvaluationOptions,
    place: Place,
    *,
    constant: Path | None = None,
    total: int | None = None,
    progress: bool = True,
) -> None:
    """Put the figures of every item into `results`; an item that cannot be evaluated is noted there, with why.

    The figures of baselines go beside them (`results.beside`); `constant` is the file of the fitted one.
    """
    beside = {name: results.beside(name) for name in BASELINES}
    outcomes = jobs.run(
        partial(_figures, options=options, constant=constant),
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
            continue
        model, others = done.result
        for baseline, figures in others.items():  # first: a frame of the model's is done with all of them
            beside[baseline].add(name, figures)
        results.add(name, model)


def _figures(item: Item, options: EvaluationOptions, constant: Path | None) -> tuple[Figures, dict[str, Figures]]:
    _, given = item
    frame = load_predictions(given) if isinstance(given, Path) else given
    others = {}
    if constant is not None:
        others[baselines.CONSTANT] = evaluate_frame(_constant(constant).predict(frame), options)
    if frame.views > 1:
        # a similarity cannot be fitted to cameras in one place; without one, their errors are the same or smaller
        rigid = replace(options, alignment="cameras") if options.alignment == "similarity" else options
        others[baselines.COPIED] = evaluate_frame(baselines.copied(frame), rigid)
    return evaluate_frame(frame, options), others


@lru_cache(maxsize=2)
def _constant(path: Path) -> baselines.Constant:
    return baselines.load(path)[0]


def conclude(
    results: ResultsFolder,
    names: Sequence[str],
    provenance: dict[str, Any],
    missing: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
    """Write the tables if every frame is done or failed, and return the summary; None if frames are open.

    So the last of several processes writes them, whichever it is. `missing` says why a baseline could not be made.
    """
    figures, failed = results.load(names), results.failures(names)
    if len(figures) + len(failed) < len(names):
        return None
    compared: dict[str, Any] = {}
    for name in BASELINES:
        folder = results.beside(name)
        others = folder.load(figures)
        if not others:
            reason = (missing or {}).get(name, "frames have one view" if name == baselines.COPIED else "not fitted")
            compared[name] = {"missing": reason}
            continue
        write_frames(folder.folder, others)
        judged = verdict.judge(figures, others)
        compared[name] = {
            "sentence": verdict.sentence(name, judged),
            **verdict.to_json(judged),
            "all_figures": summarise(others)["figures"],
        }
    return write_tables(results.folder, figures, provenance, failed, baselines=compared)
