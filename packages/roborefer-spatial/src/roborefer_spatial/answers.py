"""The answer text of a pointing task: its only formatter and its only parser.

Frame: x runs right and y down; both are fractions of the width and height of the image that the answer is
about (the query image, or the whole concatenated image). Pixel column `c` of an image `w` wide covers
`c / w <= x < (c + 1) / w`; its centre is `(c + 0.5) / w`. So the valid range is `0 <= x < 1`, and a value
outside of it is outside of the image: nothing here clamps.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from roborefer_spatial import answer_forms, answer_phrases
from roborefer_spatial.answer_forms import Pair

NOT_VISIBLE: str = "NOT_VISIBLE"
"""The answer when the object cannot be seen in the query image."""

Units = Literal["normalized", "percent", "thousand", "pixel", "roborefer"]
PointOrder = Literal["xy", "yx"]
Boxes = Literal["refuse", "center"]
Point = tuple[float, float]
_UNITS, _POINT_ORDERS, _BOXES = get_args(Units), get_args(PointOrder), get_args(Boxes)
NEEDS_SIZE: frozenset[str] = frozenset({"pixel", "roborefer"})
"""Units that mean nothing without the image's size."""

POINTS, REFUSAL, EMPTY = "points", "refusal", "empty"
FAILURES: dict[str, str] = {
    EMPTY: "no text, or white space alone",
    REFUSAL: "declines to answer (I cannot ..., I'm sorry ...)",
    "conflict": "a point and a statement that the object is not visible",
    "box": "a box (four numbers) where a point was asked for",
    "wrong_arity": "a bracket of one, three or more than four numbers",
    "mixed_units": "one coordinate in percent or pixels, the other not",
    "unclear_units": "says pixels, or a number above 100 in Molmo's percent tag: pixels or thousandths?",
    "wrong_image": "every point is said to be in another image than the one asked about",
    "not_finite": "a number too large for a float",
    "truncated": "ends inside a coordinate or inside its reasoning",
    "too_long": "longer than any answer (MAX_CHARS)",
    "no_point": "text without a coordinate",
}
"""Reason codes of answers that are neither points nor NOT_VISIBLE, with their meaning."""

MAX_CHARS = 65_536


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """What an answer says.

    Attributes
    ----------
    points
        (x, y) pairs as fractions of width and height, in the order written, not clamped; empty unless
        `reason` is "points".
    not_visible
        Whether the answer is NOT_VISIBLE in one of its spellings.
    reason
        "points", "not_visible", or a key of `FAILURES`.
    form
        How the coordinates were written: a name in `answer_forms.TAGGED` or `WRITTEN`, or "box"; "" without
        coordinates.
    """

    points: tuple[Point, ...]
    not_visible: bool
    reason: str
    form: str = ""

    @property
    def ok(self) -> bool:
        """Whether the answer could be understood (points or NOT_VISIBLE)."""
        return self.not_visible or bool(self.points)


def decimals(size_wh: tuple[int, int]) -> int:
    """Return the decimals with which every pixel centre of a size_wh image maps back to its own pixel.

    Rounding to d decimals moves a coordinate by at most 0.5 / 10**d and half a pixel is 0.5 / w, so
    10**d > w suffices. At least 3, the precision of RoboRefer's own training answers.
    """
    if min(size_wh) < 1:
        raise ValueError(f"image size is (width, height) in pixels, at least 1 each; got {size_wh}")
    return max(3, len(str(math.ceil(max(size_wh)))))


def format_points(points: Sequence[tuple[float, float]], size_wh: tuple[int, int] | None = None) -> str:
    """Return `[(x, y), ...]` with enough decimals for an image of size_wh.

    Parameters
    ----------
    points
        (x, y) as fractions of width and height, 0 <= x < 1.
    size_wh
        Size in pixels of the image whose pixel centres must survive. Where the answer is given in another
        frame by a map `x_answer = a * x + b`, pass the size divided by `a`. None: 6 decimals.

    Raises
    ------
    ValueError
        No points, or a coordinate that is not inside the image.
    """
    if not points:
        raise ValueError(f"format_points needs at least one point; an object out of view is the answer {NOT_VISIBLE!r}")
    for x, y in points:
        if not (0 <= x < 1 and 0 <= y < 1):
            raise ValueError(
                f"point ({x}, {y}) is outside of the image: expected fractions 0 <= x < 1 of width and height"
            )
    places = 6 if size_wh is None else decimals(size_wh)
    return "[" + ", ".join(f"({x:.{places}f}, {y:.{places}f})" for x, y in points) + "]"


