"""The forms in which answers write coordinates, each found with its place in the text, and what their units mean."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Pair:
    """Two numbers as written, x first, where they stand, and the unit that their form declares ("": none).

    image
        Number of the image that the form names, from 1; 0 where it names none.
    """

    at: int
    x: str
    y: str
    unit: str = ""
    image: int = 0


# Each pattern starts at a literal bracket, key or tag and repeats no group that can match in two ways, so that
# the time stays near linear for any text up to MAX_CHARS.
_Q = r"[\"']?"
_N = r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?\s?(?:%|px\b|pixels?\b)?)"
_QN = rf"{_Q}{_N}{_Q}"
_SEP = r"\s*[,;]\s*"
_COMMA_N = r"([-+]?\d+,\d+)"
_TUPLE = re.compile(rf"\(\s*{_QN}{_SEP}{_QN}\s*,?\s*\)")
_BRACKET = re.compile(rf"\[\s*{_QN}{_SEP}{_QN}\s*,?\s*\]")
_ANGLE = re.compile(rf"<\s*{_N}{_SEP}{_N}\s*>")
_BRACE = re.compile(rf"\{{\s*{_QN}{_SEP}{_QN}\s*\}}")
_DECIMAL_COMMAS = re.compile(rf"[(\[]\s*{_COMMA_N}\s*(?:;|,\s)\s*{_COMMA_N}\s*[)\]]")
_JSON = re.compile(rf"{_Q}(point_2d|point|points|coordinates?|coords?)[\"']\s*:\s*(\[[\[\]\s,;()\d.eE+\-%\"']*\])")
_PAIR_IN_JSON = re.compile(rf"[\[(]\s*{_QN}{_SEP}{_QN}\s*,?\s*[\])]")
_KEY_VALUE = re.compile(rf"(?<![A-Za-z]){_Q}x{_Q}\s?[:=]\s*{_QN}\s*[,;]?\s*(?:and\s)?{_Q}y{_Q}\s?[:=]\s*{_QN}", re.I)
_XML = re.compile(r"<points?\s([^<>]*)>", re.I)
_XML_ATTRIBUTE = re.compile(r"\b([xy])(\d*)\s*=\s*[\"']\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*%?\s*[\"']")
_COORDS = re.compile(r"<(?:points?|tracks?)\s[^<>]*?coords\s*=\s*[\"']([\d\s:;,.]+)[\"']", re.I)
_COORDS_IMAGE = re.compile(r"[^\t:,;]+")
_POINT_TAG = re.compile(rf"<point>\s*[(\[]?\s*{_N}(?:{_SEP}|\s+){_N}\s*[)\]]?\s*</point>", re.I)
_LOC = re.compile(r"((?:<loc\d{4}>)+)")
_BARE = re.compile(rf"{_QN}(?:{_SEP}|\s+){_QN}\.?")
_SIDES = {"left": ("x", False), "right": ("x", True), "top": ("y", False), "bottom": ("y", True)}
_FROM_SIDE = re.compile(
    r"(?<![\d.])(\d{1,3}(?:\.\d{1,17})?)\s?(?:%|percent)\s(?:of the way )?(?:in )?"
    r"(?:from|of) (?:the )?(left|right|top|bottom)\b",
    re.I,
)
_BOXES = (
    re.compile(r"<\|box_start\|>(.{0,200}?)<\|box_end\|>", re.S),
    re.compile(r"<box>(.{0,200}?)</box>", re.S | re.I),
    re.compile(r"(?:bbox(?:_2d)?|bounding_box|box(?:_2d)?)[\"']?\s*:\s*(\[[\d\s.,+\-]*\])"),
    re.compile(r"(\[\s*\d[\d.]*\s*,\s*\d[\d.]*\s*,\s*\d[\d.]*\s*,\s*\d[\d.]*\s*\])"),
)
_GEMINI_BOX = re.compile(r"box_2d[\"']?\s*:\s*$")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
_GROUP = re.compile(rf"[(\[]\s*{_QN}((?:{_SEP}[\"']?[-+]?\.?\d[\d.eE+\-]*\s?(?:%|px)?[\"']?){{0,64}})\s*[)\]]")


def _plain(pattern: re.Pattern[str]) -> Callable[[str, str], list[Pair]]:
    def find(text: str, _: str) -> list[Pair]:
        return [Pair(match.start(), match[1], match[2]) for match in pattern.finditer(text)]

    return find


def _find_json(text: str, point_order: str) -> list[Pair]:
    pairs: list[Pair] = []
    for match in _JSON.finditer(text):
        for inner in _PAIR_IN_JSON.finditer(match[2]):
            x, y = inner[1], inner[2]
            if match[1] == "point" and point_order == "yx":
                x, y = y, x
            pairs.append(Pair(match.start(2) + inner.start(), x, y))
    return pairs


def _find_xml(text: str, _: str) -> list[Pair]:
    """Molmo's and Qwen's: <point x="45.1" y="30.2"> and <points x1= y1= x2= y2= ...>.

    Molmo writes percent and Qwen pixels: the unit is "percent" unless a number is above 100 ("above").
    """
    pairs: list[Pair] = []
    for match in _XML.finditer(text):
        found: dict[str, dict[str, str]] = {"x": {}, "y": {}}
        for axis, index, number in _XML_ATTRIBUTE.findall(match[1]):
            found[axis][index] = number
        numbers = [number for axis in found.values() for number in axis.values()]
        unit = "xml"
        if any(float(number) > 100 for number in numbers):
            unit = "xml_above_100"
        elif numbers and all(number.lstrip("+-").isdigit() for number in numbers):
            unit = "xml_whole"
        both = [(x, found["y"][name]) for name, x in found["x"].items() if name in found["y"]]
        pairs += [Pair(match.start(), x, y, unit) for x, y in both]
    return pairs


def _find_coords(text: str, _: str) -> list[Pair]:
    """Molmo2: <points coords="IMAGE POINT X Y POINT X Y; IMAGE ...">, thousandths."""
    pairs: list[Pair] = []
    for match in _COORDS.finditer(text):
        for group in _COORDS_IMAGE.findall(match[1]):
            words = group.split()
            if not words:
                continue
            image, numbers = words[0], words[1:]
            if not image.isdigit() or len(numbers) % 3 or not all(_NUMBER.fullmatch(number) for number in numbers):
                continue
            for start in range(0, len(numbers), 3):
                pairs.append(Pair(match.start(), numbers[start + 1], numbers[start + 2], "thousand", int(image)))
    return pairs


def _find_loc(text: str, _: str) -> list[Pair]:
    """PaliGemma: <locYYYY><locXXXX>, 1024 bins; the bin's centre, as percent."""
    pairs: list[Pair] = []
    for match in _LOC.finditer(text):
        bins = _bins(match[1])
        if len(bins) == 2:
            pairs.append(Pair(match.start(), bins[1], bins[0], "percent"))
    return pairs


