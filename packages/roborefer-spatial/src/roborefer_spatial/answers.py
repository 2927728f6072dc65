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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

NOT_VISIBLE: str = "NOT_VISIBLE"
"""The answer when the object cannot be seen in the query image."""

Units = Literal["normalized", "percent", "thousand", "pixel", "roborefer"]
PointOrder = Literal["xy", "yx"]
Point = tuple[float, float]
_UNITS, _POINT_ORDERS = get_args(Units), get_args(PointOrder)

POINTS, REFUSAL, EMPTY = "points", "refusal", "empty"
FAILURES: dict[str, str] = {
    EMPTY: "no text, or white space alone",
    REFUSAL: "declines to answer (I cannot ..., I'm sorry ...)",
    "conflict": "a point and a statement that the object is not visible",
    "box": "a box (four numbers) where a point was asked for",
    "wrong_arity": "a bracket of one, three or more than four numbers",
    "mixed_units": "one coordinate in percent, the other not",
    "not_finite": "a number too large for a float",
    "truncated": "ends inside a coordinate or inside its reasoning",
    "too_long": "longer than any answer (MAX_CHARS)",
    "no_point": "text without a coordinate",
}
"""Reason codes of answers that are neither points nor NOT_VISIBLE, with their meaning."""

MAX_CHARS = 65_536


@dataclass(frozen=True, slots=True)
class Parsed:
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
        How the coordinates were written ("list", "tuple", "bracket", "json", "key_value", "xml", "point_tag",
        "loc", "bare"), "" without coordinates.
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
) -> Parsed:
    """Read an answer. Never raises for any text.

    Parameters
    ----------
    text
        The model's answer. Of `<think>...</think><answer>...</answer>` only the answer counts.
    units
        What plain numbers mean: "normalized" 0..1, "percent" 0..100, "thousand" 0..1000 (Qwen-VL, Gemini),
        "pixel" (an integer is a pixel's index), "roborefer" (the host's rule: pixels unless one number of the
        pair has a decimal point). A % sign, Molmo's XML (percent) and PaliGemma's <loc> (1/1024, y first) say
        their own units.
    size_wh
        Size in pixels of the image that the answer is about; required for "pixel" and "roborefer".
    point_order
        Order of the two numbers of a JSON "point" list: "yx" for Gemini. Everything else is x first.

    Raises
    ------
    ValueError
        An unknown option, or `size_wh` missing where the units need it.
    """
    _check_options(units, size_wh, point_order)
    quick = _CANONICAL.fullmatch(text)
    if quick is not None and units == "normalized":
        return Parsed(((float(quick[1]), float(quick[2])),), False, POINTS, "list")
    if len(text) > MAX_CHARS:
        return _failure("too_long")
    text = _normalise(text)
    if not text:
        return _failure(EMPTY)
    final = _final_answer(text)
    if final is None:
        return _failure("truncated")
    invisible = bool(_NOT_VISIBLE.search(final))
    for form, find in _FORMS:
        pairs = find(final, point_order)
        if pairs:
            return _failure("conflict", form) if invisible else _to_points(pairs, form, units, size_wh)
    if invisible:
        return Parsed((), True, "not_visible")
    return _failure(_why_no_point(final))


def _check_options(units: str, size_wh: tuple[int, int] | None, point_order: str) -> None:
    if units not in _UNITS:
        raise ValueError(f"unknown units {units!r}; known: {', '.join(_UNITS)}")
    if point_order not in _POINT_ORDERS:
        raise ValueError(f"unknown point_order {point_order!r}; known: xy, yx")
    if units in ("pixel", "roborefer") and size_wh is None:
        raise ValueError(f"units={units!r} needs size_wh, the (width, height) in pixels of the image answered about")


def _failure(reason: str, form: str = "") -> Parsed:
    assert reason in FAILURES, reason
    return Parsed((), False, reason, form)


# Patterns. Each starts at a literal bracket, key or tag and repeats no group that can match in two ways, so
# that the time stays near linear for any text up to MAX_CHARS.
_N = r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?\s?%?)"
_SEP = r"\s*[,;]\s*"
_Q = r"[\"']?"
_CANONICAL = re.compile(r"\[\((\d\.\d{1,17}), (\d\.\d{1,17})\)\]")
_TUPLE = re.compile(rf"\(\s*{_N}{_SEP}{_N}\s*,?\s*\)")
_BRACKET = re.compile(rf"\[\s*{_N}{_SEP}{_N}\s*,?\s*\]")
_JSON = re.compile(rf"{_Q}(point_2d|point|points|coordinates?|coords?)[\"']\s*:\s*(\[[\[\]\s,;()\d.eE+\-%]*\])")
_PAIR_IN_JSON = re.compile(rf"[\[(]\s*{_N}{_SEP}{_N}\s*,?\s*[\])]")
_KEY_VALUE = re.compile(rf"(?<![A-Za-z]){_Q}x{_Q}\s?[:=]\s*{_N}\s*[,;]?\s*(?:and\s)?{_Q}y{_Q}\s?[:=]\s*{_N}", re.I)
_XML = re.compile(r"<points?\s([^<>]*)>", re.I)
_XML_ATTRIBUTE = re.compile(r"\b([xy])(\d*)\s*=\s*[\"']\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*%?\s*[\"']")
_POINT_TAG = re.compile(rf"<point>\s*[(\[]?\s*{_N}(?:{_SEP}|\s+){_N}\s*[)\]]?\s*</point>", re.I)
_LOC = re.compile(r"((?:<loc\d{4}>)+)")
_BARE = re.compile(rf"{_N}(?:{_SEP}|\s+){_N}\.?")
_GROUP = re.compile(rf"[(\[]\s*{_N}((?:{_SEP}[-+]?\.?\d[\d.eE+\-]*\s?%?){{0,64}})\s*[)\]]")
_OPEN_END = re.compile(r"[(\[{]\s*(?:[\"'\w]*\s*:)?\s*[-+\d.,;%\s\[(]*$")
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.I | re.S)
_THINK = re.compile(r"<(/?)think>", re.I)
_NOT_VISIBLE = re.compile(
    r"\bnot[\s_\-]*(?:(?:clearly|currently|directly|be|at all)\s)?visible|(?<!not )\binvisible\b"
    r"|\bno longer visible\b|n['’]t (?:be )?visible\b"
    r"|\b(?:can ?not|can['’]?t|could not|couldn['’]t) be seen\b"
    r"|\bout of (?:view|sight|frame)\b|\bnot (?:in|within) (?:view|sight|the frame)\b"
    r"|不可见|看不到|看不见|不在视野",
    re.I,
)
_REFUSAL = re.compile(
    r"\b(?:i['’]?m sorry|i am sorry|sorry,|i apologi[sz]e|as an ai|unable to|not possible to"
    r"|i (?:can ?not|can['’]t|am unable|am not able|don['’]t|won['’]t)|i['’]m (?:unable|not able|not sure)"
    r"|cannot (?:determine|identify|locate|find|assist|help|provide))\b|抱歉|无法",
    re.I,
)


