import math
import re

import numpy as np
import pytest
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring.metrics import by_set, intervals, metrics
from roborefer_spatial.scoring.score import score


def scored(samples, texts):
    return score(samples, [Prediction(s.id, t) for s, t in zip(samples, texts) if t is not None])


def whole(samples, texts, **options):
    scores = scored(samples, texts)
    return metrics(scores, np.ones(len(scores), bool), **options)


@pytest.fixture
def ten(make_sample):
    """Six visible objects in the left half of the image, four that are not visible."""
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    return [make_sample((16, 24), mask=left, scene=f"scene{i % 3}") for i in range(6)] + [
        make_sample(scene=f"scene{i % 3}") for i in range(4)
    ]


TEXTS = [
    *("[(0.26, 0.5)]", "[(0.2, 0.5)]", "[(0.9, 0.5)]", "NOT_VISIBLE", "no idea", None),
    *("NOT_VISIBLE", "NOT_VISIBLE", "[(0.5, 0.5)]", "I'm sorry"),
]


def test_by_hand(ten):
    result = whole(ten, TEXTS, bootstrap=0)
    assert {key: result[key] for key in ("total", "scenes", "gt_not_visible", "visible_gt", "pred_not_visible")} == {
        "total": 10,
        "scenes": 3,
        "gt_not_visible": 4,
        "visible_gt": 6,
        "pred_not_visible": 3,
    }
    assert (result["hit_at_mask"], result["hit_at_mask_count"], result["hit_at_mask_total"]) == (2 / 6, 2, 6)
    assert (result["hit_at_mask_answered"], result["hit_at_mask_answered_total"]) == (2 / 3, 3)
    assert (result["hit_at_mask_raw"], result["hit_at_mask_dilated"]) == (2 / 6, None)
    assert result["chance_hit_at_mask"] == 0.5
    assert result["not_visible_accuracy"] == result["not_visible_recall"] == 2 / 4
    assert result["not_visible_precision"] == 2 / 3
    assert result["not_visible_f1"] == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert result["overall_accuracy"] == (2 + 2) / 10
    true_x, true_y = 16.5 / 64, 24.5 / 48
    distances = [math.hypot(x - true_x, 0.5 - true_y) for x in (0.26, 0.2, 0.9)]
    assert result["mean_l2_error"] == pytest.approx(sum(distances) / 3)
    assert result["std_l2_error"] == pytest.approx(np.std(distances))
    assert result["median_l2_error"] == pytest.approx(sorted(distances)[1])
    assert result["l2_count"] == 3
    assert (result["success_002"], result["success_005"], result["success_010"]) == (1 / 6, 1 / 6, 2 / 6)
    assert result["success_010_answered"] == 2 / 3
    assert result["reasons"] == {"points": 4, "not_visible": 3, "no_point": 1, "missing": 1, "refusal": 1}
    assert result["parse_failures"] == {"refusal": 1, "no_point": 1}
    assert result["forms"] == {"list": 4}
    assert "intervals" not in result


def test_not_visible_everywhere_but_once_is_no_perfect_score(ten):
    result = whole(ten, ["[(0.2, 0.5)]"] + ["NOT_VISIBLE"] * 9, bootstrap=0)
    assert result["hit_at_mask"] == 1 / 6
    assert result["hit_at_mask_answered"] == 1  # the earlier evaluator's figure, under a name that says so
    assert result["not_visible_recall"] == 1
    assert result["not_visible_precision"] == 4 / 9
    assert result["overall_accuracy"] == 5 / 10


def test_no_denominator_is_none(make_sample):
    result = whole([make_sample(), make_sample()], ["NOT_VISIBLE", "(0.5, 0.5)"], bootstrap=5)
    assert result["hit_at_mask"] is None
    assert (result["mean_l2_error"], result["std_l2_error"], result["median_l2_error"]) == (None, None, None)
    assert result["not_visible_accuracy"] == 0.5


