import io
import math
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile
from roborefer_spatial.answers import format_points, parse
from roborefer_spatial.images import ConcatMap, concat, decode, mark, pixel_center, pixel_of, probe, read_rgb, to_rgb

side = st.integers(1, 4096)
size = st.tuples(side, side)


def png(array, mode=None) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array, mode).save(stream, "PNG")
    return stream.getvalue()


def test_pixel_centers_by_hand():
    assert pixel_center(0, 0, (4, 2)) == (0.125, 0.25)
    assert pixel_center(3, 1, (4, 2)) == (0.875, 0.75)
    assert pixel_of(0.875, 0.75, (4, 2)) == (3, 1)
    assert pixel_of(0.25, 0.0, (4, 2)) == (1, 0)  # the left edge belongs to the pixel


@pytest.mark.parametrize("point", [(1.0, 0.5), (0.5, 1.0), (-1e-9, 0.5), (float("nan"), 0.5), (0.5, float("inf"))])
def test_a_point_outside_has_no_pixel(point):
    assert pixel_of(*point, (640, 480)) is None


def test_the_last_float_below_one_is_the_last_pixel():
    assert pixel_of(np.nextafter(1, 0), np.nextafter(1, 0), (4095, 3)) == (4094, 2)


@given(size, st.data())
def test_every_pixel_survives_text(size_wh, data):
    pixel = tuple(data.draw(st.integers(0, side - 1)) for side in size_wh)
    parsed = parse(format_points([pixel_center(*pixel, size_wh)], size_wh))
    assert pixel_of(*parsed.points[0], size_wh) == pixel


def test_concat_of_equal_sizes_is_the_notes_formula():
    frame = ConcatMap((640, 480), (640, 480))
    assert frame.right_to_full(0.5, 0.25) == (0.75, 0.25)
    assert frame.left_to_full(0.5, 0.25) == (0.25, 0.25)
    assert (frame.scale, frame.offset) == ((0.5, 1.0), (0.5, 0.0))


def test_concat_of_unequal_sizes_by_hand():
    # A is 2x4, B is 6x2: the whole is 8x4 and B fills columns 2..7 of rows 0..1
    frame = ConcatMap((2, 4), (6, 2))
    assert frame.size_wh == (8, 4)
    assert frame.right_to_full(0.5, 0.5) == ((2 + 3) / 8, 1 / 4)
    assert frame.right_pixel(*pixel_center(2, 0, (8, 4))) == (0, 0)
    assert frame.right_pixel(*pixel_center(1, 0, (8, 4))) is None  # A
    assert frame.right_pixel(*pixel_center(7, 2, (8, 4))) is None  # padding below B
    assert frame.right_pixel(1.0, 0.1) is None  # outside


@given(size, size, st.data())
def test_concat_maps_invert(left, right, data):
    frame = ConcatMap(left, right)
    x, y = (data.draw(st.floats(0, 1, exclude_max=True)) for _ in range(2))
    back = frame.full_to_right(*frame.right_to_full(x, y))
    np.testing.assert_allclose(back, (x, y), atol=1e-9 * max(frame.size_wh))
    whole = np.add(np.multiply(frame.scale, (x, y)), frame.offset)  # the affine map that the JSON states
    np.testing.assert_allclose(whole, frame.right_to_full(x, y), atol=1e-12)


@given(size, size, st.data())
def test_every_pixel_of_b_survives_the_whole_frame_and_text(left, right, data):
    frame = ConcatMap(left, right)
    pixel = tuple(data.draw(st.integers(0, side - 1)) for side in right)
    full = frame.right_to_full(*pixel_center(*pixel, right))
    written = parse(format_points([full], frame.size_wh)).points[0]
    assert frame.right_pixel(*written) == pixel


@given(size, size)
def test_concat_json_round_trip(left, right):
    assert ConcatMap.from_json(ConcatMap(left, right).to_json()) == ConcatMap(left, right)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"left_size": [4, 3]}, "expected an object with left_size and right_size"),
        ([1, 2], "expected an object with left_size and right_size"),
        ({"left_size": [4, 0], "right_size": [4, 3]}, r"row 3: left_size is \[width, height\] in pixels"),
        ({"left_size": [4, 3], "right_size": [4.0, 3]}, "right_size is"),
        ({"left_size": [4, 3], "right_size": [4, 3], "scale": [1, 1]}, "scale .* contradicts the sizes"),
        ({"left_size": [4, 3], "right_size": [4, 3], "offset": [0, 0]}, "offset .* contradicts the sizes"),
    ],
)
def test_bad_concat_json(value, message):
    with pytest.raises(ValueError, match=message):
        ConcatMap.from_json(value, where="row 3")


