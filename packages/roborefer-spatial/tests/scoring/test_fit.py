import numpy as np
import pytest
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring.fit import remarks
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
