"""Curves of a comparison against steps and against seconds."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from learning.summary import REFERENCE, Results, mean_curve


def curves(results: Results, step_ms: dict[str, dict[str, float]]) -> bytes:
    """Return a PNG: one row for each difficulty; AP against steps, against seconds, and AP without NMS.

    Parameters
    ----------
    results : dict
        See `summary.load`.
    step_ms : dict
        Difficulty, criterion: milliseconds of a step alone on the device. Seconds are steps times this; without it,
        those of the training itself, which shared the device with others.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    names = sorted({name for criteria in results.values() for name in criteria}, key=lambda name: name != REFERENCE)
    colours = {name: colormaps["tab20"](number % 20) for number, name in enumerate(names)}
    figure = Figure(figsize=(15, 1.2 + 3.6 * len(results)), layout="constrained")
    panels = np.atleast_2d(np.array(figure.subplots(len(results), 3), dtype=object))
    handles: dict[str, Any] = {}
    for (difficulty, criteria), (by_step, by_second, without) in zip(results.items(), panels):
        alone = step_ms.get(difficulty, {})
        alone = alone if set(criteria) <= set(alone) else {}
        for name, seeds in criteria.items():
            steps, ap = mean_curve(seeds, "ap")
            seconds = [alone[name] * step / 1e3 for step in steps] if alone else mean_curve(seeds, "seconds")[1]
            style: dict[str, Any] = {"color": colours[name], "lw": 2.4 if name == REFERENCE else 1.4}
            handles[name] = by_step.plot(steps, ap, "o-", ms=3, **style)[0]
            deviation = np.std([[point["ap"] for point in curve] for curve in seeds.values()], axis=0)
            by_step.fill_between(
                steps, np.array(ap) - deviation, np.array(ap) + deviation, color=colours[name], alpha=0.1
            )
            by_second.plot(seconds, ap, "o-", ms=3, **style)
            without.plot(steps, mean_curve(seeds, "raw_ap")[1], "o-", ms=3, **style)
        by_step.set(title=f"{difficulty}: AP, mean and deviation over seeds", xlabel="training step", ylim=(0, None))
        shared = "step time alone on the device" if alone else "training time, device shared between cells"
        by_second.set(title=f"{difficulty}: AP against time", xlabel=f"seconds ({shared})", ylim=(0, None))
        without.set(title=f"{difficulty}: AP without NMS", xlabel="training step", ylim=(0, None))
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
