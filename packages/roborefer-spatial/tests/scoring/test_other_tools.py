"""crosspoint_bench against lmms-eval itself where it is installed; both by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roborefer_spatial import torchvision_cpu
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring import lmms_rule
from roborefer_spatial.scoring.other_tools import READERS, crosspoint, vlmevalkit
from roborefer_spatial.scoring.score import score

SIZE = (64, 48)
NUMBER = st.one_of(
    st.integers(-5, 1200).map(str),
    st.floats(-0.5, 1.6).map(lambda value: f"{value:.3f}"),
    st.sampled_from(["1.", ".5", "+0.5", "0.5.5", "1000", "1001", "1.5", "0", "..."]),
)
TEXT = st.lists(
    st.one_of(
        st.builds("{}{}{}{}{}".format, st.sampled_from(["(", "[", "( ", '{"point_2d": [', '{"point": [']), NUMBER,
                  st.sampled_from([",", ", ", " ,"]), NUMBER, st.sampled_from([")", "]", "]}", ", 9, 9)"])),
        st.builds('{}x{}: {}, {}y{}: {}'.format, *(st.sampled_from(["", '"', "{"]) for _ in "ab"), NUMBER,
                  *(st.sampled_from(["", '"']) for _ in "ab"), NUMBER),
        st.builds('y: {} x: {}'.format, NUMBER, NUMBER),
        st.builds('<point x="{}" y="{}" alt="a">a</point>'.format, NUMBER, NUMBER),
        st.builds("The position of it is {}, {}.".format, NUMBER, NUMBER),
        st.sampled_from([" and ", "NOT_VISIBLE", "\n", "coordinates are\n", "}", "```json\n", "```", "[", "]"]),
    ),
    max_size=4,
).map("".join)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        ("[(0.5, 0.25)]", [(0, 0)]),  # its default is pixels
        ("[(40, 20), (1, 2)]", [(40, 20)]),  # only the first
        ('{"point_2d": [40, 20], "label": "a"} at (1, 2)', [(40, 20)]),
        ('(1, 2) {"y": 20, "x": 40}', [(40, 20)]),  # JSON is looked for first
        ('<point x="40" y="20" alt="a">a</point>', [(40, 20)]),
        ("the coordinates of (1, 2) are 40, 20", [(40, 20)]),
        ("y: 20, x: 40", [(40, 20)]),
        ("[1, 2] (40, 20)", [(1, 2)]),
        ("-40, 20", [(40, 20)]),
        ("(0.5.5, 1)", []),  # it stops there
        ("NOT_VISIBLE", []),
        ("(1, 2)" + " " * 10_000, []),
    ],
)
def test_crosspoint_by_hand(text, pixels):
    assert crosspoint(text, SIZE) == pixels


def test_crosspoints_other_units():
    names = READERS["crosspoint_bench"]
    assert names["crosspoint_bench, relative_1"]("(0.5, 0.25)", SIZE) == [(32, 12)]
    assert names["crosspoint_bench, relative_1000"]("[500, 250]", SIZE) == [(32, 12)]


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        ("[(0.5, 0.25), (40, 20)]", [(32, 12), (40, 20)]),
        ("(500, 250)", [(63, 47)]),  # in prose no thousandths: pixels, moved onto the picture
        ('```json\n[{"point_2d": [500, 250]}]\n```', [(32, 12)]),
        ("[{'point_2d': [500, 250]}, {'point': (0.5, 0.25)}]", [(32, 12), (32, 12)]),
        ('{"point_2d": [1200, 20]}', [(63, 20)]),
        ('{"point_2d": ["0.5", true]}', [(32, 47)]),
        ('{"point_2d": [1, 2, 3]} (0.5, 0.25)', [(32, 12)]),
        ("(-0.2, 0.5)", [(0, 24)]),
        ("(10, 12, 12, 13)", [(10, 12), (11, 12)]),
        ("(0.5, 0.25, 0.5, 0.25) (1, 2, 3)", []),
        ("(9, 9, 90000, 90000)", []),
        ('{"point_2d": [NaN, 1]}', [(-1, 1)]),
        ("null", []),
        ("[0.5, 0.25]", []),
        ("(0.5, 0.25)" + " " * 10_000, []),
    ],
)
def test_vlmevalkit_by_hand(text, pixels):
    assert vlmevalkit(text, SIZE) == pixels


@settings(max_examples=400)
@given(TEXT)
def test_crosspoint_agrees_with_the_library(text):
    torchvision_cpu.make_importable()
    tasks = pytest.importorskip("lmms_eval.tasks.crosspoint_bench.utils")
    try:
        theirs = tasks._extract_coordinates(text)
    except ValueError:  # a number such as 0.5.5 ends its run
        theirs = None
    assert crosspoint(text, SIZE) == ([] if theirs is None else [(int(theirs[0]), int(theirs[1]))])


def test_what_differs_is_named(make_sample):
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    samples = [make_sample((3, 3), mask=left, images=True) for _ in range(2)] + [make_sample()]
    texts = ["[(0.25, 0.5)]", '{"point_2d": [16, 24]}', "NOT_VISIBLE"]
    scores = score(samples, [Prediction(s.id, t) for s, t in zip(samples, texts)])
    found = lmms_rule.compared(scores, "crosspoint_bench")
    assert [(name, one["hit_at_mask"], len(one["differ"])) for name, one in found.items()] == [
        ("crosspoint_bench", 1.0, 1),
        ("crosspoint_bench, relative_1", 0.5, 0),
        ("crosspoint_bench, relative_1000", 1.0, 1),
    ]
    text = lmms_rule.table(lmms_rule.compared(scores, "vlmevalkit"), "vlmevalkit")
    assert "as vlmevalkit's parsers read these answers" in text
    assert "vlmevalkit: Hit@Mask 1.0000, here 0.5000; 1 of 2 samples differ" in text


def test_relative_answers_are_of_the_first_pictures_size(make_sample):
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    sample = make_sample((3, 3), mask=left, left_wh=(128, 96), images=True)
    text = "[(0.4, 0.2)]"  # of 128 x 96 pixels: (51, 19), which is not on the left of the second picture
    scores = score([sample], [Prediction(sample.id, text)])
    found = lmms_rule.compared(scores, "crosspoint_bench")
    assert [found[name]["hit_at_mask"] for name in ("crosspoint_bench", "crosspoint_bench, relative_1")] == [1.0, 0.0]
    Path(sample.image[0]).unlink()
    with pytest.raises(ValueError, match="crosspoint_bench's relative forms are of the first picture's size"):
        lmms_rule.compared(scores, "crosspoint_bench")
    whole = make_sample((3, 3), mask=left, left_wh=(128, 96), task="t1_concat")  # one picture, whose size is known
    scores = score([whole], [Prediction(whole.id, whole.answer)])
    assert lmms_rule.compared(scores, "crosspoint_bench")["crosspoint_bench, relative_1"]["hit_at_mask"] == 1.0