def _bins(run: str) -> list[str]:
    return [repr((int(number) + 0.5) / 10.24) for number in re.findall(r"\d{4}", run)]


def _find_list(text: str, order: str) -> list[Pair]:
    return _plain(_TUPLE)(text, order) if text.startswith("[") else []


def _find_bare(text: str, _: str) -> list[Pair]:
    match = _BARE.fullmatch(text.strip("`*' \""))
    return [Pair(0, match[1], match[2])] if match else []


def _find_decimal_commas(text: str, _: str) -> list[Pair]:
    """0,45 for 0.45: only where no other reading is left, that is with "; " or with ", " between the two."""
    return [
        Pair(match.start(), match[1].replace(",", "."), match[2].replace(",", "."))
        for match in _DECIMAL_COMMAS.finditer(text)
    ]


def _find_from_sides(text: str, _: str) -> list[Pair]:
    """45% from the left and 31% from the top, in either order."""
    found = [(match.start(), match[1], *_SIDES[match[2].lower()]) for match in _FROM_SIDE.finditer(text)]
    pairs: list[Pair] = []
    for (at, one, axis, far), (_at, other, other_axis, other_far) in zip(found[::2], found[1::2]):
        if axis == other_axis:
            return []
        values = {axis: _percent(one, far), other_axis: _percent(other, other_far)}
        pairs.append(Pair(at, values["x"], values["y"], "percent"))
    return pairs if len(found) % 2 == 0 else []


def _percent(number: str, from_the_far_side: bool) -> str:
    return repr(100 - float(number)) if from_the_far_side else number


TAGGED: tuple[tuple[str, Callable[[str, str], list[Pair]]], ...] = (
    ("json", _find_json),
    ("coords", _find_coords),
    ("xml", _find_xml),
    ("point_tag", _plain(_POINT_TAG)),
    ("loc", _find_loc),
)
"""Forms that say what they are."""

WRITTEN: tuple[tuple[str, Callable[[str, str], list[Pair]]], ...] = (
    ("decimal_commas", _find_decimal_commas),
    ("list", _find_list),
    ("tuple", _plain(_TUPLE)),
    ("key_value", _plain(_KEY_VALUE)),
    ("bracket", _plain(_BRACKET)),
    ("angle", _plain(_ANGLE)),
    ("brace", _plain(_BRACE)),
    ("from_sides", _find_from_sides),
    ("bare", _find_bare),
)
"""Forms of prose, in the order in which they are tried."""


