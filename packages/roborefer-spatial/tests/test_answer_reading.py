"""What a careful person reads in answers as models write them, kind by kind."""

import pytest
from roborefer_spatial import answer_phrases, answers
from roborefer_spatial.answers import FAILURES, parse

A, B = (0.45, 0.31), (0.2, 0.3)
MULTI = {"images": 2}
THOUSAND = {"units": "thousand"}
PIXEL = {"units": "pixel", "size_wh": (640, 480)}


def points(text, **options):
    parsed = parse(text, **options)
    assert parsed.reason == "points", (parsed.reason, parsed.form)
    return [tuple(round(value, 9) for value in point) for point in parsed.points]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        # Molmo2: image, point, x, y
        ('<points coords="1 1 452 310">lamp</points>', {}, [(0.452, 0.31)]),
        ('<points coords="2 1 452 310">lamp</points>', MULTI, [(0.452, 0.31)]),
        ('<points coords="1 1 100 200;2 1 452 310">lamp</points>', MULTI, [(0.452, 0.31)]),
        ('<points coords="1 1 100 200\t2 1 452 310 2 500 600">lamp</points>', MULTI, [(0.452, 0.31), (0.5, 0.6)]),
        # XML: Molmo's percent, Qwen's pixels
        ('<point x="45.0" y="31.0" alt="lamp">lamp</point>', {}, [A]),
        ('<points x1="45.0" y1="31.0" x2="20.0" y2="30.0" alt="l">l</points>', {}, [A, B]),
        ('<points x1="288" y1="149" alt="lamp">lamp</points>', PIXEL, [(288.5 / 640, 149.5 / 480)]),
        ('<points x1="88" y1="49" alt="lamp">lamp</points>', PIXEL, [(88.5 / 640, 49.5 / 480)]),
        ('<points x1="450" y1="310" alt="lamp">lamp</points>', THOUSAND, [A]),
        # boxes, only where they are asked for
        ("<|box_start|>(400,250),(500,370)<|box_end|>", THOUSAND | {"boxes": "center"}, [A]),
        ("<ref>lamp</ref><box>[[400, 250, 500, 370]]</box>", THOUSAND | {"boxes": "center"}, [A]),
        ('[{"bbox_2d": [400, 250, 500, 370]}]', THOUSAND | {"boxes": "center"}, [A]),
        ('{"box_2d": [250, 400, 370, 500]}', THOUSAND | {"boxes": "center", "point_order": "yx"}, [A]),
        ("<loc0256><loc0512><loc0256><loc0512> lamp", {"boxes": "center"}, [(512.5 / 1024, 256.5 / 1024)]),
        ('{"bbox_2d": [1, 2, 3, 4], "point_2d": [450, 310]}', THOUSAND, [A]),
        # two images
        ("In the first image it is at (0.2, 0.3), in the second at [0.45, 0.31].", MULTI, [A]),
        ("Image 1: (0.2, 0.3)\nImage 2: (0.45, 0.31)", MULTI, [A]),
        ("It is at (0.2, 0.3) in the first image and at (0.45, 0.31) in the second image.", MULTI, [A]),
        ("In the left view at (0.2, 0.3); in the right view at (0.45, 0.31).", {}, [A]),
        ("第一张图中在(0.2, 0.3)，第二张图中在(0.45, 0.31)。", MULTI, [A]),
        ("The second image shows it: [(0.45, 0.31), (0.2, 0.3)]", MULTI, [A, B]),
        ("The first image marks a lamp. In the second image it stands at [(0.45, 0.31)].", MULTI, [A]),
        # the final answer
        ("The lamp could be at (0.2, 0.3). Final answer: [(0.45, 0.31)]", {}, [A]),
        ("(0.2, 0.3) is the table.\n**Answer:** (0.45, 0.31)", {}, [A]),
        ("First I see (0.2, 0.3). The answer is [0.45, 0.31].", {}, [A]),
        ("So $\\boxed{(0.45, 0.31)}$ and not (0.2, 0.3)"[:26], {}, [A]),
        ("Answer: 0.45, 0.31", {}, [A]),
        ("答案：(0.45, 0.31)", {}, [A]),
        # ways to write two numbers
        ('["0.45", "0.31"]', {}, [A]),
        ("('0.45', '0.31')", {}, [A]),
        ('{"x": "0.45", "y": "0.31"}', {}, [A]),
        ("<0.45, 0.31>", {}, [A]),
        ("{0.45, 0.31}", {}, [A]),
        ("(0,45; 0,31)", {}, [A]),
        ("(0,45, 0,31)", {}, [A]),
        ("(288px, 149px)", {"size_wh": (640, 480)}, [(288.5 / 640, 149.5 / 480)]),
        ("(288 px, 149 px)", PIXEL, [(288.5 / 640, 149.5 / 480)]),
        ("It is 45% from the left and 31% from the top.", {}, [A]),
        ("31 % from the top and 55 % from the right", {}, [A]),
        # visible, although the words are there
        ("It is partly not visible, its centre is at [(0.45, 0.31)]", {}, [A]),
        ("Not fully visible, but at (0.45, 0.31).", {}, [A]),
        ("It is occluded by the table; the visible part is at [(0.45, 0.31)]", {}, [A]),
        ("It is not occluded: [(0.45, 0.31)]", {}, [A]),
        ("It is not outside the frame: [(0.45, 0.31)]", {}, [A]),
        ("[(0.45, 0.31)]. If the object cannot be seen, answer exactly NOT_VISIBLE.", {}, [A]),
        ("Not visible in the first image, but in the second image at (0.45, 0.31).", MULTI, [A]),
        ("the point [(0.200, 0.300)] of the whole image lies on it. [(0.45, 0.31)]", {}, [A]),
    ],
)
def test_points(text, options, expected):
    assert points(text, **options) == [tuple(round(value, 9) for value in point) for point in expected]


