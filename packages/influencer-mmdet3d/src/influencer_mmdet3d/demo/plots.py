"""Pictures of the demo with matplotlib: curves, and one room beside its predictions."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.rooms import CLASSES
from influencer_mmdet3d.demo.compare import WRONG, Shown
from influencer_mmdet3d.demo.train import CRITERIA, TrainedRun, by_criterion
from influencer_mmdet3d.files import write_whole

COLOURS = {"influencer": "#1f77b4", "hungarian": "#e07b1a"}
_NO_MASK = (0.78, 0.78, 0.80)


def instance_colours(instance: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return (N, 3) colours 0 to 1: one hue for each instance, red for wrong masks, grey for none."""
    colours = np.empty((len(instance), 3))
    for number in np.unique(instance):
        if number < 0:
            colour = _NO_MASK
        elif number >= WRONG:
            colour = (0.90, 0.05 + 0.05 * (number % 3), 0.08)
        else:  # golden angle: neighbours in number differ in hue; red, orange and magenta are left for wrong masks
            colour = colorsys.hsv_to_rgb(0.13 + 0.63 * (number * 0.381966 % 1.0), 0.60 + 0.3 * (number % 2), 0.82)
        colours[instance == number] = colour
    return colours


def curves(runs: Sequence[TrainedRun]) -> bytes:
    """Return a PNG: AP50 and loss over training steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    scores, losses = figure.subplots(1, 2)
    _draw_scores(scores, runs)
    for name, group in by_criterion(runs).items():
        steps, values = np.mean([run.losses for run in group], axis=0).T
        width = min(15, len(values))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        losses.plot(steps[width - 1 :], smooth, color=COLOURS[name], label=CRITERIA[name])
    losses.set(xlabel="training step", ylabel="own loss (scales differ)", title="Loss, mean of 15 steps")
    losses.legend(frameon=False)
    for axes in (scores, losses):
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _draw_scores(axes: Any, runs: Sequence[TrainedRun]) -> None:
    for name, group in by_criterion(runs).items():
        steps = [step for step, _ in group[0].scores]
        for key, title, style in (("ap50", "AP50", "o-"), ("ap", "AP", "s--")):
            values = np.array([[metrics[key] for _, metrics in run.scores] for run in group])
            label = f"{title}, {CRITERIA[name]}"
            axes.plot(steps, values.mean(0), style, color=COLOURS[name], markersize=4, label=label)
            if len(group) > 1:
                axes.fill_between(steps, values.min(0), values.max(0), color=COLOURS[name], alpha=0.12, linewidth=0)
    seeds = len({run.seed for run in runs})
    title = "AP on held-out rooms" + (f", mean and range of {seeds} seeds" if seeds > 1 else "")
    axes.set(xlabel="training step", ylabel="on held-out rooms", ylim=(0, None), title=title)
    axes.legend(frameon=False, fontsize=8)


def overview(points: npt.NDArray[Any], shown: dict[str, Shown], runs: Sequence[TrainedRun], path: Path) -> None:
    """Write the demo's picture: a held-out room, its truth and what the first seed found, and the scores."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.6, 7.2), layout="constrained")
    rows: Any = figure.subfigures(2, 1, height_ratios=[1.5, 1])
    top, bottom = rows
    true = shown["truth"]
    low, high = points[:, :3].min(0), points[:, :3].max(0)
    near = (points[:, 0] > high[0] - 0.12) | (points[:, 1] < low[1] + 0.12)
    seen = (true.label != CLASSES.index("ceiling")) & (true.label != CLASSES.index("beam")) & ~near
    panels = {
        "a held-out room\ncolours": points[:, 3:] / 255,
        f"ground truth\n{true.matched} instances": instance_colours(true.instance),
    }
    for name in by_criterion(runs):
        got = shown[name]
        title = f"{CRITERIA[name]}\n{got.matched} found, {got.missed} missed, {got.wrong} wrong (red)"
        panels[title] = instance_colours(got.instance)
    for number, (title, colours) in enumerate(panels.items()):
        axes = top.add_subplot(1, len(panels), number + 1, projection="3d")
        axes.scatter(*points[seen, :3].T, c=np.clip(colours[seen], 0, 1), s=6.0, linewidths=0, depthshade=False)
        axes.set_box_aspect(high - low, zoom=1.25)
        axes.view_init(elev=42, azim=-52)
        axes.set_axis_off()
        axes.set_title(title, fontsize=10, y=1.03)
    left, right = bottom.subplots(1, 2)
    _draw_scores(left, runs)
    _draw_bars(right, runs)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    write_whole(path, _png(figure))


def _draw_bars(axes: Any, runs: Sequence[TrainedRun]) -> None:
    names = sorted({key.removeprefix("ap50/") for run in runs for key in run.final if "/" in key}, key=CLASSES.index)
    groups = by_criterion(runs)
    width = 0.8 / len(groups)
    for number, (criterion, group) in enumerate(groups.items()):
        values = [np.mean([run.final.get(f"ap50/{name}", 0.0) for run in group]) for name in names]
        places = np.arange(len(names)) + number * width
        axes.bar(places, values, width, color=COLOURS[criterion], label=CRITERIA[criterion])
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names, rotation=35, ha="right", fontsize=8)
    axes.set(ylabel="AP50", title="AP50 of each class, held-out rooms", ylim=(0, 1.15), yticks=np.arange(0, 1.1, 0.2))
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
