"""Whether answers fit the units that they are read in: what to tell a person beside the score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from roborefer_spatial.answers import FAILURES
from roborefer_spatial.scoring.score import ScoreOptions, Scores

_SCALE = {"normalized": 1.0, "percent": 100.0, "thousand": 1000.0}
_MANY = 0.5
_FEW = 8


def remarks(scores: Scores, options: ScoreOptions) -> Iterator[str]:
    """Yield a line of counts, where something was missing or odd, and a hint where other units would fit."""
    reasons = Counter(scores.reason)
    counts = {
        "missing": reasons["missing"],
        "failed": reasons["error"],
        "out of range": reasons["out_of_range"],
        "on the wrong side": reasons["wrong_side"],
        "not understood": sum(reasons[reason] for reason in FAILURES),
    }
    if any(counts.values()):
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        yield f"of {len(scores)} samples: {said}"
    hint = units_hint(scores, options)
    if hint:
        yield hint


def units_hint(scores: Scores, options: ScoreOptions) -> str | None:
    """Return a question such as "--units thousand?" where most points lie outside, or all in a corner."""
    scale = _SCALE.get(options.units)
    answered = [index for index, points in enumerate(scores.points) if points and scores.form[index] != "loc"]
    if scale is None or len(answered) < _FEW:
        return None
    numbers = np.array([[x * scale, y * scale] for index in answered for x, y in scores.points[index][:1]])
    largest = float(np.abs(numbers).max())
    outside = sum(scores.reason[index] == "out_of_range" for index in answered) / len(answered)
    in_corner = scale > 1 and largest <= 1
    if outside < _MANY and not in_corner:
        return None
    sizes = np.array([scores.samples[index].answer_size for index in answered])
    ranges = {
        "normalized": ("0..1", np.ones_like(numbers)),
        "percent": ("0..100", np.full_like(numbers, 100)),
        "thousand": ("0..1000", np.full_like(numbers, 1000)),
        "pixel": ("the image's pixels", sizes),
    }
    for units, (name, limit) in ranges.items():
        share = float(np.mean(np.all((numbers >= 0) & (numbers <= limit), axis=1)))
        if units != options.units and share >= 0.8:
            return f"hint: {share:.0%} of the answers lie in {name}: --units {units}, or a model's --profile?"
    return None
