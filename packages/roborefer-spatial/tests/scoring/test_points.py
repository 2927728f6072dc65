import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from roborefer_spatial.images import ConcatMap, pixel_of
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.points import frames_of, inside_masks, joined, locate, numbered, read_mask

SIDE = st.integers(1, 50)
SIZE = st.tuples(SIDE, SIDE)
# values on pixel edges matter most
COORDINATE = st.one_of(
    st.floats(-2, 3),
    st.builds(lambda n, d: n / d, st.integers(-5, 120), st.integers(1, 100)),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, np.nextafter(1, 0), np.nextafter(0, -1), 1e300, -1e308]),
)


def bare_sample(size_wh, left_wh=None):
    fields = dict.fromkeys(Sample.__struct_fields__)
    fields |= {"query_size": size_wh, "concat": ConcatMap(left_wh, size_wh) if left_wh else None}
    return Sample(**fields)


def find(samples, sample, xy):
    frames, codes = frames_of(samples)
    return locate(frames, codes[sample], sample, xy)


@given(st.lists(st.tuples(SIZE, st.one_of(st.none(), SIZE), COORDINATE, COORDINATE), min_size=1, max_size=6))
def test_many_points_follow_the_rule_for_one(cases):
    samples = [bare_sample(size, left) for size, left, _, _ in cases]
    xy = np.array([(x, y) for _, _, x, y in cases])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = find(samples, np.arange(len(cases)), xy.copy())
    np.testing.assert_array_equal(points.xy, xy)  # as given, also where the query image has another frame
    for i, (size, left, x, y) in enumerate(cases):
        frame = ConcatMap(left, size) if left else None
        expected = frame.right_pixel(x, y) if frame else pixel_of(x, y, size)
        assert bool(points.on_query[i]) == (expected is not None)
        assert tuple(points.pixel[i]) == (expected or (0, 0))
        assert bool(points.inside[i]) == (0 <= x < 1 and 0 <= y < 1)
        if points.inside[i]:
            assert tuple(points.xy_query[i]) == pytest.approx(frame.full_to_right(x, y) if frame else (x, y))


def test_keys_are_numbered_as_they_come():
    numbers, codes = numbered(["b", "a", "b", None, "a"])
    assert list(numbers.items()) == [("b", 0), ("a", 1), (None, 2)]
    assert codes.tolist() == [0, 1, 0, 2, 1]
    assert codes.dtype == np.int64
    with pytest.raises(KeyError):  # looking up another key does not number it
        numbers["c"]
    numbers, codes = numbered([])
    assert (numbers, codes.tolist()) == ({}, [])


def test_masks_by_hand(make_sample):
    a, b = (
        make_sample((3, 2), size_wh=(10, 8)),
        make_sample((0, 0), size_wh=(4, 4), mask=np.ones((4, 4), bool)),
    )
    sample = np.array([0, 0, 1, 1])
    xy = np.array([(0.35, 0.3), (0.45, 0.3), (0.99, 0.99), (1.0, 0.5)])
    points = find([a, b], sample, xy)
    inside, coverage = inside_masks(points, [a, b], [a.mask_path, b.mask_path], workers=2)
    assert inside.tolist() == [True, False, True, False]
    assert coverage.tolist() == [1 / 80, 1.0]
    inside, coverage = inside_masks(points, [a, b], [None, b.mask_path], workers=1, progress="masks")
    assert inside.tolist() == [False, False, True, False]
    assert np.isnan(coverage[0])


def test_a_mask_file_is_read_once_for_all_its_samples(make_sample, monkeypatch):
    samples = [make_sample((3, 2), name="one") for _ in range(5)]
    read = []
    monkeypatch.setattr("roborefer_spatial.scoring.points.read_mask", lambda path: read.append(path) or read_mask(path))
    points = find(samples, np.arange(5), np.full((5, 2), 0.5))
    inside_masks(points, samples, [sample.mask_path for sample in samples], workers=3)
    assert read == [samples[0].mask_path]


def test_mask_of_another_size(make_sample):
    sample = make_sample((3, 2), mask=np.ones((5, 6), bool))
    points = find([sample], np.array([0]), np.array([[0.5, 0.5]]))
    message = f"the mask is 6x5 pixels and the query image of sample {sample.id} is 64x48"
    with pytest.raises(ValueError, match=re.escape(message)):
        inside_masks(points, [sample], [sample.mask_path], workers=1)


def test_the_sample_of_another_size_is_named(make_sample):
    samples = [make_sample((3, 2)), make_sample((3, 2)), make_sample((3, 2), size_wh=(64, 47))]
    points = find(samples, np.arange(3), np.full((3, 2), 0.5))
    with pytest.raises(ValueError, match=re.escape(f"the query image of sample {samples[2].id} is 64x47")):
        inside_masks(points, samples, [samples[0].mask_path] * 3, workers=1)


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_any_value_above_zero_is_inside(tmp_path, value, mode):
    """Plain grey files are read without Pillow, others with it."""
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2] = value
    Image.fromarray(mask).convert(mode).save(tmp_path / "mask.png")
    assert np.argwhere(read_mask(tmp_path / "mask.png")).tolist() == [[1, 2]]


def test_a_turned_mask_is_refused_as_before(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (4, 4)).save(tmp_path / "mask.png", exif=exif)
    with pytest.raises(ValueError, match=r"mask\.png: EXIF orientation 6"):
        read_mask(tmp_path / "mask.png")


def test_missing_and_broken_masks(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png: mask cannot be read: "):
        read_mask(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png: not a readable image"):
        read_mask(tmp_path / "text.png")


@pytest.mark.parametrize("width", [1, 2, 3, 5, 640, 1023, 1024, 1025, 4095, 65537])
def test_the_last_number_below_one_is_in_the_last_pixel(make_sample, width):
    sample = make_sample((0, 0), size_wh=(width, 1), mask=np.ones((1, width), bool))
    found = find([sample], np.zeros(1, np.int64), np.array([[np.nextafter(1, 0), 0.5]]))
    assert found.pixel.tolist() == [[width - 1, 0]] and found.on_query.all()


def test_points_stand_one_after_the_other():
    sample = bare_sample((4, 2))
    first = find([sample], np.zeros(2, np.int64), np.array([[0.1, 0.1], [0.9, 0.9]]))
    second = find([sample], np.zeros(1, np.int64), np.array([[0.3, 2.0]]))
    both = joined(first, second)
    assert both.xy.tolist() == [[0.1, 0.1], [0.9, 0.9], [0.3, 2.0]]
    assert both.inside.tolist() == [True, True, False]
    assert both.pixel.tolist() == [[0, 0], [3, 1], [0, 0]]
    assert both.sample.tolist() == [0, 0, 0]


def test_the_first_row_and_column_beyond_b_are_not_on_it():
    """A is taller and B ends at row 2: the pixel below its last one is padding."""
    sample = bare_sample((4, 2), left_wh=(4, 5))
    on = find([sample], np.zeros(3, np.int64), np.array([[0.75, 1.5 / 5], [0.75, 2.5 / 5], [0.75, 2 / 5]]))
    assert on.on_query.tolist() == [True, False, False]
