import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from roborefer_spatial.tasks.png import encode_png


@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_pillow_reads_back_what_was_written(width, height, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = encode_png(image)
    with Image.open(io.BytesIO(data)) as opened:
        assert (opened.format, opened.mode, opened.size) == ("PNG", "RGB", (width, height))
        opened.verify()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


def test_a_view_that_is_not_contiguous_is_written_right():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    crop = image[3:17:2, 5:25]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(crop)))), crop)


def test_smooth_pictures_shrink():
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    assert len(encode_png(ramp)) < ramp.size / 50


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3, 2), np.uint8),
    ],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match=r"expected an \(h, w, 3\) uint8 array with pixels, got"):
        encode_png(image)
