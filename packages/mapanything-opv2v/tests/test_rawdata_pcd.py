import dataclasses

import lzf
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


def test_intensity_is_clipped_and_rounded(tmp_path):
    path = tmp_path / "a.pcd"
    given = np.array([-1, 1.5, 100.4 / 255, 100.6 / 255], np.float32)
    rawdata.save_pcd(path, rawdata.PointCloud(np.zeros((4, 3), np.float32), given))
    assert (rawdata.load_pcd(path).intensity * 255).round(3).tolist() == [0, 255, 100, 101]
    assert path.read_bytes().split(b"DATA binary\n")[1][12:16] == bytes(4)  # -1
    assert path.read_bytes().split(b"DATA binary\n")[1][28:32] == bytes([0, 0, 255, 0])  # red is the third byte


def test_colours_come_back_and_another_reader_agrees(tmp_path):
    path = tmp_path / "a.pcd"
    rgb = np.array([[1, 2, 3], [255, 0, 0], [0, 254, 7]], np.uint8)
    pcd.save_colored_pcd(path, XYZ, rgb)
    cloud = rawdata.load_pcd(path)
    assert np.array_equal(cloud.xyz, XYZ) and np.array_equal(cloud.rgb, rgb) and cloud.rgb.dtype == np.uint8
    np.testing.assert_allclose(cloud.intensity, rgb[:, 0] / 255, rtol=1e-6)
    read = pypcd4.PointCloud.from_path(path)
    assert np.array_equal(pypcd4.PointCloud.decode_rgb(read.pc_data["rgb"]), rgb)
    for only, colours in (([9, 0, 0], None), ([9, 1, 0], [9, 1, 0]), ([9, 0, 1], [9, 0, 1])):
        pcd.save_colored_pcd(path, XYZ[:1], np.array([only], np.uint8))
        found = rawdata.load_pcd(path).rgb
        assert found is None if colours is None else found.tolist() == [colours]


def test_colours_of_points_that_are_left_out_go_with_them(tmp_path):
    path = tmp_path / "a.pcd"
    xyz = np.array([[0, 0, np.inf], [1, 2, 3], [np.nan, 0, 0]], np.float32)
    pcd.save_colored_pcd(path, xyz, np.array([[1, 1, 1], [5, 6, 7], [2, 2, 2]], np.uint8))
    cloud = rawdata.load_pcd(path)
    assert cloud.rgb.tolist() == [[5, 6, 7]] and len(cloud.intensity) == 1
    path.write_bytes(header(1, "ascii") + b"1 2 nan\n")
    cloud = rawdata.load_pcd(path)
    assert cloud.xyz.shape == (0, 3) and cloud.intensity is None and cloud.rgb is None


def packed_by_hand(table):
    """The body of a binary_compressed file: field after field, each with all its points."""
    raw = b"".join(np.ascontiguousarray(table[name]).tobytes() for name in table.dtype.names)
    small = lzf.compress(raw)
    return np.array([len(small), len(raw)], "<u4").tobytes() + small


def compressed():
    table = np.zeros(40, [("x", "<f4"), ("normal", "<f4", (3,)), ("y", "<f8"), ("z", "<i2"), ("ring", "u1")])
    count = np.arange(40)
    table["x"], table["y"], table["z"], table["ring"] = count / 4, -count, count - 20, 7
    table["normal"] = [0.25, 0.5, 0.75]
    fields = ("x normal y z ring", "4 4 8 2 1", "F F F I U", "1 3 1 1 1")
    return table, header(40, "binary_compressed", *fields), packed_by_hand(table)


def test_compressed_fields_of_several_numbers(tmp_path):
    table, head, body = compressed()
    path = tmp_path / "a.pcd"
    for extra in (b"", b"something behind it"):
        path.write_bytes(head + body + extra)
        cloud = rawdata.load_pcd(path)
        assert np.array_equal(cloud.xyz, np.stack([table["x"], table["y"], table["z"]], 1).astype(np.float32))
    parsed = pcd._parse_header(head, path)
    read = pcd._read_compressed(body, parsed, path)
    assert all(np.array_equal(read[name], table[name]) for name in table.dtype.names)


