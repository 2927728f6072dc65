import numpy as np
import pytest
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring import notes_rule
from roborefer_spatial.scoring.score import score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[(0.25, 0.5)]", (0.25, 0.5)),
        ("it is at [(0.25, 0.5)], or [(0.75, 0.5)]", (0.25, 0.5)),
        ("[(640, 240)]", (1.0, 1.0)),
        ("not_visible, or [(0.25, 0.5)]", "NOT_VISIBLE"),
        ("[(-0.1, 0.5)]", None),
        ("(0.25, 0.5)", None),
        ("[0.25, 0.5]", None),
        ("[(25%, 50%)]", None),
        ("[(0.1, 0.2), (0.3, 0.4)]", None),
        ("[(1.2.3, 0.5)]", None),
        (None, None),
    ],
)
def test_what_the_rule_reads(text, expected):
    assert notes_rule.read(text) == expected


@pytest.fixture
def scores(make_sample):
    right = np.zeros((48, 64), bool)
    right[:, 60:] = True
    wide = np.zeros((48, 64), bool)
    wide[:, 50:] = True
    samples = [
        make_sample((62, 24), mask=right, dilated=wide),
        make_sample((62, 24), mask=right),
        make_sample((62, 24), mask=right),
        make_sample((62, 24), mask=right),
        make_sample(),
        make_sample(),
    ]
    texts = ["[(0.82, 0.5)]", "[(300, 0.5)]", "NOT_VISIBLE", "(0.99, 0.5)", "NOT_VISIBLE", "[(0.5, 0.5)]"]
    return score(samples, [Prediction(s.id, t) for s, t in zip(samples, texts)])


def test_its_metrics_by_hand(scores):
    """Dilated mask first; a clamped point hits; an unread answer and a wrong NOT_VISIBLE count nowhere."""
    found = notes_rule.by_set(scores)["t1_multi/val"]
    assert (found["total"], found["gt_not_visible"], found["visible_gt"]) == (6, 2, 4)
    assert (found["hit_at_mask_count"], found["hit_at_mask_total"], found["hit_at_mask"]) == (2, 2, 1.0)
    assert found["not_visible_accuracy"] == 0.5
    x, y = 62.5 / 64, 24.5 / 48
    distances = [np.hypot(0.82 - x, 0.5 - y), np.hypot(1 - x, 0.5 - y)]
    assert found["mean_l2_error"] == pytest.approx(np.mean(distances))
    assert found["std_l2_error"] == pytest.approx(np.std(distances))
    assert (found["success_002"], found["success_005"], found["success_010"]) == (0.0, 0.5, 0.5)
    assert scores.hit.tolist()[:4] == [0.0, 0.0, 0.0, 1.0]  # the strict rule sees it otherwise


def test_answers_about_a_side_by_side_image_are_taken_to_b(make_sample):
    mask = np.zeros((48, 64), bool)
    mask[:, :4] = True
    sample = make_sample((1, 24), mask=mask, task="t1_concat")
    found = score([sample], [Prediction(sample.id, "[(0.51, 0.51)]")])
    on_a = score([sample], [Prediction(sample.id, "[(0.2, 0.51)]")])
    assert notes_rule.by_set(found)["t1_concat/val"]["hit_at_mask"] == 1.0
    assert notes_rule.by_set(found)["t1_concat/val"]["mean_l2_error"] == pytest.approx(
        np.hypot(0.02 - 1.5 / 64, 0.51 - 24.5 / 48)
    )
    assert notes_rule.by_set(on_a)["t1_concat/val"]["hit_at_mask"] == 1.0  # clamped to B's edge, which is in the mask


def test_nothing_to_score(make_sample):
    sample = make_sample()
    found = notes_rule.by_set(score([sample], []))["t1_multi/val"]
    assert (found["hit_at_mask"], found["mean_l2_error"], found["not_visible_accuracy"]) == (None, None, 0.0)
    assert "Hit@Mask - (0 of 0)" in notes_rule.table({"t1_multi/val": found})
