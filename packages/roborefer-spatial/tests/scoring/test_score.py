"""The scorer, by hand and against an independent oracle; each defect of the earlier evaluator has a test."""

import math
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from roborefer_spatial.answers import NOT_VISIBLE, format_points
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring.score import REASONS, ScoreOptions, score


def scored(samples, texts, **options):
    rows = [Prediction(sample.id, text) for sample, text in zip(samples, texts) if text is not None]
    return score(samples, rows, ScoreOptions(**options))


def test_by_hand(make_sample):
    mask, dilated = np.zeros((48, 64), bool), np.zeros((48, 64), bool)
    mask[10:20, 30:40], dilated[8:22, 28:42] = True, True
    samples = [make_sample((35, 15), mask=mask, dilated=dilated) for _ in range(4)] + [make_sample()]
    scores = scored(
        samples,
        ["[(0.5, 0.3)]", f"[({41.5 / 64:.4f}, 0.3)]", "[(0.1, 0.1)]", "NOT_VISIBLE", "NOT_VISIBLE"],
    )
    assert scores.hit[:4].tolist() == scores.hit_raw[:4].tolist() == [1, 0, 0, 0]
    assert scores.hit_dilated[:4].tolist() == [1, 1, 0, 0]
    assert np.isnan([scores.hit[4], scores.hit_raw[4], scores.hit_dilated[4], scores.chance[4]]).all()
    assert scores.chance[:4].tolist() == [100 / (64 * 48)] * 4
    assert scores.reason == ["points", "points", "points", "not_visible", "not_visible"]
    true_x, true_y = 35.5 / 64, 15.5 / 48
    assert scores.l2[0] == pytest.approx(math.hypot(true_x - 0.5, true_y - 0.3))
    assert np.isnan(scores.l2[3:]).all()
    assert scores.success[0].tolist() == [0, 0, 1]
    assert scores.success[3].tolist() == [0, 0, 0]
    assert np.isnan(scores.success[4]).all()


def test_pixels_as_fractions_are_a_miss_and_not_clamped(make_sample):
    sample = make_sample((63, 47))  # clamping (320, 240) to the corner would hit
    scores = scored([sample], ["[(320, 240)]"])
    assert (scores.hit[0], scores.reason[0]) == (0, "out_of_range")
    assert np.isnan(scores.l2[0])
    assert scored([sample], ["[(63, 47)]"], units="pixel").hit[0] == 1


@pytest.mark.parametrize("text", ["[(1.0, 0.99)]", "[(-0.001, 0.99)]", "[(0.99, 1.0)]", "[(0.99, -0.0001)]"])
def test_one_and_below_zero_are_outside(make_sample, text):
    mask = np.ones((48, 64), bool)
    scores = scored([make_sample((5, 5), mask=mask)], [text])
    assert (scores.hit[0], scores.reason[0]) == (0, "out_of_range")


def test_the_whole_of_a_pixel_counts_and_nothing_beyond(make_sample):
    sample = make_sample((10, 20))
    for dx, dy, hit in (
        (0, 0, 1),
        (0.999, 0.999, 1),
        (1.0, 0, 0),
        (-0.001, 0, 0),
        (0, 1.0, 0),
        (0, -0.001, 0),
    ):
        assert scored([sample], [f"[({(10 + dx) / 64}, {(20 + dy) / 48})]"]).hit[0] == hit, (dx, dy)


def test_concat_answers_are_in_the_whole_images_frame(make_sample):
    mask = np.zeros((48, 64), bool)
    mask[20:30, 10:20] = True
    sample = make_sample((15, 25), mask=mask, task="t1_concat")
    full = (0.5 + 0.5 * 15.5 / 64, 25.5 / 48)
    scores = scored([sample], [format_points([full], (128, 48))])
    assert (scores.hit[0], scores.reason[0]) == (1, "points")
    assert scores.l2[0] == pytest.approx(0, abs=1e-3)
    in_b_frame = scored([sample], [f"[({15.5 / 64}, {25.5 / 48})]"])
    assert (in_b_frame.hit[0], in_b_frame.reason[0]) == (0, "wrong_side")
    assert in_b_frame.success[0].tolist() == [0, 0, 0]


def test_left_half_never_succeeds_however_near(make_sample):
    mask = np.zeros((48, 64), bool)
    mask[:, 0] = True
    sample = make_sample((0, 24), mask=mask, task="t1_concat")
    scores = scored([sample], ["[(0.4999, 0.51)]"])
    assert scores.l2[0] < 0.02
    assert (scores.hit[0], scores.success[0].tolist(), scores.reason[0]) == (0, [0, 0, 0], "wrong_side")