def test_compressed_bodies_that_are_cut(tmp_path):
    _, head, body = compressed()
    path = tmp_path / "a.pcd"
    path.write_bytes(head + body[:-1])
    packed = len(body) - 8
    message = f"inconsistent: {packed - 1} of {packed} compressed bytes for 1080 bytes of points, expected 1080"
    with pytest.raises(ValueError, match=message):
        rawdata.load_pcd(path)
    path.write_bytes(head.replace(b"POINTS 40", b"POINTS 41") + body)
    with pytest.raises(ValueError, match="for 1080 bytes of points, expected 1107"):
        rawdata.load_pcd(path)


@pytest.mark.parametrize("kind", ["F4", "F8", "I1", "I2", "I4", "I8", "U1", "U2", "U4", "U8"])
def test_every_type_of_the_format(tmp_path, kind):
    path = tmp_path / "a.pcd"
    code = {"F": "f", "I": "i", "U": "u"}[kind[0]] + kind[1]
    values = np.array([0, 1, 100], f"<{code}")
    if kind[0] != "U":
        values[1] = -1
    table = np.zeros(3, [("x", f"<{code}"), ("y", "<f4"), ("z", "<f4"), ("intensity", f"<{code}")])
    table["x"] = table["intensity"] = values
    size, small = kind[1], kind[0].lower()  # a lower-case type is read, too
    path.write_bytes(header(3, "binary", "x y z intensity", f"{size} 4 4 {size}", f"{small} F F {kind[0]}", "1 1 1 1")
                     + table.tobytes())  # fmt: skip
    cloud = rawdata.load_pcd(path)
    assert cloud.xyz[:, 0].tolist() == values.astype(np.float32).tolist()
    assert cloud.intensity.tolist() == values.astype(np.float32).tolist() and cloud.intensity.dtype == np.float32


