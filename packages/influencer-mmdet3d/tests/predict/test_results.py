"""What predict writes is what is read again, by this package and by plyfile; and the page holds it all."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from influencer_mmdet3d import read_predictions
from influencer_mmdet3d.data.clouds import Cloud
from influencer_mmdet3d.predict import results
from influencer_mmdet3d.predict.page import write_page
from influencer_mmdet3d.predict.results import (
    boxes,
    collect,
    instance_colours,
    listed,
    per_class,
    write_coloured,
    write_predictions,
)
from influencer_mmdet3d.predict.stitch import Piece

plyfile = pytest.importorskip("plyfile")
UTM = np.array([500_000.0, 5_400_000.0, 300.0])
XYZ = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 1], [3, 0, 2]])


@pytest.fixture
def found():
    """Point 1 lies in both instances and belongs to the better one; point 3 lies in none."""
    pieces = [Piece(0, np.array([0, 1]), 1, 0.2), Piece(0, np.array([1, 2]), 0, 0.9)]
    return collect(pieces, 4, ["chair", "table"], np.array([0, 1, 1, -1]), ["chair", "table"])


def test_order_masks_and_best_instance_by_hand(found):
    assert found.scores == pytest.approx([0.9, 0.2]) and found.labels.tolist() == [0, 1]
    assert found.masks.tolist() == [[False, True, True, False], [True, True, False, False]]
    assert found.instance_of_points().tolist() == [1, 0, 0, -1]
    assert found.instance_of_points(0.5).tolist() == [-1, 0, 0, -1]
    assert per_class(found, 0.5) == {"chair": 1} and per_class(found, 0) == {"chair": 1, "table": 1}
    first = listed(found, boxes(found, XYZ))[0]
    assert first == {
        "instance": 0, "class": "chair", "score": 0.9, "points": 2, "low": [1, 0, 0], "high": [2, 0, 1],
    }  # fmt: skip


def test_npz_is_read_again(found, tmp_path):
    write_predictions(tmp_path / "instances.npz", found)
    again = read_predictions(tmp_path / "instances.npz")
    assert (again.masks == found.masks).all() and len(again) == 2
    assert again.class_names == ("chair", "table") and again.semantic.tolist() == [0, 1, 1, -1]
    np.testing.assert_array_equal(again.scores, found.scores)


def test_nothing_found_is_read_again(tmp_path):
    empty = collect([], 4, ["chair"], np.full(4, -1), [])
    write_predictions(tmp_path / "instances.npz", empty)
    again = read_predictions(tmp_path / "instances.npz")
    assert again.masks.shape == (0, 4) and again.instance_of_points().tolist() == [-1] * 4
    write_coloured(tmp_path / "a.ply", Cloud(XYZ, None), again, 0)
    assert '"instances":[]' in page_of("a", Cloud(XYZ, None), again, 0, 10)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist; expected the instances.npz"):
        read_predictions(tmp_path / "instances.npz")
    (tmp_path / "instances.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"is no readable \.npz"):
        read_predictions(tmp_path / "instances.npz")
    np.savez(tmp_path / "instances.npz", count=3)
    with pytest.raises(ValueError, match="was not written by predict: it has no indices, starts"):
        read_predictions(str(tmp_path / "instances.npz"))


@pytest.mark.parametrize(("origin", "kind"), [(0 * UTM, "f4"), (UTM + 1e-4, "f8")])
def test_ply_keeps_coordinates_exactly(found, tmp_path, origin, kind):
    write_coloured(tmp_path / "a.ply", Cloud(XYZ + origin, None), found, 0.5)
    vertex = plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    assert vertex.data.dtype["x"] == np.dtype(f"<{kind}")
    np.testing.assert_array_equal(np.stack([vertex[axis] for axis in "xyz"], 1), XYZ + origin)
    assert vertex["instance"].tolist() == [-1, 0, 0, -1] and vertex["class"].tolist() == [-1, 0, 0, -1]
    assert vertex["score"] == pytest.approx([0, 0.9, 0.9, 0])
    colours = np.stack([vertex[name] for name in ("red", "green", "blue")], 1)
    assert colours[0].tolist() == [128] * 3 and colours[1].tolist() == instance_colours(1)[0].tolist()


def page_data(page):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S).group(1))


def page_of(name, cloud, found, least, most):
    return write_page(name, cloud.points(), found, boxes(found, cloud.xyz), least, most)


def test_page_holds_the_points(found):
    colour = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    page = page_of("</script><b>", Cloud(XYZ, colour), found, 0.5, 100)
    assert "</script><b>" not in page and "&lt;/script&gt;&lt;b&gt;" in page
    assert not re.search(r"https?://(?!www.w3.org)|src=|__[A-Z]+__", page), "no network, no place left unfilled"
    data = page_data(page)
    assert data["count"] == data["total"] == 4 and data["least"] == 0.5
    read = {name: base64.b64decode(data[name]) for name in ("xyz", "rgb", "instance", "semantic")}
    xyz = np.frombuffer(read["xyz"], "<u2").reshape(-1, 3) * data["step"]
    order = np.argsort(xyz[:, 0])
    np.testing.assert_allclose(xyz[order], XYZ, atol=data["step"])
    assert np.frombuffer(read["instance"], "<i4")[order].tolist() == [1, 0, 0, -1]
    assert np.frombuffer(read["semantic"], "<i2")[order].tolist() == [0, 1, 1, -1]
    assert np.frombuffer(read["rgb"], np.uint8).reshape(-1, 3)[order].tolist() == colour.tolist()
    assert data["instances"] == [[0, 0.9, 2, [1, 0, 1]], [1, 0.2, 2, [1, 0, 0]]]


def test_page_of_a_large_cloud_holds_a_sample(found):
    large = collect([Piece(0, np.arange(500), 0, 0.5)], 1000, ["chair"], np.zeros(1000, np.int64), ["chair"])
    page = page_of("large", Cloud(np.random.default_rng(0).uniform(0, 9, (1000, 3)), None), large, 0, 100)
    data = page_data(page)
    assert (data["count"], data["total"]) == (100, 1000) and "random sample of 100 points" in page
    inside = np.frombuffer(base64.b64decode(data["instance"]), "<i4") == 0
    assert 30 < inside.sum() < 70


def test_a_ply_is_written_in_parts_and_names_need_no_ascii(found, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_PART", 3)
    write_coloured(tmp_path / "a.ply", Cloud(XYZ, None), replace(found, class_names=("椅子", "table")), 0)
    read = plyfile.PlyData.read(str(tmp_path / "a.ply"))
    assert read["vertex"]["x"].tolist() == [0, 1, 2, 3] and read["vertex"]["instance"].tolist() == [1, 0, 0, -1]
    assert read.comments == [r"class 0: \u6905\u5b50", "class 1: table"]


def test_collecting_does_not_hold_the_points_twice():
    pieces = [Piece(0, np.array([0, 1], np.int32), 1, 0.2), Piece(0, np.array([1, 2, 3], np.int32), 0, 0.9)]
    found = collect(pieces, 4, ["chair", "table"], np.zeros(4, np.int16), [])
    assert not pieces and found.indices.dtype == np.int32
    assert [found.points_of(k).tolist() for k in range(2)] == [[1, 2, 3], [0, 1]]
