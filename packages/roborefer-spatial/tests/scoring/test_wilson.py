import math
import re

import numpy as np
import pytest
from roborefer_spatial.scoring.metrics import PROPORTIONS, intervals, metrics
from roborefer_spatial.scoring.score import score
from roborefer_spatial.scoring.wilson import effective_count, interval

Z = 1.959963984540054


def test_none_of_28_and_all_of_28():
    # for 0 of n the upper end is z^2 / (n + z^2)
    assert interval(0.0, 28, 0.95) == (0.0, pytest.approx(Z**2 / (28 + Z**2)))
    assert interval(1.0, 28, 0.95) == (pytest.approx(28 / (28 + Z**2)), 1.0)


@pytest.mark.parametrize(("hits", "count"), [(1, 28), (10, 28), (27, 28), (3, 7.5)])
def test_the_ends_are_where_the_normal_test_is_just_passed(hits, count):
    share = hits / count
    for end in interval(share, count, 0.95):
        assert abs(share - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / count))


def test_bad_proportions():
    for proportion, count in ((1.1, 3), (-0.1, 3), (0.5, 0)):
        with pytest.raises(ValueError, match=re.escape(f"got {proportion} of {count}")):
            interval(proportion, count, 0.95)


def test_the_effective_number_of_samples():
    assert effective_count(0.5, 0.25 / 20, 100, 10) == pytest.approx(20)  # scatters as 20 independent samples do
    assert effective_count(0.5, 0.25 / 500, 100, 10) == 100  # never more than there are
    assert effective_count(0.0, 0.0, 100, 10) == 10  # no scatter to judge by: the scenes
    assert effective_count(1.0, 0.0, 7, 10) == 7
    assert effective_count(0.5, 9.0, 100, 10) == 1


def test_scenes_that_agree_within_count_once():
    scenes = [("val", str(index // 10)) for index in range(100)]
    top, one = np.repeat([1.0, 0] * 5, 10), np.ones(100)
    low, high = intervals({"hit_at_mask": (top, one)}, scenes, bootstrap=2000, seed=0)["hit_at_mask"]
    assert (low, high) == pytest.approx(interval(0.5, 9, 0.95), abs=0.01)  # 10 scenes, unbiased variance


def test_no_hit_has_an_interval_with_an_upper_end(make_sample):
    samples = [make_sample((1, 1), scene=f"s{index}") for index in range(28)]
    found = metrics(score(samples, []), np.ones(28, bool), bootstrap=100)["intervals"]
    assert found["hit_at_mask"] == [0.0, pytest.approx(0.1206, abs=1e-4)]
    assert found["success_005"] == found["overall_accuracy"] == found["hit_at_mask"]


def test_every_share_is_among_the_proportions(make_sample):
    samples = [make_sample((1, 1), scene=f"s{index}") for index in range(3)]
    found = metrics(score(samples, []), np.ones(3, bool), bootstrap=10)["intervals"]
    assert set(found) - PROPORTIONS == {"mean_l2_error", "mean_l2_error_query", "chance_hit_at_mask"}


def test_counts_below_one_and_none():
    low, high = interval(0.5, 0.5, 0.95)
    assert 0 < low < 0.5 < high < 1
    for count in (0, -1):
        with pytest.raises(ValueError, match="its count above 0"):
            interval(0.5, count, 0.95)


def test_the_ends_of_nothing_and_all_are_exact():
    """By arithmetic alone they would be off by rounding for some counts."""
    assert all(interval(0.0, count, 0.95)[0] == 0.0 for count in range(1, 300))
    assert all(interval(1.0, count, 0.95)[1] == 1.0 for count in range(1, 300))
    assert 0 < interval(1e-9, 3, 0.95)[0] < 1e-9 or interval(1e-9, 3, 0.95)[0] == 0.0


def test_where_there_is_no_scatter_the_scenes_count():
    assert effective_count(0.0, 0.5, 100, 10) == 10
    assert effective_count(1.0, 0.5, 100, 10) == 10
    assert effective_count(0.5, 0.0, 100, 10) == 10
    assert effective_count(0.5, -1e-18, 100, 10) == 10
    assert effective_count(0.0, 0.0, 100, 0) == 1.0
    assert effective_count(0.0, 0.0, 1, 1) == 1.0