def test_fractional_hits_are_counted(make_sample):
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    result = whole([make_sample((1, 1), mask=left)], ["[(0.1, 0.5), (0.9, 0.5)]"], bootstrap=0)
    assert (result["hit_at_mask"], result["hit_at_mask_count"]) == (0.5, 0.5)


def test_sets_are_kept_apart(make_sample):
    samples = [
        make_sample((1, 1)),
        make_sample((1, 1), task="t1_concat"),
        make_sample((1, 1), split="train"),
        make_sample((1, 1)),
    ]
    sets = by_set(scored(samples, [s.answer for s in samples]), bootstrap=0)
    assert {name: m["total"] for name, m in sets.items()} == {
        "t1_multi/val": 2,
        "t1_concat/val": 1,
        "t1_multi/train": 1,
    }
    assert [m["coord_frame"] for m in sets.values()] == ["query", "concat", "query"]
    assert all(m["hit_at_mask"] == 1 for m in sets.values())


def test_frames_are_not_averaged(make_sample):
    samples = [make_sample((1, 1)), make_sample((1, 1), task="t1_concat")]
    scores = scored(samples, [s.answer for s in samples])
    with pytest.raises(
        ValueError, match=re.escape("metrics need samples of one coordinate frame, got ['concat', 'query']")
    ):
        metrics(scores, np.ones(2, bool))
    with pytest.raises(ValueError, match="got no samples"):
        metrics(scores, np.zeros(2, bool))


def test_intervals_hold_the_estimate_and_repeat(ten):
    first, second = whole(ten, TEXTS, bootstrap=200, seed=3), whole(ten, TEXTS, bootstrap=200, seed=3)
    assert first["intervals"] == second["intervals"]
    low, high = first["intervals"]["hit_at_mask"]
    assert low <= first["hit_at_mask"] <= high
    assert first["intervals"] != whole(ten, TEXTS, bootstrap=200, seed=4)["intervals"]


def test_bootstrap_resamples_scenes_not_samples():
    """Three scenes that are all hits or all misses: only the scene counts matter. Against a plain loop."""
    scenes = [("val", "a")] * 50 + [("val", "b")] * 30 + [("val", "c")] * 20
    top, bottom = np.array([1.0] * 50 + [0.0] * 30 + [1.0] * 20), np.ones(100)
    got = intervals({"m": (top, bottom)}, scenes, bootstrap=4000, seed=0)["m"]
    values, generator = [], np.random.default_rng(1)
    for _ in range(4000):
        drawn = generator.choice(3, 3)
        hits, counts = np.array([50, 0, 20])[drawn].sum(), np.array([50, 30, 20])[drawn].sum()
        values.append(hits / counts)
    assert got == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist(), abs=0.02)
    assert got[0] < 0.2  # draws of scene b alone: resampling samples would stay near 0.7
    assert got[1] > 0.95


def test_intervals_that_do_not_exist():
    one, zero = np.ones(4), np.zeros(4)
    assert intervals({"m": (one, one)}, [("val", "a")] * 4, bootstrap=10, seed=0) == {"m": None}
    scenes = [("val", "a"), ("val", "b"), ("val", "c"), ("val", "d")]
    assert intervals({"m": (zero, zero)}, scenes, bootstrap=10, seed=0) == {"m": None}
    rare = np.array([1.0, 0, 0, 0])  # undefined whenever the first scene is not drawn
    assert intervals({"m": (rare, rare)}, scenes, bootstrap=200, seed=0) == {"m": None}


def test_scenes_of_two_splits_are_two_scenes():
    top, bottom = np.array([1.0, 0.0]), np.ones(2)
    assert intervals({"m": (top, bottom)}, [("val", "a"), ("train", "a")], bootstrap=200, seed=0)["m"] == [
        0,
        1,
    ]


def test_defaults_that_figures_were_made_with(ten):
    from roborefer_spatial.scoring import metrics as module

    assert module.BOOTSTRAP == 1000
    assert whole(ten, TEXTS) == whole(ten, TEXTS, bootstrap=1000, seed=0)
    assert whole(ten, TEXTS) != whole(ten, TEXTS, bootstrap=1000, seed=1)