def test_concat_image_places_pixels_where_the_map_says():
    rng = np.random.default_rng(0)
    left, right = (rng.integers(1, 256, (h, w, 3), dtype=np.uint8) for h, w in ((4, 2), (2, 6)))
    whole = concat(left, right)
    frame = ConcatMap((2, 4), (6, 2))
    assert whole.shape == (4, 8, 3)
    np.testing.assert_array_equal(whole[:, :2], left)
    assert (whole[2:, 2:] == 0).all()
    for row in range(2):
        for col in range(6):
            full = pixel_of(*frame.right_to_full(*pixel_center(col, row, (6, 2))), frame.size_wh)
            np.testing.assert_array_equal(whole[full[1], full[0]], right[row, col])


def test_mark_blends_red_inside_only():
    image = np.full((2, 2, 3), 100, dtype=np.uint8)
    mask = np.array([[True, False], [False, False]])
    marked = mark(image, mask, 0.45)
    assert marked[0, 0].tolist() == [170, 55, 55]  # round(0.55 * 100 + 0.45 * (255, 0, 0)): 169.75, 55, 55
    np.testing.assert_array_equal(marked[mask == 0], image[mask == 0])
    assert (image == 100).all()


@pytest.mark.parametrize("alpha", [0.1, 0.45, 1.0])
def test_mark_agrees_with_floating_point(alpha):
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mask = np.random.default_rng(2).random((16, 16)) > 0.5
    tinted = (1 - alpha) * image + alpha * np.array([255.0, 0, 0])
    expected = np.where(mask[..., None], np.floor(tinted + 0.5), image)
    np.testing.assert_array_equal(mark(image, mask, alpha), expected)


def test_mark_refuses_other_sizes_and_opacities():
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="mask is 4x6, image is 6x4"):
        mark(image, np.zeros((6, 4), dtype=bool), 0.5)
    for alpha in (0.0, -1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="expected 0 < alpha <= 1"):
            mark(image, np.zeros((4, 6), dtype=bool), alpha)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_colour_modes_become_rgb(mode):
    grey = np.random.default_rng(3).integers(0, 2, (5, 7), dtype=np.uint8) * 255
    image = Image.fromarray(grey).convert(mode)
    rgb = to_rgb(image, "x.png")
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=-1))


def test_16_bit_pictures_are_refused():
    data = png(np.full((4, 4), 40_000, dtype=np.uint16))
    for call in (lambda: to_rgb(decode(data, "deep.png"), "deep.png"), lambda: probe(data, "deep.png")):
        with pytest.raises(ValueError, match=r"deep.png: mode 'I.*' is not an 8-bit colour image"):
            call()


def test_probe_reads_the_size_of_a_sound_file():
    array = np.zeros((5, 9, 3), dtype=np.uint8)
    assert probe(png(array), "x.png") == (9, 5)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG")
    assert probe(stream.getvalue(), "x.png") == (9, 5)


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_probe_finds_cut_and_damaged_files(kind, tolerant, monkeypatch):
    """Also where another library (RoboRefer, lmms-eval) has told Pillow to accept cut files."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, kind)
    data = stream.getvalue()
    with pytest.raises(ValueError, match=r"a\.png: not a readable image"):
        probe(data[: len(data) // 2], "a.png")
    if kind == "PNG":
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        with pytest.raises(ValueError, match=r"a\.png: not a readable image"):
            probe(bytes(flipped), "a.png")
    assert tolerant is ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_rubbish_is_named(data, tmp_path):
    path = tmp_path / "01_f_original.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"01_f_original\.png: not a readable image"):
        read_rgb(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png: cannot be read: "):
        read_rgb(tmp_path / "gone.png")


@pytest.mark.parametrize("kind, size", [(b"tRNS", 1), (b"pHYs", 1), (b"iCCP", 0)])
def test_chunks_that_pillow_stumbles_over_are_named(kind, size, tmp_path):
    """Pillow raises struct.error or IndexError for them."""
    data = png(np.zeros((4, 4, 3), np.uint8))
    chunk = struct.pack(">I", size) + kind + bytes(size) + struct.pack(">I", zlib.crc32(kind + bytes(size)))
    path = tmp_path / "x.png"
    path.write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(ValueError, match=r"x\.png: not a readable image"):
        read_rgb(path)


def test_the_last_number_below_one_is_in_the_last_pixel():
    last = math.nextafter(1, 0)
    for width in (*range(1, 5000), 2**20 - 1, 2**20, 2**20 + 1, 2**31 - 1):
        assert pixel_of(last, last, (width, width)) == (width - 1, width - 1)


def test_an_image_that_would_take_all_memory_is_refused(tmp_path):
    data = png(np.zeros((4, 4, 3), np.uint8))
    header = b"IHDR" + struct.pack(">II", 48, 1_500_000) + data[24:29]
    path = tmp_path / "x.png"
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    for read in (read_rgb, lambda path: probe(path.read_bytes(), path)):
        with pytest.raises(
            ValueError, match=r"x\.png: not a readable image: 48x1500000 pixels, expected at most 67108864"
        ):
            read(path)