@pytest.mark.parametrize(
    "text",
    [
        "The lamp is not present in the second image.",
        "It does not appear.",
        "The object doesn't appear in the second view.",
        "It is outside the frame.",
        "It lies outside of the field of view.",
        "The object is occluded.",
        "It is hidden behind the sofa.",
        "none",
        "None.",
        "N/A",
        "There are none.",
        "NOT\\_VISIBLE",
        "**NOT_VISIBLE**",
        "`NOT_VISIBLE`",
        '{"visible": false}',
        '{"visible": false, "point_2d": null}',
        '[{"point_2d": null, "label": "lamp"}]',
        "The object is absent from the second image.",
        "I can't see it in the second image.",
        "Final answer: NOT_VISIBLE",
        "It was at (0.2, 0.3) in the left view. Final answer: NOT_VISIBLE",
        "In the first image it is at (0.2, 0.3); in the second image it is not visible.",
        "物体在第二张图中不可见。",
        "第二张图里看不到该物体",
        "物体は見えません。",
        "물체가 보이지 않습니다.",
        "Das Objekt ist nicht sichtbar.",
        "L'objet n'est pas visible.",
        "El objeto no es visible.",
        "L'oggetto non è visibile.",
        "O objeto não é visível.",
        "Объект не виден.",
    ],
)
def test_not_visible(text):
    parsed = parse(text, images=2)
    assert (parsed.reason, parsed.not_visible, parsed.points) == ("not_visible", True, ())


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("<|box_start|>(400,250),(500,370)<|box_end|>", THOUSAND, "box"),
        ("<box>[[400, 250, 500, 370]]</box>", THOUSAND, "box"),
        ('<points coords="1 1 452 310">lamp</points>', MULTI, "wrong_image"),
        ("Image 1: (0.2, 0.3). Image 1 again: (0.4, 0.5). Image 2: none of them fits.", MULTI, "wrong_image"),
        ('<points x1="452" y1="310" alt="lamp">lamp</points>', {}, "unclear_units"),
        ("(289px, 310px)", {}, "unclear_units"),
        ("(289px, 0.3)", {"size_wh": (640, 480)}, "mixed_units"),
        ("NOT_VISIBLE. [(0.1, 0.2)]", {}, "conflict"),
        ("If the object cannot be seen, answer exactly NOT_VISIBLE.", {}, "no_point"),
        ("31% from the top and 20% from the bottom", {}, "no_point"),
        ("[0, 45, 0, 31]", {}, "box"),
        ("The lamp is fully visible.", {}, "no_point"),
        ("[]", {}, "no_point"),
    ],
)
def test_reasons(text, options, reason):
    parsed = parse(text, **options)
    assert (parsed.reason, parsed.points) == (reason, ())
    assert reason in FAILURES


@pytest.mark.parametrize("row", answer_phrases.TABLE, ids=lambda row: row.example)
def test_every_phrase_is_in_its_example(row):
    text = answer_phrases.folded(answers._normalise(row.example))
    assert answer_phrases.places(row.meaning, text)
    import re

    assert re.search(row.pattern, text), "the row's own pattern, not another one of its meaning"


@pytest.mark.parametrize(
    "row", [r for r in answer_phrases.TABLE if r.meaning == "not_visible"], ids=lambda r: r.example
)
def test_every_example_of_not_visible_is_read_so(row):
    assert parse(row.example).not_visible


def test_bad_boxes():
    with pytest.raises(ValueError, match="unknown boxes 'middle'; known: refuse, center"):
        parse("x", boxes="middle")


FENCED = """The remote is at `[560, 850]` in the first image, x=440 is the jar, and (200, 530) the bottle.
```json
%s
```
"""


def test_a_code_block_at_the_end_is_the_answer():
    """As Gemini answers in a public result file: coordinates in the reasoning, the answer in a block behind it."""
    said = parse(FENCED % "[[225, 540], [250, 550]]", units="thousand", images=2)
    assert said.points == ((0.225, 0.54), (0.25, 0.55))
    assert parse(FENCED % '[{"point_2d": [225, 540]}]', units="thousand").points == ((0.225, 0.54),)
    assert parse(FENCED % "[[225, 540, 0.7]]", units="thousand").reason == "wrong_arity"
    assert parse(FENCED % "no coordinates here", units="thousand").points != ()
    assert parse("```\n[(0.1, 0.2)]\n```").points == ((0.1, 0.2),)
    assert parse("```").reason == "no_point"
