from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from evaluation_cases import perfect, pose
from mapanything_opv2v.exports import ExportOptions, cloud, export_file, export_frame
from mapanything_opv2v.predictions import FrameMeta, save_predictions
from plyfile import PlyData
from pypcd4 import PointCloud


@pytest.fixture
def frame():
    return perfect(np.random.default_rng(1), views=2)


def expected_cloud(frame):
    """Kept points in view 0's camera, one pixel at a time."""
    points, colors = [], []
    for view, row, column in np.argwhere(frame.mask):
        local = frame.range_m[view, row, column] * frame.rays[view, row, column]
        world = frame.pose_world_cam_pred[view] @ [*local, 1]
        points.append((np.linalg.inv(frame.pose_world_cam_pred[0]) @ world)[:3])
        colors.append(frame.image[view, row, column])
    return np.array(points), np.array(colors)


def test_a_cloud_by_hand(frame):
    """One pixel straight ahead of view 1, which stands 1 m to the right of view 0; the world is elsewhere."""
    cylinder = frame.meta.cylinder
    mask = np.zeros(frame.mask.shape, dtype=bool)
    mask[1, 4, 16] = True
    moved = pose((0, 0, 90), (7, 7, 7))
    poses = np.stack([moved, moved @ pose(xyz=(1, 0, 0))])
    frame = dataclasses.replace(frame, mask=mask, pose_world_cam_pred=poses)
    xyz, rgb = cloud(frame, ExportOptions())
    np.testing.assert_allclose(xyz, [np.array([1, 0, 0]) + frame.range_m[1, 4, 16] * cylinder.rays()[4, 16]], rtol=1e-5)
    assert rgb.tolist() == [frame.image[1, 4, 16].tolist()]


def test_every_cloud_file_holds_the_same_points(frame, tmp_path):
    written = export_frame(frame, tmp_path, ExportOptions(kinds=("pcd", "ply", "npy")))
    stem = tmp_path / "test" / "town" / "000001_agent5"
    assert written == [stem.with_suffix(suffix) for suffix in (".pcd", ".ply", ".npy")]
    points, colors = expected_cloud(frame)

    vertices = PlyData.read(stem.with_suffix(".ply"))["vertex"]
    np.testing.assert_allclose(np.stack([vertices[axis] for axis in "xyz"], axis=1), points, atol=1e-4)
    assert np.array_equal(np.stack([vertices[c] for c in ("red", "green", "blue")], axis=1), colors)

    pcd = PointCloud.from_path(stem.with_suffix(".pcd"))
    np.testing.assert_allclose(pcd.numpy(("x", "y", "z")), points, atol=1e-4)
    packed = pcd.pc_data["rgb"].astype(np.uint32)
    assert np.array_equal(np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1), colors)

    table = np.load(stem.with_suffix(".npy"))
    assert table.dtype == np.float32
    np.testing.assert_allclose(table[:, :3], points, atol=1e-4)
    np.testing.assert_allclose(table[:, 3:] * 255, colors, atol=1e-3)


def test_depth_and_masks_of_panoramas(frame, tmp_path):
    export_frame(frame, tmp_path, ExportOptions(kinds=("depth", "mask"), max_range_m=20))
    for view, agent in enumerate((5, 6)):
        stem = tmp_path / "test" / "town" / f"000001_agent5_agent{agent}_panorama"
        ranges, keep = np.load(f"{stem}_range.npy"), frame.mask[view] & (frame.range_m[view] <= 20)
        assert ranges.dtype == np.float32 and np.array_equal(ranges, np.where(keep, frame.range_m[view], 0))
        mask = cv2.imread(f"{stem}_mask.png", cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(mask, frame.mask[view] * np.uint8(255))


def test_pinhole_depth_is_z(frame, tmp_path):
    meta = FrameMeta(split="test", sequence="town", frame="1", layout="pinhole", agents=(5, 5), cameras=(0, 3))
    frame = dataclasses.replace(frame, meta=meta)
    assert len(export_frame(frame, tmp_path, ExportOptions(kinds=("depth",), masked=False))) == 2
    depth = np.load(tmp_path / "test" / "town" / "1_agent5_agent5_camera3_depth_z.npy")
    np.testing.assert_allclose(depth, frame.range_m[1] * frame.rays[1, ..., 2])


def test_a_file_is_exported_like_its_frame(frame, tmp_path):
    path = save_predictions(tmp_path, frame)
    assert export_file(path, tmp_path / "out", ExportOptions()) == 7  # 2 depths, 2 masks, 3 clouds
    assert len(list((tmp_path / "out").rglob("*.*"))) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ("obj",)}, r"export \['obj'\]: expected some of depth, mask, pcd, ply, npy"),
        ({"kinds": ()}, "expected some of"),
        ({"max_range_m": 0}, "max_range_m=0: expected a positive number"),
    ],
)
def test_wrong_options(changes, message):
    with pytest.raises(ValueError, match=message):
        ExportOptions(**changes)
