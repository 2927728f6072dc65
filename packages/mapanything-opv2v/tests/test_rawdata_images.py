import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapanything_opv2v import rawdata
from mapanything_opv2v.rawdata import images
from PIL import Image

RNG = np.random.default_rng(0)


def test_images_are_rgb(tmp_path):
    pixels = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(rawdata.load_image(tmp_path / "a.png"), pixels)
    assert rawdata.image_size(tmp_path / "a.png") == (8, 6)


def test_depth_npy_is_exact_and_keeps_the_three_kinds_of_pixels(tmp_path):
    depth = np.array([[0, 1.234567, 70.5], [998.9, 1000, -1]], np.float32)
    rawdata.save_depth(tmp_path / "a.npy", depth)
    expected = np.array([[0, 1.234567, 70.5], [998.9, -1, -1]], np.float32)
    loaded = rawdata.load_depth(tmp_path / "a.npy")
    assert loaded.dtype == np.float32 and np.array_equal(loaded, expected)


@settings(max_examples=50)
@given(st.lists(st.floats(0.0078125, 998.5, width=32), min_size=4, max_size=4))
def test_depth_png_rounds_to_a_64th_and_never_overflows(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("png") / "a.png"
    depth = np.array(values, np.float32).reshape(2, 2)
    rawdata.save_depth(path, depth)
    loaded = rawdata.load_depth(path)
    assert (loaded > 0).all()  # a measured pixel stays measured
    assert np.abs(loaded - depth).max() <= 1 / 64


def test_depth_png_keeps_unknown_and_sky(tmp_path):
    rawdata.save_depth(tmp_path / "a.png", np.array([[0.0, -1.0], [2000.0, 65.6]]))
    assert np.abs(rawdata.load_depth(tmp_path / "a.png") - [[0, -1], [-1, 65.6]]).max() < 1 / 64
    assert Image.open(tmp_path / "a.png").text == {"depth_units_per_m": "64"}


def test_a_png_without_scale_needs_one(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[256, 0]], np.uint16))
    with pytest.raises(ValueError, match="states no depth_units_per_m"):
        rawdata.load_depth(tmp_path / "a.png")
    assert rawdata.load_depth(tmp_path / "a.png", png_units_per_m=256).tolist() == [[1, 0]]


def test_doubles_and_a_last_axis_of_one_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.full((2, 3, 1), 5.0))
    loaded = rawdata.load_depth(tmp_path / "a.npy")
    assert loaded.shape == (2, 3) and loaded.dtype == np.float32


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 2), int), r"floats in metres, got int64 \(2, 2\)"),
        (np.ones(3), r"got float64 \(3,\)"),
        (np.ones((2, 2, 3)), r"expected shape \(H, W\) or \(H, W, 1\), got \(2, 2, 3\)"),
        (np.array([[np.nan, 1]]), "1 pixels are NaN; 0 means unknown"),
        (np.array([[object()]]), "not a whole .npy array"),
    ],
)
def test_bad_depth_arrays(tmp_path, array, message):
    path = tmp_path / "d.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"d\.npy: .*{message}"):
        rawdata.load_depth(path)


def test_a_pickle_is_not_executed(tmp_path):
    import pickle

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (tmp_path / "d.npy").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match=r"not a whole .npy array"):
        rawdata.load_depth(tmp_path / "d.npy")
    assert not (tmp_path / "executed").exists()


def test_truncated_files_are_refused(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    rawdata.save_depth(tmp_path / "d.npy", np.ones((60, 80)))
    for name, load in (("a.png", rawdata.load_image), ("d.npy", rawdata.load_depth)):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match=rf"{name}: .*(truncated|not a whole)"):
            load(path)


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((2, 2), np.float32))
    data = (tmp_path / "d.npy").read_bytes().replace(b"(2, 2), }" + b" " * 12, b"(9000000, 9000000), }"[:21])
    (tmp_path / "d.npy").write_bytes(data)
    with pytest.raises(ValueError, match=r"16 bytes for float32 \(9000000, 9000000\); truncated\?"):
        rawdata.load_depth(tmp_path / "d.npy")


def test_damaged_pixels_are_refused(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png: "):
        rawdata.load_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PNG file"),
        (b"GIF89a" + bytes(40), "not a PNG file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "truncated PNG"),
    ],
)
def test_files_that_are_no_png(tmp_path, data, message):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        rawdata.load_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="not a PNG file"):
        rawdata.image_size(tmp_path / "a.png")


def test_an_image_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="4 x 4 pixels, expected at most 10"):
        rawdata.load_image(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["fine", "-3", "0", "nan"])
def test_a_scale_that_is_no_positive_number(tmp_path, text):
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("depth_units_per_m", text)
    Image.fromarray(np.ones((2, 2), np.uint16)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(ValueError, match=r"depth_units_per_m is .*expected a (positive )?number"):
        rawdata.load_depth(tmp_path / "a.png")


def test_other_suffixes_and_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be \.npy \(metres\) or 16-bit \.png, got '\.exr'"):
        rawdata.load_depth(tmp_path / "a.exr")
    with pytest.raises(ValueError, match=r"written as \.npy or \.png, got '\.exr'"):
        rawdata.save_depth(tmp_path / "a.exr", np.ones((2, 2)))
    with pytest.raises(ValueError, match="without NaN, got shape"):
        rawdata.save_depth(tmp_path / "a.npy", np.ones(2))
