import numpy as np
import pypcd4
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mapanything_opv2v import rawdata
from mapanything_opv2v.rawdata import pcd

XYZ = np.array([[1.5, -2.25, 0.125], [100, 0, -3], [0.1, 0.2, 0.3]], np.float32)


def header(points, form, fields="x y z", sizes="4 4 4", kinds="F F F", counts="1 1 1"):
    return (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE {sizes}\nTYPE {kinds}\nCOUNT {counts}\n"
        f"WIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {form}\n"
    ).encode()


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("fields", [("x", "y", "z"), ("x", "y", "z", "intensity")])
def test_files_of_another_writer(tmp_path, encoding, fields):
    path = tmp_path / "a.pcd"
    rng = np.random.default_rng(1)
    points = rng.normal(0, 30, (500, len(fields))).astype(np.float32)
    types = [np.float32] * len(fields)
    pypcd4.PointCloud.from_points(points, fields, types).save(path, pypcd4.Encoding(encoding))
    cloud = rawdata.load_pcd(path)
    assert cloud.xyz.dtype == np.float32
    np.testing.assert_allclose(cloud.xyz, points[:, :3], rtol=1e-5)
    if "intensity" in fields:
        np.testing.assert_allclose(cloud.intensity, points[:, 3], rtol=1e-5)
    else:
        assert cloud.intensity is None


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_other_types_and_orders(tmp_path, encoding):
    path = tmp_path / "a.pcd"
    columns = [
        np.array([3, 1, 2], np.uint16),
        np.array([0.5, -1.0, 7.25]),
        np.array([1, 2, 3], np.float32),
        np.array([-4, 5, 6], np.int32),
    ]
    types = [c.dtype for c in columns]
    pypcd4.PointCloud.from_points(columns, ("ring", "z", "x", "y"), types).save(path, pypcd4.Encoding(encoding))
    cloud = rawdata.load_pcd(path)
    assert cloud.xyz.tolist() == [[1, -4, 0.5], [2, 5, -1], [3, 6, 7.25]]


def test_intensity_of_opv2v_is_the_red_channel(tmp_path):
    path = tmp_path / "a.pcd"
    rawdata.save_pcd(path, rawdata.PointCloud(XYZ, np.array([0, 0.5, 1], np.float32)))
    cloud = rawdata.load_pcd(path)
    assert np.array_equal(cloud.xyz, XYZ)
    assert np.abs(cloud.intensity - [0, 0.5, 1]).max() <= 0.501 / 255
    read = pypcd4.PointCloud.from_path(path)  # another reader agrees
    assert np.array_equal(read.numpy(("x", "y", "z")), XYZ)
    assert pypcd4.PointCloud.decode_rgb(read.pc_data["rgb"])[:, 0].tolist() == [0, 128, 255]


def test_points_that_are_not_finite_are_left_out(tmp_path):
    path = tmp_path / "a.pcd"
    rawdata.save_pcd(path, rawdata.PointCloud(np.array([[1, 2, np.nan], [1, 2, 3]], np.float32), None))
    cloud = rawdata.load_pcd(path)
    assert cloud.xyz.tolist() == [[1, 2, 3]] and len(cloud.intensity) == 1


def test_padding_fields_and_missing_count_line(tmp_path):
    path = tmp_path / "a.pcd"
    table = np.zeros(2, [("x", "<f4"), ("a", "V4"), ("y", "<f4"), ("z", "<f4"), ("b", "V8")])
    table["x"], table["y"], table["z"] = [1, 2], [3, 4], [5, 6]
    text = header(2, "binary", "x _ y z _", "4 1 4 4 2", "F U F F U", "1 4 1 1 4")
    path.write_bytes(text + table.tobytes())
    assert rawdata.load_pcd(path).xyz.tolist() == [[1, 3, 5], [2, 4, 6]]
    path.write_bytes(header(1, "ascii").replace(b"COUNT 1 1 1\n", b"") + b"1 2\t3\n")
    assert rawdata.load_pcd(path).xyz.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("form", ["ascii", "binary", "binary_compressed"])
def test_an_empty_sweep(tmp_path, form):
    path = tmp_path / "a.pcd"
    path.write_bytes(header(0, form) + (b"\0" * 8 if form == "binary_compressed" else b""))
    assert rawdata.load_pcd(path).xyz.shape == (0, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello\n", "not a PCD file: no DATA line"),
        (b"\x89PNG" + bytes(9000), "not a PCD file"),
        (header(3, "binary") + bytes(35), "truncated: 35 bytes of points, expected 36"),
        (header(3, "ascii") + b"1 2 3\n", "1 lines of points, POINTS says 3; truncated?"),
        (header(1, "ascii") + b"1 2\n", "ASCII points do not fit the header"),
        (header(1, "ascii") + b"1 2 x\n", "ASCII points do not fit the header"),
        (header(1, "base64"), "DATA base64: expected ascii, binary or binary_compressed"),
        (header(10**12, "binary"), "POINTS 1000000000000: expected 0 to"),
        (header(-1, "binary"), "POINTS -1: expected 0 to"),
        (
            header(40_000_000, "binary", "x y z a", "4 4 4 8", "F F F F", "1 1 1 4096"),
            "expected at most 1073741824 bytes",
        ),
        (header(1, "binary", "x y w") + bytes(12), "expected x, y and z"),
        (header(1, "binary", "x y z z", "4 4 4 4", "F F F F", "1 1 1 1"), "field 'z' appears twice"),
        (header(1, "binary", "x y z", "4 4 3"), "field 'z': TYPE F SIZE 3 COUNT 1 is not PCD"),
        (header(1, "binary", "x y z", counts="1 1 2"), "field 'z': COUNT 2, expected 1"),
        (
            header(1, "binary", "x y z rgb", "4 4 4 8", "F F F F", "1 1 1 1"),
            "field 'rgb': SIZE 8, expected 4",
        ),
        (header(1, "binary", "x y z", "4 4"), "differ in length"),
        (header(1, "binary", counts="1 1 q"), "malformed PCD header"),
        (header(2, "binary_compressed") + bytes(4), "truncated or inconsistent"),
        (
            header(2, "binary_compressed") + b"\x04\0\0\0\x18\0\0\0\xff\xff\xff\xff",
            "damaged compressed points",
        ),
    ],
)
def test_bad_files_are_named_with_their_fault(tmp_path, data, message):
    path = tmp_path / "000069.pcd"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"000069.pcd: .*{message}"):
        rawdata.load_pcd(path)


def test_a_sweep_too_large_for_memory_is_refused_before_reading(monkeypatch, tmp_path):
    monkeypatch.setattr(pcd, "MAX_POINTS", 2)
    path = tmp_path / "a.pcd"
    rawdata.save_pcd(path, rawdata.PointCloud(XYZ, None))
    with pytest.raises(ValueError, match="POINTS 3: expected 0 to 2"):
        rawdata.load_pcd(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["ascii", "binary", "binary_compressed"]), st.integers(0, 20))
def test_any_rubbish_after_the_header_is_read_or_refused(tmp_path, body, form, points):
    path = tmp_path / "a.pcd"
    path.write_bytes(header(points, form) + body)
    try:
        assert rawdata.load_pcd(path).xyz.shape[1] == 3
    except ValueError as error:
        assert "a.pcd" in str(error)
