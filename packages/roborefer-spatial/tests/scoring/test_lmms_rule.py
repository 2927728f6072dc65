"""Against lmms-eval itself where it is installed, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roborefer_spatial import torchvision_cpu
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring import lmms_rule
from roborefer_spatial.scoring.score import score

SIZE = (64, 48)
NUMBER = st.one_of(
    st.integers(-5, 1200).map(str),
    st.floats(-0.5, 1.5).map(lambda value: f"{value:.3f}"),
    st.sampled_from(["1.", ".5", "+0.5", "1e3", "0.5.5", "1000", "1001", "0", "1"]),
)
TEXT = st.lists(
    st.one_of(
        st.builds("{}{}{}{}{}".format, st.sampled_from(["(", "[", "( ", "[("]), NUMBER,
                  st.sampled_from([",", ", ", " ,", ";"]), NUMBER, st.sampled_from([")", "]", " )", ")]"])),
        st.sampled_from([" and ", "NOT_VISIBLE", '{"point_2d": ', "\n", "(1, 2, 3)"]),
    ),
    max_size=5,
).map("".join)  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "text", "pixels"),
    [
        (lmms_rule.refspatial, "[(0.5, 0.25), (1, 0.999)] (0.1,0.2,0.3) [0.5, 0.5]", [(32, 12), (64, 47)]),
        (lmms_rule.refspatial, "(-0.01, 0.5)", [(0, 24)]),  # towards 0: a point outside lands on the edge
        (lmms_rule.refspatial_json, '[{"point_2d": [500, 250]}] (0.5, 0.25)', [(32, 12), (32, 12)]),
        (lmms_rule.refspatial_json, "[1, 0]", [(0, 0)]),
        (lmms_rule.pointbench, "(0.5, 0.25) (500, 250) (2000, 10) (1, 1)", [(32, 12), (32, 12), (2000, 10), (64, 48)]),
    ],
)
def test_readers_by_hand(reader, text, pixels):
    assert reader(text, SIZE) == pixels


@settings(max_examples=300)
@given(TEXT)
def test_the_readers_agree_with_the_library(text):
    torchvision_cpu.make_importable()
    tasks = pytest.importorskip("lmms_eval.tasks.refspatial.utils")
    shared = pytest.importorskip("lmms_eval.tasks._task_utils.point_format")
    bench = pytest.importorskip("lmms_eval.tasks.pointbench.utils")
    for ours, theirs in (
        (lmms_rule.refspatial, tasks._text2pts),
        (lmms_rule.refspatial_json, shared.parse_point2d),
        (lmms_rule.pointbench, bench._text_to_points),
    ):
        assert ours(text, SIZE) == [tuple(point) for point in theirs(text, *SIZE).tolist()], ours.__name__


@pytest.fixture
def scores(make_sample):
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    samples = [make_sample((3, 3), mask=left) for _ in range(3)] + [make_sample()]
    texts = ["[(0.25, 0.5)]", '{"point_2d": [250, 500]}', "[(0.25, 0.5), (0.75, 0.5)]", "NOT_VISIBLE"]
    options = [Prediction(s.id, t) for s, t in zip(samples, texts)]
    return score(samples, options)


def test_what_differs_is_named(scores):
    found = lmms_rule.compared(scores)
    assert (found["refspatial"]["hit_at_mask"], found["refspatial"]["strict_hit_at_mask"]) == (0.5, 0.5)
    assert found["refspatial"]["differ"] == []
    (row,) = found["refspatial_json"]["differ"]
    assert (row["id"], row["theirs"], row["strict"], row["reason"]) == ("s00001", 1.0, 0.0, "out_of_range")
    assert found["refspatial_json"]["visible_gt"] == 3
    text = lmms_rule.table(found)
    assert "refspatial_json: Hit@Mask 0.8333, here 0.5000; 1 of 3 samples differ" in text
    assert "s00001: 1.00 there, 0.00 here (out_of_range): '{\"point_2d\": [250, 500]}'" in text


def test_only_objects_in_view_are_scored(make_sample):
    sample = make_sample()
    found = lmms_rule.compared(score([sample], [Prediction(sample.id, "NOT_VISIBLE")]))
    assert found["pointbench"]["hit_at_mask"] is None
    assert "pointbench: no visible object" in lmms_rule.table(found)


def test_numbers_of_any_length_lie_outside(make_sample):
    sample = make_sample((3, 3), mask=np.ones((48, 64), bool))
    scores = score([sample], [Prediction(sample.id, f"(1{'0' * 300}, 0.5)")])
    assert lmms_rule.hits(scores, lmms_rule.refspatial).tolist() == [0.0]