def test_padding_below_a_smaller_right_image_is_a_miss(make_sample):
    sample = make_sample((5, 5), size_wh=(20, 10), left_wh=(30, 40), mask=np.ones((10, 20), bool), task="t1_concat")
    scores = scored([sample], ["[(0.8, 0.5)]"])
    assert (scores.hit[0], scores.reason[0]) == (0, "wrong_side")
    assert scored([sample], ["[(0.8, 0.2)]"]).hit[0] == 1


def test_a_distance_of_the_limit_itself_is_a_success(make_sample):
    """0.055 - 0.005 is 0.05 in floating point, too, and the next number is beyond."""
    sample = make_sample((0, 24), size_wh=(100, 48))
    y = 24.5 / 48
    scores = [scored([sample], [f"[({x!r}, {y!r})]"]) for x in (0.055, float(np.nextafter(0.055, 1)))]
    assert [found.l2[0] <= 0.05 for found in scores] == [True, False]
    assert [found.success[0].tolist() for found in scores] == [[0, 1, 1], [0, 0, 1]]
    assert [found.success_query[0].tolist() for found in scores] == [[0, 1, 1], [0, 0, 1]]


def test_concat_distances_do_not_mix_frames(make_sample):
    sample = make_sample((32, 24), task="t1_concat")
    x, y = 0.5 + 0.5 * 32.5 / 64, 24.5 / 48
    scores = scored([sample], [f"[({x + 0.03}, {y + 0.04})]"])
    assert scores.l2[0] == pytest.approx(0.05)
    assert scores.l2_query[0] == pytest.approx(math.hypot(0.06, 0.04))
    assert scores.success_query[0].tolist() == [0, 0, 1]


def test_several_points_count_by_their_mean_or_the_first(make_sample):
    mask = np.zeros((48, 64), bool)
    mask[:, :32] = True
    sample = make_sample((10, 10), mask=mask)
    text = "[(0.1, 0.5), (0.9, 0.5), (0.2, 0.5), (7, 7)]"
    mean, first = scored([sample], [text]), scored([sample], [text], multi="first")
    assert (mean.hit[0], first.hit[0]) == (0.5, 1)
    assert np.isnan(mean.l2[0])  # one point is outside of the image
    assert first.l2[0] == pytest.approx(math.hypot(0.1 - 10.5 / 64, 0.5 - 10.5 / 48))
    assert len(first.points[0]) == 4


def test_failures_count_as_misses_with_their_reason(make_sample):
    samples = [make_sample((5, 5), mask=np.ones((48, 64), bool)) for _ in range(6)]
    rows = [
        Prediction(samples[0].id, "I'm sorry"),
        Prediction(samples[1].id, "not visible [(0.5, 0.5)]"),
        Prediction(samples[2].id, None, "RuntimeError: no memory"),
        Prediction(samples[4].id, ""),
        Prediction(samples[5].id, "[(0.5, 0.5)]"),
    ]
    scores = score(samples, rows)
    assert scores.reason == ["refusal", "conflict", "error", "missing", "empty", "points"]
    assert set(scores.reason) <= set(REASONS)
    assert scores.hit.tolist() == [0, 0, 0, 0, 0, 1]
    assert not scores.said_not_visible.any()


def test_units_use_each_samples_own_image(make_sample):
    samples = [
        make_sample((10, 20)),
        make_sample((10, 20), task="t1_concat"),
        make_sample((100, 20), size_wh=(200, 100)),
    ]
    scores = scored(samples, ["(10, 20)", "(74, 20)", "(100, 20)"], units="pixel")
    assert scores.hit.tolist() == [1, 1, 1]
    assert scores.l2 == pytest.approx([0, 0, 0])


def test_answers_to_other_questions(make_sample):
    with pytest.raises(ValueError, match=re.escape("1 of 1 answers belong to no sample, such as id 'other'")):
        score([make_sample((1, 1))], [Prediction("other", "[(0.5, 0.5)]")])


def test_truth_that_misses_its_mask(make_sample):
    sample = make_sample((10, 20))
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(sample.mask_path)
    message = f"1 true point(s) miss their own mask, such as that of sample {sample.id} (raw)"
    with pytest.raises(ValueError, match=re.escape(message)):
        scored([sample], ["[(0.5, 0.5)]"])


def test_dilated_truth_is_checked_against_the_dilated_mask(make_sample):
    mask, dilated = np.zeros((48, 64), bool), np.zeros((48, 64), bool)
    mask[10, 10], dilated[9:12, 9:12] = True, True
    sample = make_sample((11, 11), mask=mask, dilated=dilated, gt_mask="dilated")
    scores = scored([sample], [sample.answer])
    assert (scores.hit[0], scores.hit_raw[0], scores.hit_dilated[0]) == (1, 0, 1)
    assert scores.chance[0] == 9 / (64 * 48)