def _normalise(text: str) -> str:
    """Fold full-width brackets, digits and commas, the minus sign and LaTeX's \\left( to plain ones."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    return text.replace("\\left", "").replace("\\right", "").strip()


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


def _plain(pattern: re.Pattern[str]) -> Callable[[str, str], list[tuple[str, str]]]:
    def find(text: str, _: str) -> list[tuple[str, str]]:
        return pattern.findall(text)

    return find


def _find_json(text: str, point_order: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in _JSON.findall(text):
        found = _PAIR_IN_JSON.findall(value)
        pairs += [(b, a) for a, b in found] if key == "point" and point_order == "yx" else found
    return pairs


def _find_xml(text: str, _: str) -> list[tuple[str, str]]:
    """Molmo: <point x="45.1" y="30.2"> and <points x1= y1= x2= y2= ...>, percent by definition."""
    pairs: list[tuple[str, str]] = []
    for attributes in _XML.findall(text):
        found: dict[str, dict[str, str]] = {"x": {}, "y": {}}
        for axis, index, number in _XML_ATTRIBUTE.findall(attributes):
            found[axis][index] = number + "%"
        pairs += [(x, found["y"][index]) for index, x in found["x"].items() if index in found["y"]]
    return pairs


def _find_loc(text: str, _: str) -> list[tuple[str, str]]:
    """PaliGemma: <locYYYY><locXXXX>, 1024 bins; the bin's centre, as percent."""
    pairs: list[tuple[str, str]] = []
    for run in _LOC.findall(text):
        bins = [f"{(int(number) + 0.5) / 10.24!r}%" for number in re.findall(r"\d{4}", run)]
        if len(bins) == 2:
            pairs.append((bins[1], bins[0]))
    return pairs


def _find_list(text: str, _: str) -> list[tuple[str, str]]:
    return _TUPLE.findall(text) if text.startswith("[") else []


def _find_bare(text: str, _: str) -> list[tuple[str, str]]:
    match = _BARE.fullmatch(text.strip("`*' \""))
    return [(match[1], match[2])] if match else []


_FORMS: tuple[tuple[str, Callable[[str, str], list[tuple[str, str]]]], ...] = (
    ("json", _find_json),
    ("xml", _find_xml),
    ("point_tag", _plain(_POINT_TAG)),
    ("loc", _find_loc),
    ("list", _find_list),
    ("tuple", _plain(_TUPLE)),
    ("key_value", _plain(_KEY_VALUE)),
    ("bracket", _plain(_BRACKET)),
    ("bare", _find_bare),
)


def _why_no_point(text: str) -> str:
    locs = [run.count("<") for run in _LOC.findall(text)]
    counts = [1 + len(re.findall(r"[,;]", rest)) for _, rest in _GROUP.findall(text)] + locs
    if 4 in counts or re.search(r"bbox(?:_2d)?[\"']?\s*:", text):
        return "box"
    if counts:
        return "wrong_arity"
    if _OPEN_END.search(text[-200:]) and re.search(r"\d", text[-200:]):
        return "truncated"
    return REFUSAL if _REFUSAL.search(text) else "no_point"


def _to_points(pairs: list[tuple[str, str]], form: str, units: str, size_wh: tuple[int, int] | None) -> Parsed:
    points: list[Point] = []
    for first, second in pairs:
        if first.endswith("%") != second.endswith("%"):
            return _failure("mixed_units", form)
        unit = "percent" if first.endswith("%") else units
        if unit == "roborefer":
            unit = "normalized" if "." in first + second else "pixel"
        size = size_wh if unit == "pixel" and size_wh is not None else (1, 1)
        x, y = (_fraction(number.rstrip("% "), unit, side) for number, side in zip((first, second), size))
        if not (math.isfinite(x) and math.isfinite(y)):
            return _failure("not_finite", form)
        points.append((x, y))
    return Parsed(tuple(points), False, POINTS, form)


_DIVISOR = {"normalized": 1.0, "percent": 100.0, "thousand": 1000.0}


def _fraction(number: str, unit: str, side_px: int) -> float:
    value = float(number)
    if unit != "pixel":
        return value / _DIVISOR[unit]
    # an integer is the index of a pixel: its centre; anything else is a position
    return (value + 0.5 if value.is_integer() else value) / side_px
