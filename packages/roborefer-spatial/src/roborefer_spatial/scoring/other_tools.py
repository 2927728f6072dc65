"""How lmms-eval's `crosspoint_bench` and VLMEvalKit read points: `evaluate --also crosspoint_bench vlmevalkit`.

Written from their behaviour; tests hold them against the tools themselves where these are installed.

- crosspoint_bench (lmms-eval 0.7.3): the first of eleven forms that the text has, in a fixed order, and of it the
  first pair only; a minus sign is not read. Its numbers are whole pixels unless the variable CROSSPOINT_COORD_FORMAT
  says `relative_1` or `relative_1000`: all three are shown. Those two are of the first picture's size
  (`FIRST_PICTURE`), whichever picture is asked about.
- vlmevalkit (`Point2DParser` of its RefSpatial-Bench): JSON or a Python literal with "point_2d" or "point", fractions
  up to 1.5, thousandths up to 1000, pixels beyond; otherwise every `(a, b)`, fractions up to 1.5 and pixels beyond,
  and of every `(a, b, c, d)` all the pixels of the box. Everything is moved onto the picture and rounded, so that a
  point outside of it can hit.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

Pixels = list[tuple[int, int]]
Reader = Callable[[str, tuple[int, int]], Pixels]

_MAX_CHARS = 10_000
"""Longer texts are taken to hold no point: some of these forms need time that grows with the square of a length."""
_MAX_BOX_PIXELS = 4_000_000
_D = r"([0-9.]+)"
_FORMS: tuple[tuple[re.Pattern[str], bool], ...] = tuple(
    (re.compile(pattern, re.DOTALL), y_first)
    for pattern, y_first in (
        (rf'\{{[^{{}}]*"(?:point_2d|point|coordinates?)"\s*:\s*\[{_D}\s*,\s*{_D}\]', False),
        (rf'\{{[^{{}}]*"x"\s*:\s*{_D}[^{{}}]*"y"\s*:\s*{_D}', False),
        (rf'\{{[^{{}}]*"y"\s*:\s*{_D}[^{{}}]*"x"\s*:\s*{_D}', True),
        (rf'<point\s+x="{_D}"\s+y="{_D}"[^>]*>', False),
        (rf"(?:coordinates?|position|location).*?(?:are|is)\s+{_D},\s*{_D}", False),
        (rf"[xX]\s*:\s*{_D}.*?[yY]\s*:\s*{_D}", False),
        (rf"[yY]\s*:\s*{_D}.*?[xX]\s*:\s*{_D}", True),
        (rf"""x["']?\s*:\s*{_D}.*?["']?y["']?\s*:\s*{_D}""", False),
        (rf"\[{_D},\s*{_D}\]", False),
        (rf"\({_D},\s*{_D}\)", False),
        (rf"{_D},\s*{_D}", False),
    )
)
"""Form -> whether y comes first; the first that occurs anywhere is taken."""


def crosspoint(text: str, size_wh: tuple[int, int], *, unit: float | None = None) -> Pixels:
    """Read as `crosspoint_bench` does; numbers are pixels, or 1 / `unit` of the sides. It stops at a 0.5.5."""
    if len(text) > _MAX_CHARS:
        return []
    for form, y_first in _FORMS:
        found = form.search(text)
        if found is None:
            continue
        try:
            numbers = [float(found[2]), float(found[1])] if y_first else [float(found[1]), float(found[2])]
        except ValueError:
            return []
        if unit is not None:
            numbers = [number / unit * side for number, side in zip(numbers, size_wh)]
        return [(int(numbers[0]), int(numbers[1]))] if all(map(math.isfinite, numbers)) else []
    return []


_NUMBER = r"[-+]?\d+\.?\d*"
_ROUND_BRACKET = re.compile(rf"\(({_NUMBER}(?:,\s*{_NUMBER})*)\)")


def vlmevalkit(text: str, size_wh: tuple[int, int]) -> Pixels:
    """Read as VLMEvalKit's parser of points does."""
    if len(text) > _MAX_CHARS:
        return []
    points = list(_of_literal(_literal(text), size_wh)) or list(_of_brackets(text, size_wh))
    return [(_on_picture(x, size_wh[0]), _on_picture(y, size_wh[1])) for x, y in points]


def _on_picture(pixel: float, side: int) -> int:
    return -1 if math.isnan(pixel) else round(min(max(pixel, 0), side - 1))


def _literal(text: str) -> list[Any]:
    """Return the list that a text is, without the fence of a code block; empty where it is none."""
    text = text.strip()
    if text.startswith("```"):
        _, line_break, inner = text.partition("\n")
        text = (inner if line_break else text.lstrip("`")).strip().removesuffix("```").strip()
    value: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
    if value is None:
        with contextlib.suppress(Exception), warnings.catch_warnings():  # whatever a parser of Python has to say
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    return [value] if isinstance(value, dict) else value if isinstance(value, list) else []


def _of_literal(items: list[Any], size_wh: tuple[int, int]) -> Iterator[tuple[float, float]]:
    for item in items:
        pair = (item.get("point_2d") or item.get("point")) if isinstance(item, dict) else None
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            continue
        try:
            x, y = map(float, pair)
        except (TypeError, ValueError, OverflowError):
            continue
        largest = max(abs(x), abs(y))
        scale = 1.0 if largest <= 1.5 else 1000.0 if largest <= 1000 else None
        yield _scaled(x, size_wh[0], scale), _scaled(y, size_wh[1], scale)


def _scaled(number: float, side: int, scale: float | None) -> float:
    """Return a number in pixels, by way of a fraction, as the tool has it (the last digits depend on that)."""
    return number / (side if scale is None else scale) * side


def _of_brackets(text: str, size_wh: tuple[int, int]) -> Iterator[tuple[float, float]]:
    for inside in _ROUND_BRACKET.findall(text):
        numbers = [float(number) for number in inside.split(",")]
        if len(numbers) not in (2, 4):
            continue
        scale = 1.0 if max(map(abs, numbers)) <= 1.5 else None
        if len(numbers) == 2:
            yield _scaled(numbers[0], size_wh[0], scale), _scaled(numbers[1], size_wh[1], scale)
            continue
        if scale:
            numbers = [number * side for number, side in zip(numbers, size_wh * 2)]
        if all(map(math.isfinite, numbers)):
            xs, ys = (sorted(map(round, numbers[axis::2])) for axis in (0, 1))
            if (xs[1] - xs[0]) * (ys[1] - ys[0]) <= _MAX_BOX_PIXELS:
                yield from ((x, y) for y in range(*ys) for x in range(*xs))


READERS: dict[str, dict[str, Reader]] = {
    "crosspoint_bench": {
        "crosspoint_bench": crosspoint,
        "crosspoint_bench, relative_1": partial(crosspoint, unit=1.0),
        "crosspoint_bench, relative_1000": partial(crosspoint, unit=1000.0),
    },
    "vlmevalkit": {"vlmevalkit": vlmevalkit},
}
"""Tool -> its readers."""

FIRST_PICTURE = frozenset({"crosspoint_bench, relative_1", "crosspoint_bench, relative_1000"})
"""Readers that take the size of a question's first picture for that of the picture that is answered about."""
