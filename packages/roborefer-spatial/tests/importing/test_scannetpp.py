import dataclasses
import json

import cv2
import numpy as np
import pytest
import scannetpp_rooms
from PIL import Image
from roborefer_spatial.importing import layouts, scannetpp, scans
from roborefer_spatial.importing.recording import read_color, read_depth, read_labels
from roborefer_spatial.importing.scene_writer import ImportOptions, write_scene
from roborefer_spatial.synthetic import furniture, rooms, tree
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import BuildOptions

SEED = 5
EVERYTHING = ImportOptions(min_visible=0, min_size=0, dilate=0.016)


@pytest.fixture(autouse=True)
def rooms_of_boxes(monkeypatch):
    """Give all cameras of a room one focal length, and furnish it with boxes only."""
    several = tree.cameras

    def cameras(*arguments):
        seats = several(*arguments)
        return [dataclasses.replace(seat, focal_px=seats[0].focal_px) for seat in seats]

    monkeypatch.setattr(tree, "cameras", cameras)
    monkeypatch.setattr(rooms, "KINDS", {name: furniture.KINDS[name] for name in scannetpp_rooms.BOXES})


@pytest.fixture
def true_tree(tmp_path):
    root = tmp_path / "true"
    tree.write_scenes(root, scenes=2, seed=SEED, size_wh=scannetpp_rooms.SIZE_WH, splits=("val",))
    return root / "val"


def files_of(folder):
    kinds = ("original", "mask", "mask_dialated")
    return {p.relative_to(folder).as_posix(): p for kind in kinds for p in folder.glob(f"uid_*/*_{kind}.png")}


@pytest.mark.parametrize(("number", "device", "depth"), [(0, "iphone", False), (1, "dslr", False), (0, "iphone", True)])
def test_rooms_exported_as_scannetpp_come_back_as_the_generators_tree(tmp_path, true_tree, number, device, depth):
    folder = scannetpp_rooms.export(
        tmp_path / "data", split="val", number=number, seed=SEED, device=device, depth=depth
    )
    ((found, layout),) = layouts.find(tmp_path / "data")
    assert (found, layout) == (folder, f"scannetpp-{device}")
    recording = layouts.load(found, layout, "auto", tmp_path / "data")
    assert (recording.scene, recording.room) == (f"{folder.name}_{device}", folder.name)
    write_scene(recording, tmp_path / "made", "val", EVERYTHING)
    truth, made = files_of(true_tree / folder.name), files_of(tmp_path / "made")
    assert sorted(made) == sorted(truth)
    for name, path in truth.items():
        assert made[name].read_bytes() == path.read_bytes(), name


def test_depth_of_the_mesh_is_that_of_the_ray_caster(tmp_path):
    folder = scannetpp_rooms.export(tmp_path / "data", split="val", number=0, seed=SEED, depth=True)
    measured = layouts.load(folder, "scannetpp-iphone", "auto", tmp_path)
    for frame in measured.frames:
        rendered = read_depth(dataclasses.replace(frame, depth=None), measured)
        gap = np.abs(rendered - read_depth(frame, measured))
        assert np.quantile(gap, 0.999) < 0.0006  # files have whole millimetres


def test_what_stands_before_the_mesh_hides_it(tmp_path):
    folder = scannetpp_rooms.export(tmp_path / "data", split="val", number=0, seed=SEED, depth=True)
    before = layouts.load(folder, "scannetpp-iphone", "auto", tmp_path)
    wh = scannetpp_rooms.SIZE_WH
    shown = [read_labels(frame, before, wh) for frame in before.frames]
    assert sum(labels.any() for labels in shown) >= 2
    for path in (folder / "iphone/depth").iterdir():  # somebody holds a hand before the lens
        Image.fromarray(np.full(wh[::-1], 300, np.uint16)).save(path)
    assert not any(read_labels(frame, before, wh).any() for frame in before.frames)


def test_the_command_takes_both_devices_of_a_room_into_one_split_and_builds(tmp_path):
    data = tmp_path / "data"
    for device in ("iphone", "dslr"):
        scannetpp_rooms.export(tmp_path / device, split="val", number=0, seed=SEED, device=device)
    (tmp_path / "dslr").rename(data)
    (tmp_path / "iphone/room_val_000/iphone").rename(data / "room_val_000/iphone")
    options = ImportOptions(min_visible=0.05, min_size=0.001)
    made = scans.import_scans(data, tmp_path / "x3", options, val_share=1)
    assert [(one.scene, one.split) for one in made] == [("room_val_000_dslr", "val"), ("room_val_000_iphone", "val")]
    build(tmp_path / "x3", BuildOptions(out_dir=tmp_path / "tasks"))
    assert (tmp_path / "tasks/t1_val_multi.jsonl").stat().st_size > 0
    ((folder, layout),) = layouts.find(data / "room_val_000/iphone")
    assert (folder.name, layout) == ("room_val_000", "scannetpp-iphone")
    plain = scans.import_scans(
        data / "room_val_000/iphone", tmp_path / "patches", dataclasses.replace(options, instances="none"), split="val"
    )
    assert plain[0].regions


PINCUSHION, BARREL = (0.12, 0.03, 0.002, -0.003), (-0.12, 0.02, 0.002, -0.003)