def parse(
    text: str,
    *,
    units: Units = "normalized",
    size_wh: tuple[int, int] | None = None,
    point_order: PointOrder = "xy",
    boxes: Boxes = "refuse",
    images: int = 1,
) -> Parsed:
    """Read an answer. Never raises for any text.

    Where an answer names several images, the points of the last one (the query) count; where it says which
    is its final answer, only what follows does.

    Parameters
    ----------
    text
        The model's answer. Of `<think>...</think><answer>...</answer>` only the answer counts.
    units
        What plain numbers mean: "normalized" 0..1, "percent" 0..100, "thousand" 0..1000 (Qwen-VL, Gemini),
        "pixel" (an integer is a pixel's index), "roborefer" (the host's rule: pixels unless one number of the
        pair has a decimal point). A % sign, px, Molmo's XML (percent), Molmo2's (thousandths) and PaliGemma's
        <loc> (1/1024, y first) say their own units.
    size_wh
        Size in pixels of the image that the answer is about; required for "pixel" and "roborefer".
    point_order
        Order of the two numbers of a JSON "point" list: "yx" for Gemini. Everything else is x first.
    boxes
        A box where a point was asked for: "refuse", or its "center".
    images
        How many images the question had: Molmo2 numbers them, and the last one is asked about.

    Raises
    ------
    ValueError
        An unknown option, or `size_wh` missing where the units need it.
    """
    _check_options(units, size_wh, point_order, boxes)
    plain = as_built(text) if units == "normalized" or text == NOT_VISIBLE else None
    if plain is not None:
        return plain
    if len(text) > MAX_CHARS:
        return _failure("too_long")
    text = _normalise(text)
    if not text:
        return _failure(EMPTY)
    final = _final_answer(text)
    if final is None:
        return _failure("truncated")
    return _read(final, units, size_wh, point_order, boxes, images)


# patterns take these four for white space (\s), float() does not
_SEPARATORS = str.maketrans(dict.fromkeys("\x1c\x1d\x1e\x1f", " "))
_NOT_VISIBLE = Parsed((), True, "not_visible")
_CANONICAL = re.compile(r"\[\((-?\d\.\d{1,17}), (-?\d\.\d{1,17})\)\]")


def as_built(text: str) -> Parsed | None:
    """Read an answer that is written as `build` writes them, one point or NOT_VISIBLE; None for any other."""
    if text == NOT_VISIBLE:
        return _NOT_VISIBLE
    found = _CANONICAL.fullmatch(text)
    if found is None:
        return None
    return Parsed(((float(found[1]), float(found[2])),), False, POINTS, "list")


def all_as_built(texts: Sequence[str | None]) -> list[Parsed | None]:
    """Read many answers by `as_built`; None for one without a text, too."""
    read: list[Parsed | None] = []
    for start in range(0, len(texts), _BLOCK):
        some = texts[start : start + _BLOCK]
        read += _block_as_built(some) or [None if text is None else as_built(text) for text in some]
    return read


_BLOCK = 128


def _block_as_built(texts: Sequence[str | None]) -> list[Parsed] | None:
    """Read answers together, in half the time; None unless each is as `build` writes it."""
    found = answer_forms.one_point_each([text for text in texts if text != NOT_VISIBLE])
    if found is None:
        return None
    points = iter(found)
    return [_NOT_VISIBLE if text == NOT_VISIBLE else Parsed(next(points), False, POINTS, "list") for text in texts]


