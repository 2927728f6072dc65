import numpy as np
import pytest
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring.fit import remarks, units_hint
from roborefer_spatial.scoring.score import ScoreOptions, score


def said(make_sample, write, count=10, **options):
    rng = np.random.default_rng(0)
    samples = [make_sample((1, 1), size_wh=(1920, 1440)) for _ in range(count)]
    rows = [Prediction(sample.id, write(*rng.random(2))) for sample in samples]
    chosen = ScoreOptions(**options)
    return list(remarks(score(samples, rows, chosen), chosen))


def test_answers_that_fit_are_not_remarked_on(make_sample):
    assert said(make_sample, lambda x, y: f"({x:.3f}, {y:.3f})") == []
    assert said(make_sample, lambda x, y: f"({x * 999:.0f}, {y * 999:.0f})", units="thousand") == []


@pytest.mark.parametrize(
    ("scale", "units", "hint"),
    [
        (1000, "normalized", "hint: 100% of the answers lie in 0..1000: --units thousand, or a model's --profile?"),
        (100, "normalized", "hint: 100% of the answers lie in 0..100: --units percent, or a model's --profile?"),
        (1, "thousand", "hint: 100% of the answers lie in 0..1: --units normalized, or a model's --profile?"),
        (1000, "percent", "hint: 100% of the answers lie in 0..1000: --units thousand, or a model's --profile?"),
    ],
)
def test_other_units_that_would_fit_are_named(make_sample, scale, units, hint):
    found = said(make_sample, lambda x, y: f"({x * scale * 0.9:.3f}, {y * scale * 0.9:.3f})", units=units)
    assert found[-1] == hint


def test_pixels(make_sample):
    found = said(make_sample, lambda x, y: f"({1000 + x * 900:.0f}, {y * 1400:.0f})")
    assert found == ["of 10 samples: 10 out of range", found[-1]]
    assert "--units pixel" in found[-1]


def test_counts(make_sample):
    samples = [make_sample((1, 1)) for _ in range(4)]
    rows = [Prediction(samples[0].id, "no idea"), Prediction(samples[1].id, None, "gone")]
    rows.append(Prediction(samples[2].id, "(5, 5)"))
    scores = score(samples, rows)
    assert list(remarks(scores, ScoreOptions())) == [
        "of 4 samples: 1 missing, 1 failed, 1 out of range, 1 not understood"
    ]


def hint(make_sample, texts, **options):
    samples = [make_sample((1, 1)) for _ in texts]
    chosen = ScoreOptions(**options)
    rows = [Prediction(sample.id, text) for sample, text in zip(samples, texts)]
    return units_hint(score(samples, rows, chosen), chosen)


THOUSAND = "hint: 100% of the answers lie in 0..1000: --units thousand, or a model's --profile?"


def test_eight_answers_are_enough_for_a_hint_and_seven_are_not(make_sample):
    assert hint(make_sample, ["(500, 700)"] * 8) == THOUSAND
    assert hint(make_sample, ["(500, 700)"] * 7) is None


def test_answers_without_a_point_and_loc_tags_do_not_count(make_sample):
    assert hint(make_sample, ["(500, 700)"] * 7 + ["no idea"] * 5) is None
    assert hint(make_sample, ["(500, 700)"] * 7 + ["<loc0300><loc0400>"] * 5) is None


def test_half_of_the_answers_outside_are_enough(make_sample):
    inside = ["(0.5, 0.5)"]
    assert hint(make_sample, ["(500, 700)"] * 8 + inside * 8) == THOUSAND
    assert hint(make_sample, ["(500, 700)"] * 7 + inside * 9) is None


def test_the_limits_of_the_units_are_inside(make_sample):
    assert hint(make_sample, ["(100, 0)"] * 8).startswith("hint: 100% of the answers lie in 0..100:")
    assert hint(make_sample, ["(1000, 101)"] * 8) == THOUSAND


def test_a_corner_is_up_to_one(make_sample):
    assert hint(make_sample, ["(1, 0.5)"] * 8, units="thousand").startswith("hint: 100% of the answers lie in 0..1:")
    assert hint(make_sample, ["(1.0005, 0.5)"] * 8, units="thousand") is None
    assert hint(make_sample, ["(1, 0.5)"] * 8, units="percent").startswith("hint: 100% of the answers lie in 0..1:")
    assert hint(make_sample, ["(0.9, 0.5)"] * 8) is None


def test_one_coordinate_that_does_not_fit_is_one_answer_that_does_not(make_sample):
    """12 of 15 answers fit wholly in 0..100: 80 %, counted by answer and not by coordinate."""
    found = hint(make_sample, ["(50, 60)"] * 12 + ["(50, 600)"] * 3)
    assert found == "hint: 80% of the answers lie in 0..100: --units percent, or a model's --profile?"