def test_colours_packed_as_whole_numbers_or_as_floats(tmp_path):
    path = tmp_path / "a.pcd"
    for kind in "FUI":
        table = np.zeros(1, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
        table["rgb"] = 0x7F112233
        path.write_bytes(header(1, "binary", "x y z rgb", "4 4 4 4", f"F F F {kind}", "1 1 1 1") + table.tobytes())
        cloud = rawdata.load_pcd(path)
        assert cloud.rgb.tolist() == [[0x11, 0x22, 0x33]] and cloud.intensity[0] == pytest.approx(0x11 / 255)


def test_width_times_height_where_there_is_no_points_line(tmp_path):
    path = tmp_path / "a.pcd"
    head = header(6, "binary").replace(b"POINTS 6\n", b"").replace(b"WIDTH 6\nHEIGHT 1", b"WIDTH 2\nHEIGHT 3")
    path.write_bytes(head + np.arange(18, dtype="<f4").tobytes())
    assert rawdata.load_pcd(path).xyz.tolist() == np.arange(18.0).reshape(6, 3).tolist()


def test_limits_of_the_header(tmp_path, monkeypatch):
    path = tmp_path / "a.pcd"
    assert (pcd.MAX_POINTS, pcd.MAX_BYTES) == (50_000_000, 1 << 30)
    assert pcd._parse_header(header(50_000_000, "binary"), path).points == 50_000_000
    with pytest.raises(ValueError, match="POINTS 50000001: expected 0 to 50000000"):
        pcd._parse_header(header(50_000_001, "binary"), path)
    wide = ("x y z a", "4 4 4 8", "F F F F", "1 1 1 4096")
    assert pcd._parse_header(header(0, "binary", *wide), path).dtype.itemsize == 12 + 8 * 4096
    monkeypatch.setattr(pcd, "MAX_BYTES", 36)
    assert pcd._parse_header(header(3, "binary"), path).points == 3
    with pytest.raises(ValueError, match="4 points of 12 bytes: expected at most 36 bytes"):
        pcd._parse_header(header(4, "binary"), path)


def test_the_longest_header(tmp_path):
    """The end of the DATA line is the last byte that is looked at."""
    path = tmp_path / "a.pcd"
    head = header(1, "binary")
    for missing, fits in ((0, True), (1, False)):
        comment = b"#" * (8192 - len(head) - 1 + missing) + b"\n"
        path.write_bytes(comment + head + np.ones(3, "<f4").tobytes())
        if fits:
            assert rawdata.load_pcd(path).xyz.tolist() == [[1, 1, 1]]
        else:
            with pytest.raises(ValueError, match="not a PCD file: no DATA line in its first 8192 bytes"):
                rawdata.load_pcd(path)


@pytest.mark.parametrize(("count", "fits"), [(1, True), (4096, True), (0, False), (4097, False), (-1, False)])
def test_numbers_in_a_field(tmp_path, count, fits):
    head = header(0, "binary", "x y z a", "4 4 4 1", "F F F U", f"1 1 1 {count}")
    if fits:
        assert pcd._parse_header(head, tmp_path).dtype["a"].itemsize == count
    else:
        with pytest.raises(ValueError, match=f"field 'a': TYPE U SIZE 1 COUNT {count} is not PCD"):
            pcd._parse_header(head, tmp_path)


@pytest.mark.parametrize(("fields", "fits"), [(64, True), (65, False)])
def test_how_many_fields(tmp_path, fields, fits):
    more = fields - 3
    words = [" ".join(["x y z", *(f"f{k}" for k in range(more))]), "4 " * fields, "F " * fields, "1 " * fields]
    if fits:
        assert len(pcd._parse_header(header(0, "binary", *words), tmp_path).dtype.names) == 64
    else:
        with pytest.raises(ValueError, match="FIELDS, SIZE, TYPE and COUNT differ in length"):
            pcd._parse_header(header(0, "binary", *words), tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(2, "ascii") + b" \n", "no lines of points, POINTS says 2; truncated"),
        (header(1, "ascii") + b"1 2 3\n4 5 6\n", "2 lines of points, POINTS says 1"),
        (header(1, "binary").replace(b"POINTS 1", b"POINTS"), "malformed PCD header: IndexError"),
        (header(1, "binary").replace(b"TYPE", b"TIPE"), "malformed PCD header: KeyError"),
        (header(1, "binary", "x y z intensity", "4 4 4 4", "F F F F", "1 1 1 2"), "'intensity': COUNT 2, expected 1"),
        (header(1, "binary", "x y z rgb", "4 4 4 4", "F F F F", "1 1 1 3"), "field 'rgb': COUNT 3, expected 1"),
        (header(1, "binary", "x y z rgb", "4 4 4 2", "F F F U", "1 1 1 1"), "'rgb': SIZE 2, expected 4"),
        (header(1, "binary", "x y z", kinds="F F Q"), "field 'z': TYPE Q SIZE 4 COUNT 1 is not PCD"),
        (header(1, "binary", "x y"), "differ in length"),
        (header(1, "binary", "x y z", kinds="F F"), "differ in length"),
        (header(1, "binary", "x y z", counts="1 1"), "differ in length"),
        (header(2, "binary_compressed") + bytes(6), "inconsistent: -2 of 0 compressed bytes"),
    ],
)
def test_more_bad_files(tmp_path, data, message):
    path = tmp_path / "000069.pcd"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"000069.pcd: .*{message}"):
        rawdata.load_pcd(path)


def test_a_damaged_stream_is_called_that(tmp_path):
    path = tmp_path / "a.pcd"
    _, head, body = compressed()
    other = np.zeros(30, [("x", "<f4")])
    wrong = packed_by_hand(other)
    path.write_bytes(head + wrong[:4] + body[4:8] + wrong[8:])  # unpacks to 120 bytes where 1080 are promised
    with pytest.raises(ValueError, match=r"a\.pcd: damaged compressed points"):
        rawdata.load_pcd(path)


def test_a_sweep_does_not_change():
    cloud = rawdata.PointCloud(XYZ, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cloud.xyz = None
    assert cloud.rgb is None


def test_a_header_may_begin_with_a_blank_line(tmp_path):
    path = tmp_path / "a.pcd"
    path.write_bytes(b"\n" + header(1, "ascii") + b"1 2 3\n")
    assert rawdata.load_pcd(path).xyz.tolist() == [[1, 2, 3]]