def _check_options(units: str, size_wh: tuple[int, int] | None, point_order: str, boxes: str) -> None:
    if units not in _UNITS:
        raise ValueError(f"unknown units {units!r}; known: {', '.join(_UNITS)}")
    if point_order not in _POINT_ORDERS:
        raise ValueError(f"unknown point_order {point_order!r}; known: xy, yx")
    if boxes not in _BOXES:
        raise ValueError(f"unknown boxes {boxes!r}; known: {', '.join(_BOXES)}")
    if units in NEEDS_SIZE and size_wh is None:
        raise ValueError(f"units={units!r} needs size_wh, the (width, height) in pixels of the image answered about")


def _failure(reason: str, form: str = "") -> Parsed:
    assert reason in FAILURES, reason
    return Parsed((), False, reason, form)


_LAST_FINALS = 4  # a text that says "answer:" more often is not read for longer
_OPEN_END = re.compile(r"[(\[{]\s*(?:[\"'\w]*\s*:)?\s*[-+\d.,;%\s\[(]*$")
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.I | re.S)
_THINK = re.compile(r"<(/?)think(?:ing)?>", re.I)


def _normalise(text: str) -> str:
    """Fold full-width brackets, digits and commas, the minus sign, LaTeX's \\left(, Markdown's \\_ and separators."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    return text.translate(_SEPARATORS).replace("\\left", "").replace("\\right", "").replace("\\_", "_").strip()


def _final_answer(text: str) -> str | None:
    """Return what follows the reasoning; None if the text ends inside of it."""
    answers = _ANSWER.findall(text)
    if answers:
        return str(answers[-1]).strip()
    tags = list(_THINK.finditer(text))
    if not tags:
        return text
    if not tags[-1][1]:
        return None
    before = "" if tags[0][1] else text[: tags[0].start()]
    return (before + " " + text[tags[-1].end() :]).strip()


def _read(
    text: str, units: Units, size_wh: tuple[int, int] | None, point_order: PointOrder, boxes: Boxes, images: int
) -> Parsed:
    lower = answer_phrases.without("echo", answer_phrases.folded(text))
    text = "".join(" " if blank == " " else kept for blank, kept in zip(lower, text))
    text, lower = _after_final(text, lower)
    form, pairs = _pairs(text, lower, point_order, boxes, images)
    said = _said_invisible(lower, text)
    if pairs is None and said != "firm":
        return _failure("wrong_image", form)
    if said == "firm" and pairs and len(pairs) == 1 and _of_the_query(pairs, lower, alone=True) is None:
        pairs = []  # "at ... in the first image; in the second it is not visible"
    if pairs:
        return _failure("conflict", form) if said == "firm" else _to_points(pairs, form, units, size_wh)
    if form == "box":
        return _failure("box")
    if said:
        return Parsed((), True, "not_visible")
    return _failure(_why_no_point(text, lower))


def _fenced(text: str) -> tuple[int, int] | None:
    """Return where a code block's content lies that ends the text; None without one."""
    end = len(text.rstrip())
    if not text.endswith("```", 0, end):
        return None
    start = text.rfind("```", 0, end - 3)
    return None if start < 0 else (start + 3, end - 3)


def _after_final(text: str, lower: str) -> tuple[str, str]:
    """Return what follows the last words such as "final answer:", or the code block at the end, if it is an answer."""
    block = _fenced(text)
    if block is not None:
        rest, rest_lower = text[slice(*block)], lower[slice(*block)]
        if answer_forms.bracket_lengths(rest) or any(find(rest, "xy") for _, find in answer_forms.TAGGED):
            return rest, rest_lower
    for _, end in reversed(answer_phrases.places("final", lower)[-_LAST_FINALS:]):
        rest, rest_lower = text[end:].strip(" :*=\n{}"), lower[end:].strip(" :*=\n{}")
        if any(find(rest, "xy") for _, find in (*answer_forms.TAGGED, *answer_forms.WRITTEN)):
            return rest, rest_lower
        if _said_invisible(rest_lower, rest) == "firm":
            return rest, rest_lower
    return text, lower