@pytest.mark.parametrize("name", ["units", "point_order", "multi"])
def test_unknown_options(name):
    with pytest.raises(ValueError, match=f"{name} is 'x'; known: "):
        ScoreOptions(**{name: "x"})


def oracle(sample, text):
    """Score one plain answer with loops over pixels: does any pixel of the mask hold the point?"""
    if text == NOT_VISIBLE:
        return 0.0
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", text)]
    mask = np.asarray(Image.open(sample.mask_path)) > 0
    width, height = sample.answer_size
    shift = sample.concat.left_wh[0] if sample.concat else 0
    for row, col in zip(*np.nonzero(mask)):
        if (col + shift) <= numbers[0] * width < (col + shift + 1) and row <= numbers[1] * height < row + 1:
            return 1.0
    return 0.0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_against_an_oracle_that_loops_over_pixels(make_sample, data):
    size = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    left = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    task = data.draw(st.sampled_from(["t1_multi", "t1_concat"]))
    bits = data.draw(st.lists(st.booleans(), min_size=size[0] * size[1], max_size=size[0] * size[1]))
    mask = np.array(bits).reshape(size[1], size[0])
    if not mask.any():
        mask[0, 0] = True
    row, col = np.argwhere(mask)[0]
    sample = make_sample((int(col), int(row)), size_wh=size, left_wh=left, mask=mask, task=task, name="one")
    texts = data.draw(
        st.lists(
            st.one_of(
                st.just(NOT_VISIBLE),
                st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)).map(lambda p: f"[({p[0]:.4f}, {p[1]:.4f})]"),
            ),
            min_size=1,
            max_size=8,
        )
    )
    for text in [*texts, sample.answer]:
        assert scored([sample], [text]).hit[0] == oracle(sample, text), text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_every_truth_hits_through_formatter_parser_and_scorer(make_sample, data):
    """One-pixel masks at any size, alone and side by side with an image of any other size."""
    size = data.draw(st.tuples(st.integers(1, 4096), st.integers(1, 300)).flatmap(st.permutations))
    left = data.draw(st.tuples(st.integers(1, 4096), st.integers(1, 4096)))
    pixel = tuple(data.draw(st.integers(0, side - 1)) for side in size)
    task = data.draw(st.sampled_from(["t1_multi", "t1_concat", "t2b_multi"]))
    sample = make_sample(pixel, size_wh=tuple(size), left_wh=left, task=task, name="one")
    scores = scored([sample], [sample.answer])
    assert (scores.hit[0], scores.reason[0]) == (1, "points")
    assert scores.l2[0] < 0.001


def test_the_thresholds():
    from roborefer_spatial.scoring.score import THRESHOLDS

    assert THRESHOLDS == (0.02, 0.05, 0.10)


@pytest.mark.parametrize("seen", [None, (), ((64, 48),), ((64, 48),) * 3])
def test_pixels_of_the_seen_image_need_its_size(make_sample, seen):
    sample = make_sample((3, 3))
    options = ScoreOptions(units="pixel", frame="seen")
    with pytest.raises(ValueError, match=r"the answer of sample s00000 does not say at which size"):
        score([sample], [Prediction(sample.id, "(3, 3)", seen=seen)], options)
    good = score([sample], [Prediction(sample.id, "(7, 7)", seen=((1, 1), (128, 96)))], options)
    assert good.hit.tolist() == [1.0]


def test_the_distance_of_several_points_is_their_mean(make_sample):
    sample = make_sample((32, 24))
    x, y = 32.5 / 64, 24.5 / 48
    scores = score([sample], [Prediction(sample.id, f"[({x + 0.1}, {y}), ({x - 0.3}, {y})]")])
    assert scores.l2[0] == pytest.approx(0.2)


def test_bars_are_shown_when_asked_for(make_sample, capsys):
    sample = make_sample((3, 3))
    score([sample], [], progress=True)
    assert "raw masks" in capsys.readouterr().err
    score([sample], [])
    assert capsys.readouterr().err == ""


def test_a_raw_truth_is_not_excused_by_the_dilated_mask(make_sample):
    """The truth must hit the mask that it was drawn from, whichever other mask it hits."""
    everywhere, nowhere = np.ones((48, 64), bool), np.zeros((48, 64), bool)
    nowhere[0, 0] = True
    sample = make_sample((3, 3), mask=nowhere, dilated=everywhere, gt_mask="raw")
    with pytest.raises(ValueError, match=r"1 true point\(s\) miss their own mask, .*s00000 \(raw\)"):
        score([sample], [])
