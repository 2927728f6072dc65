import math
import re
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roborefer_spatial import answers
from roborefer_spatial.answers import NOT_VISIBLE, decimals, format_points, parse

ONE = ((0.45, 0.3),)
TWO = ((0.1, 0.2), (0.3, 0.4))


@pytest.mark.parametrize(
    ("text", "points", "form"),
    [
        ("[(0.45, 0.30)]", ONE, "list"),
        ("[ (0.45,0.3) ]", ONE, "list"),
        (" [(0.45, 0.30)]\n", ONE, "list"),
        ("[(0.1, 0.2), (0.3, 0.4)]", TWO, "list"),
        ("(0.45,0.3)", ONE, "tuple"),
        ("The point is (0.45, 0.3).", ONE, "tuple"),
        ("(0.1, 0.2) and (0.3, 0.4)", TWO, "tuple"),
        ("**(0.45; 0.3)**", ONE, "tuple"),
        ("(.45, 3e-1)", ONE, "tuple"),
        ("(+0.45, 0.3,)", ONE, "tuple"),
        (r"$\boxed{\left(0.45, 0.3\right)}$", ONE, "tuple"),
        ("（0.45，0.3）", ONE, "tuple"),
        ("<|box_start|>(0.45,0.3)<|box_end|>", ONE, "tuple"),
        ("[0.45, 0.3]", ONE, "bracket"),
        ("[[0.1, 0.2], [0.3, 0.4]]", TWO, "bracket"),
        ("(45%, 30 %)", ONE, "tuple"),
        ("x: 45%, y: 30%", ONE, "key_value"),
        ("x=0.45, y=0.3", ONE, "key_value"),
        ('{"x": 0.45, "y": 0.3}', ONE, "key_value"),
        ("{'x': 0.45, 'y': 0.3}", ONE, "key_value"),
        ('```json\n[{"point_2d": [0.45, 0.3], "label": "lamp"}]\n```', ONE, "json"),
        ('{"point": [0.45, 0.3]}', ONE, "json"),
        ('{"points": [[0.1, 0.2], [0.3, 0.4]]}', TWO, "json"),
        ('[{"point_2d": [0.45, 0.3], "label": "cut o', ONE, "json"),
        ('<point x="45" y="30" alt="lamp">lamp</point>', ONE, "xml"),
        ('<points x1="10" y1="20" x2="30" y2="40" alt="lamp">', TWO, "xml"),
        ("<point>0.45 0.3</point>", ONE, "point_tag"),
        ("<point>(0.45, 0.3)</point>", ONE, "point_tag"),
        ("<loc0256><loc0512>", ((512.5 / 1024, 256.5 / 1024),), "loc"),
        ("0.45, 0.3", ONE, "bare"),
        ("0.45 0.3.", ONE, "bare"),
        ("<think>near (0.9, 0.9)?</think><answer>[(0.45, 0.3)]</answer>", ONE, "list"),
        ("<think>(0.9, 0.9) not visible</think> (0.45, 0.3)", ONE, "tuple"),
        ("[(0.45, 0.3)] <think>sure</think>", ONE, "list"),
        ("[(-0.45, 1.3)]", ((-0.45, 1.3),), "list"),
        ("(\u22120.45, 0.3)", ((-0.45, 0.3),), "tuple"),
        ("[(320, 240)]", ((320.0, 240.0),), "list"),
    ],
)
def test_forms_of_points(text, points, form):
    parsed = parse(text)
    assert (parsed.reason, parsed.form, parsed.not_visible, parsed.ok) == ("points", form, False, True)
    assert [pytest.approx(point, abs=1e-12) for point in points] == list(parsed.points)


