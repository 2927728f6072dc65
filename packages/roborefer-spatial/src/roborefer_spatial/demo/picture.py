"""The demonstration's overview: held-out rooms with truth and answers, and the success curves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from roborefer_spatial.files import write_bytes
from roborefer_spatial.images import read_rgb
from roborefer_spatial.look.curves import COLOURS, LIMIT, at, success_curve
from roborefer_spatial.scoring.points import read_mask
from roborefer_spatial.scoring.score import Scores

ROWS, COLUMNS = 3, 2


def draw_overview(path: Path, vlm: Scores, baseline: Scores) -> None:
    """Write a PNG: six held-out samples of Task 2B, evenly spread from best to worst answer, and curves.

    Parameters
    ----------
    path
        The PNG file.
    vlm, baseline
        Scores of the same samples.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 8), dpi=100, layout="constrained")
    grid = figure.add_gridspec(ROWS, 2 * COLUMNS + 2)
    order = np.argsort(np.nan_to_num(vlm.l2, nan=np.inf), kind="stable")
    shown = order[np.linspace(0, len(order) - 1, ROWS * COLUMNS).astype(int)]
    for place, index in enumerate(shown):
        row, column = divmod(place, COLUMNS)
        axes = [figure.add_subplot(grid[row, 2 * column + side]) for side in (0, 1)]
        _draw_sample(axes, vlm, int(index))
    _draw_curves(figure.add_subplot(grid[:2, 2 * COLUMNS :]), vlm, baseline)
    _draw_bars(figure.add_subplot(grid[2, 2 * COLUMNS :]), vlm, baseline)
    figure.suptitle("Task 2B, held-out rooms: where was the object removed?", fontsize=17)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def _draw_sample(axes: list[Any], scores: Scores, index: int) -> None:
    sample = scores.samples[index]
    width, height = sample.query_size
    for axis, image, title in zip(axes, sample.image, ("original", f"removed, answer {scores.texts[index]}")):
        axis.imshow(read_rgb(Path(image)))
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    mask = read_mask(str(sample.mask_dilated_path if sample.gt_mask == "dilated" else sample.mask_path))
    axes[1].contour(mask, levels=[0.5], colors="#00c8ff", linewidths=1.5)
    assert sample.answer_point is not None
    x, y = sample.answer_point
    axes[1].plot(x * width, y * height, "o", ms=11, mfc="none", mec="#00c853", mew=3)
    for x, y in scores.points[index]:
        axes[1].plot(x * width, y * height, "X", ms=9, mfc="#ff1744", mec="white")


def _draw_curves(axis: Any, vlm: Scores, baseline: Scores) -> None:
    everything = np.ones(len(vlm), dtype=bool)
    places = np.linspace(0, LIMIT, 200)
    for scores, name, colour in (
        (vlm, "tiny VLM", COLOURS[0]),
        (baseline, "baseline: median answer", COLOURS[1]),
    ):
        curve = success_curve(name, scores, everything)
        axis.plot(places, [100 * at(curve, float(place)) for place in places], color=colour, lw=2.5, label=name)
    axis.set(xlim=(0, LIMIT), ylim=(0, 100), xlabel="distance to the true point (fraction of the image)")
    axis.set_ylabel("answers within the distance (%)")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")


def _draw_bars(axis: Any, vlm: Scores, baseline: Scores) -> None:
    names = ["chance", "baseline", "tiny VLM"]
    values = [100 * float(np.mean(column)) for column in (vlm.chance, baseline.hit, vlm.hit)]
    bars = axis.barh(names, values, color=["#999999", COLOURS[1], COLOURS[0]])
    axis.bar_label(bars, [f"{value:.0f} %" for value in values], padding=4)
    axis.set(xlim=(0, 100), xlabel="answers inside the object's mask (%)")