def find_boxes(text: str, point_order: str) -> Iterator[Pair]:
    """Yield the centres of the boxes (four numbers) of a text; box_2d of a `yx` model has y first."""
    for match in _LOC.finditer(text):
        bins = _bins(match[1])
        if len(bins) == 4:
            yield _centre(match.start(), [bins[1], bins[0], bins[3], bins[2]], "percent")
    for pattern in _BOXES:
        found = False
        for match in pattern.finditer(text):
            numbers = _NUMBER.findall(match[1])
            if len(numbers) != 4:
                continue
            if point_order == "yx" and _GEMINI_BOX.search(text[max(0, match.start(1) - 12) : match.start(1)]):
                numbers = [numbers[1], numbers[0], numbers[3], numbers[2]]
            found = True
            yield _centre(match.start(), numbers, "")
        if found:
            return


def _centre(at: int, numbers: list[str], unit: str) -> Pair:
    x1, y1, x2, y2 = map(float, numbers)
    return Pair(at, repr((x1 + x2) / 2), repr((y1 + y2) / 2), unit)


def tagged_box(text: str) -> bool:
    """Whether a text marks something as a box."""
    return any(len(_NUMBER.findall(found)) == 4 for pattern in _BOXES[:2] for found in pattern.findall(text))


def bracket_lengths(text: str) -> list[int]:
    """Return how many numbers stand in each bracket, and in each run of <loc>."""
    locs = [run.count("<") for run in _LOC.findall(text)]
    return [1 + len(re.findall(r"[,;]", rest)) for _, rest in _GROUP.findall(text)] + locs


def as_fractions(pair: Pair, units: str, size_wh: tuple[int, int] | None) -> tuple[float, float] | str:
    """Return a pair as fractions of width and height, or the reason why that is not possible.

    Parameters
    ----------
    pair
        As written.
    units, size_wh
        See `answers.parse`.
    """
    own, other = _own_unit(pair.x), _own_unit(pair.y)
    if own != other:
        return "mixed_units"
    unit = _unit_of(pair, own, units)
    size = size_wh if unit == "pixel" else (1, 1)
    if unit == "unclear" or size is None:
        return "unclear_units"
    x, y = (_fraction(_bare_number(number), unit, side) for number, side in zip((pair.x, pair.y), size))
    return (x, y) if math.isfinite(x) and math.isfinite(y) else "not_finite"


def _own_unit(number: str) -> str:
    return "percent" if number.endswith("%") else "pixel" if number.endswith(("px", "pixel", "pixels")) else ""


def _bare_number(number: str) -> str:
    return number.rstrip("%pixels ")


def _unit_of(pair: Pair, own: str, units: str) -> str:
    """Return the unit of a pair: the one it says itself, that of its tag, or the declared one."""
    if own:
        return own
    if pair.unit.startswith("xml"):  # Molmo writes percent, with a decimal; Qwen pixels, whole numbers
        if pair.unit == "xml_above_100":
            return units if units in ("pixel", "thousand") else "unclear"
        return "pixel" if pair.unit == "xml_whole" and units == "pixel" else "percent"
    if pair.unit:
        return pair.unit
    if units == "roborefer":
        return "normalized" if "." in pair.x + pair.y else "pixel"
    return units


_DIVISOR = {"normalized": 1.0, "percent": 100.0, "thousand": 1000.0}


def _fraction(number: str, unit: str, side_px: int) -> float:
    value = float(number)
    if unit != "pixel":
        return value / _DIVISOR[unit]
    # an integer is the index of a pixel: its centre; anything else is a position
    return (value + 0.5 if value.is_integer() else value) / side_px


_LINES = re.compile(r"(?:\[\(-?[0-9]\.[0-9]{1,17}, -?[0-9]\.[0-9]{1,17}\)\]\n)*")
_one_point_each = msgspec.json.Decoder(list[tuple[tuple[float, float]]])


def one_point_each(texts: Sequence[str | None]) -> list[tuple[tuple[float, float]]] | None:
    """Read many texts such as "[(0.25, -0.5)]" as one JSON list; None unless each of them is written that way.

    Each line that the pattern finds is a point. With as many points as texts, no text holds a line break.
    """
    if None in texts:
        return None
    lines = "".join([f"{text}\n" for text in texts])
    if _LINES.fullmatch(lines) is None:
        return None
    found = _one_point_each.decode("[" + lines[:-1].replace("(", "[").replace(")", "]").replace("\n", ",") + "]")
    return found if len(found) == len(texts) else None