@pytest.mark.parametrize(
    "text",
    [
        "NOT_VISIBLE",
        "not_visible",
        "Not visible.",
        "NOT-VISIBLE",
        "NotVisible",
        "[NOT_VISIBLE]",
        '{"answer": "NOT_VISIBLE"}',
        "The lamp is not visible in the second image.",
        "It isn't visible there.",
        "It is no longer visible.",
        "It is invisible.",
        "The object cannot be seen.",
        "It is out of view.",
        "不可见",
        "<think>is it at (0.2, 0.3)?</think>NOT_VISIBLE",
    ],
)
def test_spellings_of_not_visible(text):
    parsed = parse(text)
    assert (parsed.reason, parsed.not_visible, parsed.points) == ("not_visible", True, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("I'm sorry, I cannot help with that.", "refusal"),
        ("As an AI, I do not see images.", "refusal"),
        ("抱歉，我无法回答。", "refusal"),
        ("NOT_VISIBLE [(0.1, 0.2)]", "conflict"),
        ("It is not visible, maybe near (0.1, 0.2)", "conflict"),
        ("[0.1, 0.2, 0.3, 0.4]", "box"),
        ('{"bbox_2d": [1, 2, 3, 4]}', "box"),
        ("<loc0001><loc0002><loc0003><loc0004>", "box"),
        ("(0.1, 0.2, 0.3)", "wrong_arity"),
        ("(0.5)", "wrong_arity"),
        ("(45%, 0.3)", "mixed_units"),
        ("(1e999, 0.3)", "not_finite"),
        ("[(0.45, 0.", "truncated"),
        ('{"point_2d": [0.45, ', "truncated"),
        ("<think>the lamp is at (0.4, 0.5), so", "truncated"),
        ("x" * (answers.MAX_CHARS + 1), "too_long"),
        ("the lamp on the left", "no_point"),
        ("The lamp is visible.", "no_point"),
        ("It is not invisible.", "no_point"),
    ],
)
def test_reasons_of_failure(text, reason):
    parsed = parse(text)
    assert (parsed.reason, parsed.ok, parsed.points) == (reason, False, ())
    assert reason in answers.FAILURES


@pytest.mark.parametrize(
    ("text", "units", "expected"),
    [
        ("(450, 300)", "thousand", (0.45, 0.3)),
        ("(45, 30)", "percent", (0.45, 0.3)),
        ("(320, 240)", "pixel", (320.5 / 640, 240.5 / 480)),
        ("(320.25, 240)", "pixel", (320.25 / 640, 240.5 / 480)),
        ("(640, -1)", "pixel", (640.5 / 640, -0.5 / 480)),
        ("(0.45, 0.3)", "roborefer", (0.45, 0.3)),
        ("(320, 240)", "roborefer", (320.5 / 640, 240.5 / 480)),
        ("(1, 0)", "roborefer", (1.5 / 640, 0.5 / 480)),
        ("(1, 0.5)", "roborefer", (1.0, 0.5)),
        ("(45%, 30%)", "pixel", (0.45, 0.3)),
        ('<point x="45" y="30">', "thousand", (0.45, 0.3)),
    ],
)
def test_units_are_declared(text, units, expected):
    assert parse(text, units=units, size_wh=(640, 480)).points == (pytest.approx(expected, abs=1e-12),)


def test_pixels_taken_as_fractions_stay_outside():
    assert parse("[(320, 240)]").points == ((320.0, 240.0),)


