import io

import numpy as np
from mapanything_opv2v import pictures
from mapanything_opv2v.panorama import Panorama
from PIL import Image


def test_ranges_go_from_red_to_blue_and_nothing_stays_dark():
    ranges = np.array([[0, 2, 14, 100, 1e5, -1]], np.float32)
    nothing, near, middle, far, farther, sky = pictures.color_ranges(ranges)[0].astype(int)
    assert tuple(nothing) == pictures.NOTHING_RGB and tuple(sky) == pictures.SKY_RGB
    assert near[0] > near[2] and middle[1] > max(middle[0], middle[2]) * 0.9 and np.array_equal(far, farther)
    assert far[2] > far[1]


def test_errors_go_from_black_to_white():
    black, white, unknown = pictures.color_errors(np.array([[0, 5.0, 0]]), np.array([[True, True, False]]))[0]
    assert tuple(black) == (0, 0, 0) and tuple(white) == (255, 255, 255) and tuple(unknown) == (20, 24, 48)


def test_masks_have_their_colours():
    def mask(*on):
        return np.array([[k in on for k in range(5)]])

    made = Panorama(np.zeros((1, 5, 3), np.uint8), None, mask(1, 2, 3, 4), mask(3, 4), mask(2), mask(4))
    expected = [
        pictures.NOTHING_RGB,
        pictures.COLOR_ONLY_RGB,
        pictures.SKY_RGB,
        pictures.RANGE_RGB,
        pictures.FILLED_RGB,
    ]
    assert [tuple(pixel) for pixel in pictures.color_masks(made)[0].tolist()] == expected


def test_sheets_stack_labels_and_pictures_losslessly():
    picture = np.random.default_rng(0).integers(0, 256, (10, 200, 3), dtype=np.uint8)
    sheet = pictures.sheet([("first", picture), ("second", picture[:4])])
    assert sheet.shape == (24 + 10 + 24 + 4, 200, 3)
    assert np.array_equal(sheet[24:34], picture) and sheet[:24].min() < 100 < sheet[:24].max()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(pictures.encode_png(sheet)))), sheet)
