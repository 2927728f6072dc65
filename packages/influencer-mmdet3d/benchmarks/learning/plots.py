"""Curves of a comparison against steps and against seconds."""

from __future__ import annotations

import io
import textwrap
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

    names = _by_ap(results)
    colours = {name: colormaps["tab20"](number % 20) for number, name in enumerate(names)}
    lines = {name: ("-", "--", ":")[number % 3] for number, name in enumerate(names)}
    figure = Figure(figsize=(19, 1 + 4 * len(results)), layout="constrained")
    panels = np.atleast_2d(np.array(figure.subplots(len(results), 3), dtype=object))
    handles: dict[str, Any] = {}
    for (difficulty, criteria), (by_step, by_second, without) in zip(results.items(), panels):
        alone = step_ms.get(difficulty, {})
        alone = alone if set(criteria) <= set(alone) else {}
        for name, seeds in criteria.items():
            steps, ap = mean_curve(seeds, "ap")
            seconds = [alone[name] * step / 1e3 for step in steps] if alone else mean_curve(seeds, "seconds")[1]
            style: dict[str, Any] = {"color": colours[name], "ls": lines[name], "marker": "o", "ms": 3, "lw": 1.5}
            if name == REFERENCE:
                style |= {"color": "black", "ls": "-", "lw": 3}
            handles[name] = by_step.plot([0, *steps], [0, *ap], **style)[0]
            by_second.plot([0, *seconds], [0, *ap], **style)
            without.plot([0, *steps], [0, *mean_curve(seeds, "raw_ap")[1]], **style)
            if len(seeds) > 1:
                deviation = np.std([[point["ap"] for point in curve] for curve in seeds.values()], axis=0, ddof=1)
                by_step.errorbar(steps, ap, deviation, fmt="none", ecolor=style["color"], elinewidth=0.8, capsize=2)
            if name == REFERENCE:
                for axes in (by_step, by_second):
                    axes.axhline(ap[-1], color="black", lw=0.8, ls=":")
        counts = sorted({len(seeds) for seeds in criteria.values()})
        seeds_of = f"{' or '.join(map(str, counts))} seed{'s' if counts[-1] > 1 else ''}"
        by_step.set(title=f"{difficulty}: AP, {seeds_of}, bars: deviation", xlabel="training step")
        shared = "step time alone on the device" if alone else "of training; the device was shared between cells"
        by_second.set(title=f"{difficulty}: AP against time", xlabel=f"seconds ({shared})")
        without.set(title=f"{difficulty}: AP without NMS", xlabel="training step")
    for axes in panels.flat:
        axes.set(xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    ordered = [name for name in names if name in handles]
    figure.legend(
        [handles[name] for name in ordered],
        [textwrap.fill(name.replace(",", ", "), 34) for name in ordered],
        loc="outside right upper", frameon=False, fontsize=9, title="by mean AP; dotted: Hungarian's final AP",
    )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _by_ap(results: Results) -> list[str]:
    """Return the criteria by falling final AP, mean over the difficulties that they have."""
    found: dict[str, list[float]] = {}
    for criteria in results.values():
        for name, seeds in criteria.items():
            found.setdefault(name, []).append(mean_curve(seeds, "ap")[1][-1])
    return sorted(found, key=lambda name: -float(np.mean(found[name])))