def test_gemini_writes_y_first_in_point_and_nowhere_else():
    assert parse('{"point": [300, 450]}', units="thousand", point_order="yx").points == ((0.45, 0.3),)
    assert parse('{"point_2d": [450, 300]}', units="thousand", point_order="yx").points == ((0.45, 0.3),)
    assert parse("(450, 300)", units="thousand", point_order="yx").points == ((0.45, 0.3),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": "metre"}, "unknown units 'metre'; known: normalized, percent"),
        ({"point_order": "zx"}, "unknown point_order 'zx'; known: xy, yx"),
        ({"units": "pixel"}, "units='pixel' needs size_wh"),
        ({"units": "roborefer"}, "units='roborefer' needs size_wh"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse("[(0.1, 0.2)]", **options)


def test_format_by_hand():
    assert format_points([(0.5, 0.25)]) == "[(0.500000, 0.250000)]"
    assert format_points([(320.5 / 640, 0.5 / 480)], (640, 480)) == "[(0.501, 0.001)]"
    assert format_points([(0.1, 0.2), (0.3, 0.4)], (3840, 2160)) == "[(0.1000, 0.2000), (0.3000, 0.4000)]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "needs at least one point; an object out of view is the answer 'NOT_VISIBLE'"),
        (([(1.0, 0.5)],), "point (1.0, 0.5) is outside of the image"),
        (([(0.5, -0.1)],), "point (0.5, -0.1) is outside of the image"),
        (([(math.nan, 0.1)],), "is outside of the image"),
        (([(0.5, 0.5)], (0, 480)), "image size is (width, height) in pixels, at least 1 each; got (0, 480)"),
    ],
)
def test_format_refuses(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        format_points(*arguments)


@pytest.mark.parametrize("width", [*range(1, 130), 640, 999, 1000, 1001, 1920, 2048, 3840, 4096, 7680, 9999, 10000])
def test_every_pixel_centre_comes_back_to_its_pixel(width):
    centres = [((col + 0.5) / width, 0.5 / width) for col in range(width)]
    points = parse(format_points(centres[:2000], (width, width))).points
    points += parse(format_points(centres[-2000:], (width, width))).points
    expected = [*range(width)[:2000], *range(width)[-2000:]]
    assert [math.floor(x * width) for x, _ in points] == expected
    assert {math.floor(y * width) for _, y in points} == {0}


def test_decimals_stay_as_few_as_the_host_writes():
    assert [decimals((side, 480)) for side in (480, 640, 999, 1000, 3840, 10000)] == [3, 3, 3, 4, 4, 5]


POINT = st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
SIDE = st.integers(1, 8192)


@given(st.tuples(SIDE, SIDE), st.data())
def test_formatter_and_parser_are_inverse(size_wh, data):
    pixels = data.draw(st.lists(st.tuples(*(st.integers(0, side - 1) for side in size_wh)), min_size=1, max_size=5))
    points = [tuple((p + 0.5) / side for p, side in zip(pixel, size_wh)) for pixel in pixels]
    parsed = parse(format_points(points, size_wh))
    assert parsed.reason == "points"
    assert [tuple(math.floor(v * side) for v, side in zip(point, size_wh)) for point in parsed.points] == pixels


FRAGMENTS = [
    *"()[]{}<>%,;:'\"=-+.eE0123456789 \n_xy",
    *"\t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028",
    *(
        "not",
        "visible",
        "NOT_VISIBLE",
        "0.5",
        "(0.1, 0.2)",
        "[(",
        "<point ",
        'x="',
        '"point_2d": [',
        "<loc0001>",
    ),
    *(
        "</think>",
        "<think>",
        "<answer>",
        "</answer>",
        "\\left",
        "1e999",
        "，",
        "\u0130",
        "<point>",
        "points",
        "1e-400",
    ),
]


@pytest.mark.parametrize("space", "\t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028")
@pytest.mark.parametrize(
    "text",
    [
        "[(0.45{}, 0.3)]",
        "[({}0.45, 0.3{})]",
        '<point x="45{}" y="30">a</point>',
        "45{}% from the left, 30{}% from the top",
    ],
)
def test_any_white_space_beside_a_number_is_white_space(text, space):
    assert parse(text.replace("{}", space)) == parse(text.replace("{}", " "))
    assert parse(text.replace("{}", space)).points == ONE


@settings(max_examples=500)
@given(st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join)))
@pytest.mark.parametrize("units", ["normalized", "roborefer"])
def test_no_text_breaks_the_parser(units, text):
    parsed = parse(text, units=units, size_wh=(640, 480))
    assert parsed.ok == (parsed.reason in ("points", "not_visible"))
    assert bool(parsed.points) == (parsed.reason == "points")
    assert all(math.isfinite(value) for point in parsed.points for value in point)
    assert parsed.reason in {"points", "not_visible", *answers.FAILURES}


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_long_repetitions_end(fragment):
    for head in ("", "[(", "<point ", '"points": ['):
        assert parse((head + fragment * answers.MAX_CHARS)[: answers.MAX_CHARS]).reason


def host_pixels(text, width, height):
    """RoboRefer's rule, written anew: every (a, b) counts, in pixels unless a number has a decimal point."""
    for first, second in re.findall(r"\(([-+]?[\d.]+), ?([-+]?[\d.]+)\)", text):
        if "." in first or "." in second:
            yield int(float(first) * width), int(float(second) * height)
        else:
            yield int(first), int(second)


NUMBER = st.one_of(st.integers(0, 1500).map(str), st.floats(0, 1.5).map(lambda value: f"{value:.3f}"))


@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=4))
def test_units_roborefer_finds_the_pixels_of_the_host(pairs):
    text = "[" + ", ".join(f"({x}, {y})" for x, y in pairs) + "]"
    parsed = parse(text, units="roborefer", size_wh=(640, 480))
    assert [(math.floor(x * 640), math.floor(y * 480)) for x, y in parsed.points] == list(host_pixels(text, 640, 480))


def test_the_formatters_answers_need_no_lenience():
    assert parse(NOT_VISIBLE).not_visible
    assert re.fullmatch(r"\[\(0\.\d+, 0\.\d+\)\]", format_points([(0.5, 0.5)]))


@pytest.mark.parametrize("text", ["[(0.5, 0.25)]", "[(-0.013, 1.5)]", "[(0.1, -0.2)]", "NOT_VISIBLE"])
def test_the_short_way_says_what_the_long_way_says(text):
    """Answers as `build` writes them are read without going through every form."""
    plain = answers.as_built(text)
    assert plain is not None
    assert plain == answers.parse(text) == answers.parse(f" {text} ")
    assert answers.as_built(f" {text} ") is None