def test_answered_shares_are_of_the_answers_own_frame(ten):
    found = whole(ten, TEXTS, bootstrap=0)
    assert {name for name in found if name.endswith("_answered")} == {
        "hit_at_mask_answered", "success_002_answered", "success_005_answered", "success_010_answered",
    }  # fmt: skip


def test_the_number_of_dilated_masks(make_sample):
    everywhere = np.ones((48, 64), bool)
    samples = [make_sample((1, 1), dilated=everywhere), make_sample((1, 1)), make_sample((1, 1))]
    found = whole(samples, [None] * 3, bootstrap=0)
    assert (found["hit_at_mask_raw_total"], found["hit_at_mask_dilated_total"]) == (3, 1)


def test_the_interval_of_a_distance_is_the_percentiles_of_the_draws():
    rng = np.random.default_rng(5)
    values, scenes = rng.random(30), [("val", str(index // 5)) for index in range(30)]
    draws = np.random.default_rng(2).multinomial(6, np.full(6, 1 / 6), 400)
    means = draws @ values.reshape(6, 5).sum(axis=1) / 30
    found = intervals({"mean_l2_error": (values, np.ones(30))}, scenes, bootstrap=400, seed=2)
    assert found["mean_l2_error"] == pytest.approx(np.percentile(means, [2.5, 97.5]))


def test_a_share_scatters_as_its_scenes_do():
    """Against Wilson's interval at the effective number of samples, computed anew."""
    from roborefer_spatial.scoring import wilson

    rng = np.random.default_rng(7)
    top = (rng.random(60) < np.repeat(rng.random(6), 10)).astype(float)
    scenes = [("val", str(index // 10)) for index in range(60)]
    draws = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), 300)
    shares = draws @ top.reshape(6, 10).sum(axis=1) / 60
    share, variance = top.mean(), shares.var() * 6 / 5
    effective = max(1.0, min(60, share * (1 - share) / variance))
    found = intervals({"hit_at_mask": (top, np.ones(60))}, scenes, bootstrap=300, seed=0)["hit_at_mask"]
    assert found == pytest.approx(wilson.interval(share, effective, 0.95))


def test_scenes_without_such_a_sample_do_not_count():
    """A share of 0 is judged by its scenes: three of five have an object in view."""
    from roborefer_spatial.scoring import wilson

    scenes = [("val", str(index)) for index in range(5) for _ in range(2)]
    bottom = np.array([1.0, 1] * 3 + [0, 1e-9] + [1e-9, 0])
    found = intervals({"hit_at_mask": (np.zeros(10), bottom)}, scenes, bootstrap=20, seed=0)["hit_at_mask"]
    assert found == pytest.approx(wilson.interval(0.0, 5, 0.95))
    bottom = np.array([1.0, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    found = intervals({"hit_at_mask": (np.zeros(10), bottom)}, scenes, bootstrap=20, seed=0)["hit_at_mask"]
    assert found == pytest.approx(wilson.interval(0.0, 5, 0.95))


def test_answered_shares_count_distances_in_the_answers_own_frame(make_sample):
    """0.15 of B's width is 0.075 of the side-by-side image's: within 0.10 there, not in B."""
    sample = make_sample((32, 24), task="t1_concat")
    x, y = 0.5 + 0.5 * (32.5 / 64 + 0.15), 24.5 / 48
    found = whole([sample], [f"[({x}, {y})]"], bootstrap=0)
    assert (found["success_010_answered"], found["success_010"], found["success_010_query"]) == (1.0, 1.0, 0.0)


def test_a_scene_without_an_object_in_view_is_not_counted():
    from roborefer_spatial.scoring import wilson

    scenes = [("val", str(index)) for index in range(5) for _ in range(2)]
    bottom = np.array([1.0] * 8 + [0.0] * 2)
    found = intervals({"hit_at_mask": (np.zeros(10), bottom)}, scenes, bootstrap=20, seed=0)["hit_at_mask"]
    assert found == pytest.approx(wilson.interval(0.0, 4, 0.95))
