"""A picture of `learn_task1`: questions about held-out rooms, where model and matcher point. Not chosen: every n-th.

Run: python benchmarks/task1_picture.py --rooms-folder learn_task1 --model learn_task1/answers.jsonl --out task1.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from learn_task1 import held_out, matched
from PIL import Image
from roborefer_spatial import answers
from roborefer_spatial.images import read_rgb
from roborefer_spatial.predictions import read
from roborefer_spatial.sample import Sample

KINDS = (("model", "tab:cyan", "o"), ("matcher (SIFT)", "tab:orange", "X"))


def point_of(text: str, size_wh: tuple[int, int]) -> tuple[float, float] | None:
    """Return the pixel of an answer, or None for NOT_VISIBLE."""
    found = answers.parse(text)
    return None if not found.points else (found.points[0][0] * size_wh[0], found.points[0][1] * size_wh[1])


def draw(axes: Any, sample: Sample, said: dict[str, str]) -> None:
    """Draw A and B of a question side by side, the true mask's border white, answers as marks or words."""
    a, b = (read_rgb(Path(path)) for path in sample.image)
    axes.imshow(np.concatenate([a, np.full((a.shape[0], 6, 3), 255, np.uint8), b], 1))
    shift = a.shape[1] + 6
    if sample.visible:
        mask = np.asarray(Image.open(str(sample.mask_dilated_path))) > 0
        axes.contour(np.arange(b.shape[1]) + shift, np.arange(b.shape[0]), mask, [0.5], colors="white", linewidths=1.2)
    words = ["in view" if sample.visible else "NOT_VISIBLE"]
    for name, colour, shape in KINDS:
        at = point_of(said[name], (b.shape[1], b.shape[0]))
        words.append(f"{name.split()[0]}: {'NOT_VISIBLE' if at is None else 'points'}")
        if at is not None:
            axes.plot(at[0] + shift, at[1], shape, color=colour, markersize=8, markeredgecolor="black")
    axes.set_title("truth: " + ", ".join(words), fontsize=7)
    axes.axis("off")


def main() -> int:
    """Draw eight questions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms-folder", type=Path, required=True, help="of learn_task1")
    parser.add_argument("--val-rooms", type=int, default=40, help="held-out rooms (default: %(default)s)")
    parser.add_argument("--model", type=Path, required=True, help="the model's answers.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    args = parser.parse_args()
    samples = held_out(args.rooms_folder.resolve(), args.val_rooms)
    said = [{row.id: row.text for row in rows} for rows in (read(args.model), matched(args.rooms_folder, samples))]
    figure, axes = plt.subplots(4, 2, figsize=(9, 8))
    for place, sample in zip(axes.flat, samples[7 :: max(len(samples) // 8, 1)]):
        draw(place, sample, {name: texts[sample.id] for (name, *_), texts in zip(KINDS, said)})
    figure.suptitle("left: A, marked red; right: B; cyan: two-image model, orange: matcher (SIFT)", fontsize=9)
    figure.tight_layout()
    figure.savefig(args.out, dpi=110)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