def test_many_answers_by_hand():
    read = answers.all_as_built(["[(0.25, -0.5)]", None, "NOT_VISIBLE", "about (0.1, 0.2)", "", "[(1.50, 0.0)]"])
    points = [parsed and parsed.points for parsed in read]
    assert points == [((0.25, -0.5),), None, (), None, None, ((1.5, 0.0),)]
    assert [parsed.reason for parsed in read if parsed] == ["points", "not_visible", "points"]
    assert {parsed.form for parsed in read if parsed} == {"list", ""}
    assert answers.all_as_built([]) == []


ONE_NUMBER = st.from_regex(r"-?[0-9]\.[0-9]{1,18}", fullmatch=True)
AS_BUILT = st.one_of(st.just("NOT_VISIBLE"), st.builds(lambda x, y: f"[({x}, {y})]", ONE_NUMBER, ONE_NUMBER))
NEARLY = st.sampled_from(
    [None, "", "[(0.1", " 0.2)]", "[(0.1, 0.2)]\n", "[(0.1, 0.2)]\n[(0.3, 0.4)]", "NOT_VISIBLE\n", "[(0.1,0.2)]",
     "[(0.1, 0.2)],[(0.3, 0.4)]", "[(\u0661.\u0662, 0.3)]", "[(10.5, 0.3)]", "[(.5, 0.3)]", "[(0.5, 0.3), (0.1, 0.2)]"]
)  # fmt: skip


@given(st.lists(st.one_of(AS_BUILT, AS_BUILT, AS_BUILT, NEARLY), max_size=6), st.integers(1, 4))
def test_many_answers_are_read_as_each_by_itself(texts, block):
    alone = [None if text is None else answers.as_built(text) for text in texts]
    with mock.patch.object(answers, "_BLOCK", block):
        assert answers.all_as_built(texts) == alone


@pytest.mark.parametrize("number", ["0.0", "-0.0", "0.1", "9.99999999999999999", "0.00000000000000001", "-1.5"])
def test_numbers_of_many_answers_are_pythons(number):
    (parsed,) = answers.all_as_built([f"[({number}, 0.5)]"])
    assert parsed.points[0][0].hex() == float(number).hex()


def test_the_longest_text_that_is_read():
    assert parse("(0.5, 0.5)".rjust(65_536)).points == ((0.5, 0.5),)
    assert parse("(0.5, 0.5)".rjust(65_537)).reason == "too_long"


def test_three_decimals_even_for_tiny_images():
    assert decimals((9, 9)) == 3
    assert format_points([(0.5, 0.25)], (9, 9)) == "[(0.500, 0.250)]"


def test_a_point_below_zero_is_not_written():
    with pytest.raises(ValueError, match=re.escape("point (-0.1, 0.5) is outside of the image")):
        format_points([(-0.1, 0.5)])


def test_the_last_of_several_answer_tags_counts():
    assert parse("<answer>(0.1, 0.2)</answer> no: <answer>(0.3, 0.4)</answer>").points == ((0.3, 0.4),)


def test_of_several_forms_the_first_one_counts():
    """Ten coordinates in a list, and the same again in words, are the list's."""
    assert parse("[(0.1, 0.2)], that is x=0.1, y=0.2").points == ((0.1, 0.2),)


def test_how_often_an_answer_may_say_that_it_answers():
    """The last four are looked at; before that, a text is read as a whole."""
    assert parse("(0.9, 0.9) answer: (0.1, 0.2)" + " answer:" * 3).points == ((0.1, 0.2),)
    assert len(parse("(0.9, 0.9) answer: (0.1, 0.2)" + " answer:" * 4).points) == 2


def test_several_points_in_two_images():
    text = "In the first image at (0.1, 0.1) and (0.2, 0.2), in the second image at (0.3, 0.3)."
    assert parse(text, images=2).points == ((0.3, 0.3),)


def test_a_single_point_is_not_doubted():
    text = "In the second image, as in the first image: (0.4, 0.3)"
    assert parse(text, images=2).points == ((0.4, 0.3),)


def test_a_statement_is_about_the_image_of_its_clause():
    text = "Hmm. In the first image it is red. In the second image it is not visible."
    assert parse(text, images=2).not_visible
    other = "Hmm. In the second image it is red. In the first image it is not visible."
    assert not parse(other, images=2).not_visible


def test_a_statement_without_an_image_is_about_the_one_named_last():
    text = "In the second image there is a chair; in the first image there is a lamp. It is not visible."
    assert parse(text, images=2).reason == "no_point"
    other = "In the first image there is a chair; in the second image there is a lamp. It is not visible."
    assert parse(other, images=2).not_visible