@pytest.mark.parametrize(
    ("device", "pictures", "model", "bend"),
    [
        ("dslr", "resized_images", "OPENCV_FISHEYE", (0.03, -0.01, 0.004, -0.001)),
        ("dslr", "resized_images", "OPENCV_FISHEYE", (0, 0, 0, 0)),
        ("iphone", "rgb", "OPENCV", PINCUSHION),
        ("iphone", "rgb", "OPENCV", BARREL),
    ],
)
def test_a_lens_is_straightened_as_opencvs_own_projection_has_it(tmp_path, device, pictures, model, bend):
    folder = tmp_path / "1a2b"
    for name in (f"{device}/{pictures}", f"{device}/colmap", "scans"):
        (folder / name).mkdir(parents=True)
    wh, k = (400, 300), np.array([[180.0, 0, 201], [0, 181, 149], [0, 0, 1]])
    at = np.array([[x, y, 2.0] for x in (-1.2, -0.4, 0.5, 1.3) for y in (-0.8, 0.1, 0.7)])
    opencv_k = k - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]  # to OpenCV a pixel's centre is a whole number
    project = cv2.fisheye.projectPoints if "FISHEYE" in model else cv2.projectPoints
    dots, _ = project(at[:, None], np.zeros(3), np.zeros(3), opencv_k, np.array(bend, float))
    dots = dots.reshape(-1, 2)
    Image.fromarray(np.full((wh[1], wh[0], 3), 200, np.uint8)).save(folder / device / pictures / "DSC00007.JPG")
    lens = " ".join(map(str, (*wh, k[0, 0], k[1, 1], k[0, 2], k[1, 2], *bend)))
    (folder / device / "colmap/cameras.txt").write_text(f"3 {model} {lens}\n")
    (folder / device / "colmap/images.txt").write_text("9 1 0 0 0 0 0 0 3 DSC00007.JPG\n\n")
    scannetpp_rooms.write_ply(folder / "scans" / scannetpp.MESH, *scannetpp_rooms.box((0, 0, 2.0), (2, 2, 1.0)))
    recording = layouts.load(folder, f"scannetpp-{device}", "auto", folder)
    assert [frame.name for frame in recording.frames] == ["000007"]
    assert read_color(recording.frames[0]).min() > 190  # nothing of the straight picture is beyond the bent one
    rows, cols = np.mgrid[: wh[1], : wh[0]].astype(np.float32) + 0.5
    came_from = recording.frames[0].lens.straighten(np.dstack([cols, rows]))
    checked = 0
    for (x, y, z), dot in zip(at, dots):
        col, row = (recording.k_color @ (x, y, z))[:2] / z
        if 1 < col < wh[0] - 1 and 1 < row < wh[1] - 1:
            found = cv2.remap(came_from, np.float32([[col - 0.5]]), np.float32([[row - 0.5]]), cv2.INTER_LINEAR)
            assert found[0, 0] == pytest.approx(dot + 0.5, abs=0.1)
            checked += 1
    assert checked >= 6


def test_arkit_poses_where_there_is_no_colmap(tmp_path):
    folder = scannetpp_rooms.export(tmp_path / "data", split="val", number=0, seed=SEED)
    with_colmap = layouts.load(folder, "scannetpp-iphone", "auto", tmp_path)
    rows = {}
    for frame in with_colmap.frames:
        k = np.diag([12, 12, 1]) @ with_colmap.k_color  # the video has 1920x1440 pixels, these pictures 160x120
        Image.open(frame.color).save(frame.color.with_suffix(".jpg"), quality=100)
        rows[frame.color.stem] = {
            "pose": np.eye(4).tolist(), "aligned_pose": frame.pose.tolist(), "intrinsic": k.tolist()
        }  # fmt: skip
    (folder / "iphone/colmap").rename(folder / "iphone/away")
    with pytest.raises(ValueError, match=r"no colmap/images.txt and no pose_intrinsic_imu.json. nerfstudio/transf"):
        layouts.load(folder, "scannetpp-iphone", "auto", tmp_path)
    (folder / "iphone/pose_intrinsic_imu.json").write_text(json.dumps(rows))
    again = layouts.load(folder, "scannetpp-iphone", "auto", tmp_path)
    assert [frame.name for frame in again.frames] == [frame.name for frame in with_colmap.frames]
    np.testing.assert_allclose(again.k_color, with_colmap.k_color)
    np.testing.assert_allclose(again.frames[0].pose, with_colmap.frames[0].pose)


def test_messages(tmp_path):
    folder = scannetpp_rooms.export(tmp_path / "data", split="val", number=0, seed=SEED)
    cameras = folder / "iphone/colmap/cameras.txt"
    text = cameras.read_text()
    cameras.write_text(text.replace("PINHOLE", "FOV"))
    with pytest.raises(ValueError, match="camera model FOV, expected one of OPENCV_FISHEYE"):
        layouts.load(folder, "scannetpp-iphone", "auto", tmp_path)
    cameras.write_text(text)
    (folder / "scans/segments.json").write_text('{"segIndices": [1, 2]}')
    with pytest.raises(ValueError, match=r"segments.json: 2 vertices, mesh_aligned_0.05.ply has"):
        layouts.load(folder, "scannetpp-iphone", "auto", tmp_path)
    with pytest.raises(ValueError, match="--instances frames needs"):
        layouts.load(folder, "scannetpp-iphone", "frames", tmp_path)