def _pairs(text: str, lower: str, point_order: PointOrder, boxes: Boxes, images: int) -> tuple[str, list[Pair] | None]:
    """Return the form and the pairs that count; None for pairs of another image only."""
    for form, find in answer_forms.TAGGED:
        pairs = find(text, point_order)
        if pairs and form == "coords":
            mine = [pair for pair in pairs if pair.image == images]
            return form, mine or None
        if pairs:
            return form, _of_the_query(pairs, lower)
    if boxes == "center":
        centres = list(answer_forms.find_boxes(text, point_order))
        if centres:
            return "box", _of_the_query(centres, lower)
    elif answer_forms.tagged_box(text):
        return "box", []
    found = {form: find(text, point_order) for form, find in answer_forms.WRITTEN}
    first = next((form for form, pairs in found.items() if pairs), "")
    if not first:
        return "", []
    together = {pair.at: pair for form, pairs in found.items() if form != "list" for pair in pairs}
    several = sorted(together.values(), key=lambda pair: pair.at)
    chosen = _of_the_query(several, lower)
    if chosen is None or len(chosen) < len(several):
        return first, chosen
    return first, found[first]


def _of_the_query(pairs: list[Pair], lower: str, *, alone: bool = False) -> list[Pair] | None:
    """Return the pairs that are said to be in the query image; all where the text does not tell them apart.

    A single pair is not doubted, unless `alone`.
    """
    marks = sorted(
        [(start, "reference") for start, _ in answer_phrases.places("reference", lower)]
        + [(start, "query") for start, _ in answer_phrases.places("query", lower)]
    )
    if {kind for _, kind in marks} != {"reference", "query"} or len(pairs) < 2 - alone:
        return pairs
    before = marks[0][0] < pairs[0].at  # "in the first image at ..." rather than "... in the first image"
    kinds = []
    for pair in pairs:
        near = (
            [kind for at, kind in marks if at < pair.at][-1:] if before else [k for at, k in marks if at > pair.at][:1]
        )
        kinds.append(near[0] if near else "query")
    if set(kinds) == {"query"}:
        return pairs
    return [pair for pair, kind in zip(pairs, kinds) if kind == "query"] or None


def _said_invisible(lower: str, text: str) -> str:
    """Return "firm", "soft" or "": what the text says of whether the query image shows the object."""
    clean = answer_phrases.without("condition", lower)
    firm, hedged, hidden = answer_phrases.visibility(clean)
    marks = sorted(
        [(start, "reference") for start, _ in answer_phrases.places("reference", clean)]
        + [(start, "query") for start, _ in answer_phrases.places("query", clean)]
    )
    if {kind for _, kind in marks} == {"reference", "query"}:
        firm = [at for at in firm if _nearest(at, marks, clean) == "query"]
    if firm:
        return "firm"
    return "soft" if hedged or hidden else ""


def _nearest(at: int, marks: list[tuple[int, str]], text: str) -> str:
    """Return the image that a statement is about: named in its clause, or else before it."""
    starts = [match.end() for match in re.finditer(r"[.!?;,\n]|\b(?:and|but|while|whereas)\b", text[:at])]
    start = starts[-1] if starts else 0
    ends = re.search(r"[.!?;,\n]|\b(?:and|but|while|whereas)\b", text[at:])
    end = at + ends.start() if ends else len(text)
    inside = [kind for place, kind in marks if start <= place < end]
    before = [kind for place, kind in marks if place < at]
    return inside[0] if inside else before[-1] if before else "query"


def _why_no_point(text: str, lower: str) -> str:
    counts = answer_forms.bracket_lengths(text)
    if 4 in counts or re.search(r"bbox(?:_2d)?[\"']?\s*:", text):
        return "box"
    if counts:
        return "wrong_arity"
    if _OPEN_END.search(text[-200:]) and re.search(r"\d", text[-200:]):
        return "truncated"
    return REFUSAL if answer_phrases.places("refusal", lower) else "no_point"


def _to_points(pairs: list[Pair], form: str, units: str, size_wh: tuple[int, int] | None) -> Parsed:
    points: list[Point] = []
    for pair in pairs:
        point = answer_forms.as_fractions(pair, units, size_wh)
        if isinstance(point, str):
            return _failure(point, form)
        points.append(point)
    return Parsed(tuple(points), False, POINTS, form)
