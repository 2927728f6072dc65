"""What other tools' parsers of points would have scored on the same answers: `evaluate --also lmms-eval`.

Written from their behaviour (lmms-eval 0.7.3); tests hold them against the library itself. Three readers:

- refspatial, where2place: every `(a, b)` of two plain numbers, as fractions, cut to whole pixels towards 0;
- refspatial_json, where2place_json: every `[a, b]` and `(a, b)`; thousandths unless one number has a point;
- pointbench: every `(a, b)`; fractions up to 1, thousandths up to 1000, pixels beyond; rounded.

`other_tools` has those of its `crosspoint_bench` and of VLMEvalKit. A sample's score is the share of its points
inside the mask, 0 without any. They know no NOT_VISIBLE, so only visible objects are scored.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roborefer_spatial.images import probe
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring import other_tools
from roborefer_spatial.scoring.other_tools import Pixels, Reader
from roborefer_spatial.scoring.points import frames_of, inside_masks, locate
from roborefer_spatial.scoring.score import Scores

_PLAIN = r"[-+]?\d+\.?\d*"
_TUPLE = re.compile(rf"\(({_PLAIN}),\s*({_PLAIN})\)")
_EITHER = re.compile(rf"[\[(]\s*({_PLAIN})\s*,\s*({_PLAIN})\s*[\])]")
_LOOSE = re.compile(r"\(([-+]?\d*\.?\d+)\s*,\s*([-+]?\d*\.?\d+)\)")


def refspatial(text: str, size_wh: tuple[int, int]) -> Pixels:
    """Read as lmms-eval's tasks `refspatial_*` and `where2place` do."""
    return [(int(float(x) * size_wh[0]), int(float(y) * size_wh[1])) for x, y in _TUPLE.findall(text)]


def refspatial_json(text: str, size_wh: tuple[int, int]) -> Pixels:
    """Read as the `_json` variants of these tasks do."""
    found = []
    for x, y in _EITHER.findall(text):
        scale = 1 if "." in x + y else 1000
        found.append((int(float(x) / scale * size_wh[0]), int(float(y) / scale * size_wh[1])))
    return found


def pointbench(text: str, size_wh: tuple[int, int]) -> Pixels:
    """Read as lmms-eval's `pointbench` does."""
    found = []
    for pair in _LOOSE.findall(text):
        values = [float(number) for number in pair]
        for limit in (1.0, 1000.0):
            if all(0 <= value <= limit for value in values):
                values = [value / limit * side for value, side in zip(values, size_wh)]
                break
        found.append((round(values[0]), round(values[1])))
    return found


TOOLS: dict[str, dict[str, Reader]] = {
    "lmms-eval": {"refspatial": refspatial, "refspatial_json": refspatial_json, "pointbench": pointbench},
    **other_tools.READERS,
}
"""Tool -> its readers."""


def _first_size(sample: Sample) -> tuple[int, int]:
    """Return (width, height) of a question's first picture, from its file where it may differ."""
    if len(sample.image) < 2:
        return sample.answer_size
    path = Path(sample.image[0])
    try:
        return probe(path.read_bytes(), path)
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}), and crosspoint_bench's relative forms are of the "
            "first picture's size: bring the pictures, or leave crosspoint_bench out of --also"
        ) from error


def hits(
    scores: Scores, reader: Reader, *, workers: int = 4, size_of: Callable[[Sample], tuple[int, int]] | None = None
) -> NDArray[np.float64]:
    """Return (N,) the share of each answer's points inside the mask; NaN for an object out of view.

    `size_of` says which size the reader takes for the picture's; by default it is the picture's own.
    """
    size_of = size_of or operator.attrgetter("answer_size")
    chosen = np.flatnonzero(scores.visible).tolist()
    samples = [scores.samples[i] for i in chosen]
    read = [reader(scores.texts[i] or "", size_of(sample)) for i, sample in zip(chosen, samples)]
    index = np.repeat(np.arange(len(chosen)), [len(points) for points in read])
    sizes = np.array([samples[i].answer_size for i in index.tolist()], np.float64).reshape(-1, 2)
    # a number of any length: what does not fit into an integer lies outside
    pixels = np.array([point for points in read for point in points], np.float64).reshape(-1, 2)
    frames, codes = frames_of(samples)
    points = locate(frames, codes[index], index, (pixels + 0.5) / sizes)
    paths = [s.mask_dilated_path if s.gt_mask == "dilated" else s.mask_path for s in samples]
    inside, _ = inside_masks(points, samples, paths, workers=workers)
    result = np.full(len(scores), np.nan)
    count = np.bincount(index, minlength=len(chosen))
    result[chosen] = np.bincount(index, weights=inside, minlength=len(chosen)) / np.maximum(count, 1)
    return result


def compared(scores: Scores, tool: str = "lmms-eval", *, workers: int = 4) -> dict[str, Any]:
    """Return for each reader of a tool its Hit@Mask, the strict one, and the visible samples whose scores differ."""
    found = {}
    visible = np.flatnonzero(scores.visible)
    for name, reader in TOOLS[tool].items():
        size_of = _first_size if name in other_tools.FIRST_PICTURE else None
        theirs = hits(scores, reader, workers=workers, size_of=size_of)
        differ = [int(i) for i in visible if theirs[i] != scores.hit[i]]
        found[name] = {
            "hit_at_mask": float(theirs[visible].mean()) if len(visible) else None,
            "strict_hit_at_mask": float(scores.hit[visible].mean()) if len(visible) else None,
            "visible_gt": len(visible),
            "differ": [
                {
                    "id": scores.samples[i].id,
                    "theirs": float(theirs[i]),
                    "strict": float(scores.hit[i]),
                    "reason": scores.reason[i],
                    "text": scores.texts[i],
                }
                for i in differ
            ],
        }
    return found


def table(found: dict[str, Any], tool: str = "lmms-eval") -> str:
    """Return what differs, for people."""
    lines = [f"as {tool}'s parsers read these answers (visible objects only):"]
    for name, one in found.items():
        if one["hit_at_mask"] is None:
            lines.append(f"  {name}: no visible object")
            continue
        lines.append(
            f"  {name}: Hit@Mask {one['hit_at_mask']:.4f}, here {one['strict_hit_at_mask']:.4f}; "
            f"{len(one['differ'])} of {one['visible_gt']} samples differ"
        )
        for row in one["differ"][:3]:
            there, here, text = f"{row['theirs']:.2f} there", f"{row['strict']:.2f} here", f"{row['text']!r:.90}"
            lines.append(f"    {row['id']}: {there}, {here} ({row['reason']}): {text}")
    return "\n".join(lines)
