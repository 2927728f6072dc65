"""`predict` with the real model from images alone: a tree without depth and LiDAR, and folders of photographs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from mapanything_opv2v import cli, panorama, photographs
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.predictions import list_predictions, load_predictions

SHARED = Path(__file__).parents[5] / "shared/data"  # real data lies beside the repository, if at all
NUSCENES = Path(os.environ.get("NUSCENES_RIG", SHARED / "nuscenes_rig/rig.json"))
REAL = pytest.mark.skipif(not NUSCENES.is_file(), reason=f"no real rig at {NUSCENES.name}: set NUSCENES_RIG to it")

SMALL = {
    "OPV2VCoopDataset": ("--num-views", "3", "--resolution", "56", "42"),
    "OPV2VCoopCylindricalDataset": ("--num-views", "2", "--resolution", "112", "28"),
}


def predict(checkpoint, out, *more):
    return cli.main([str(w) for w in ("predict", "--checkpoint", checkpoint, "--out", out, "--quiet", *more)])


@pytest.fixture
def camera_only(own_town):
    root, depth_root = own_town
    shutil.rmtree(depth_root)
    for path in root.rglob("*.pcd"):
        path.unlink()
    return root


@pytest.mark.parametrize("dataset", SMALL)
def test_a_tree_without_depth_and_lidar_is_predicted_as_with_them(
    dataset, camera_only, small_town, tiny_checkpoint, tmp_path, capsys
):
    tail = ("--dataset", dataset, *SMALL[dataset])
    assert predict(tiny_checkpoint, tmp_path / "bare", "--root", camera_only, *tail) == 0
    whole = ("--root", small_town.root, "--depth-root", small_town.depth_root)
    assert predict(tiny_checkpoint, tmp_path / "whole", *whole, *tail) == 0
    bare, full = ([load_predictions(p) for p in list_predictions(tmp_path / name)] for name in ("bare", "whole"))
    assert len(bare) == len(full) == 4
    for a, b in zip(bare, full):
        assert np.array_equal(a.range_m, b.range_m) and np.array_equal(a.image, b.image)
        assert a.range_m_true is None and a.mask_true is None and b.range_m_true is not None
        assert np.array_equal(a.pose_world_cam_true, b.pose_world_cam_true)
    capsys.readouterr()
    # poses can be judged without depth; a checkpoint's evaluation asks for what its figures need
    assert cli.main(["evaluate", "--predictions", str(tmp_path / "bare"), "--out", str(tmp_path / "e"), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "vehicle_translation_m" in out and "depth_rmse_m" not in out
    words = ["evaluate", "--checkpoint", tiny_checkpoint, "--root", camera_only, "--out", tmp_path / "f", *tail]
    assert cli.main([str(word) for word in words]) == 2
    assert "camera0_depth" in capsys.readouterr().err


def test_photographs_of_a_folder(small_town, town_yaml, tiny_checkpoint, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in town_yaml.parent.glob(f"{town_yaml.stem}_camera*.png"):
        shutil.copy(path, photos)
    (photos / "readme.txt").write_text("")
    assert (
        predict(tiny_checkpoint, tmp_path / "out", "--images", photos, "--resolution", "56", "42", "--export", "ply")
        == 0
    )
    assert "on 4 photographs in 1 folders; the model sees: images" in capsys.readouterr().out
    (path,) = list_predictions(tmp_path / "out")
    frame = load_predictions(path)
    assert path == tmp_path / "out/images/photos/000000_agent0.npz" and path.with_suffix(".ply").is_file()
    assert frame.range_m.shape == (4, 42, 56) and frame.meta.cameras == (0, 1, 2, 3) and frame.meta.agents == (0,) * 4
    assert frame.pose_world_cam_true is None and frame.range_m_true is None
    for page in ("pointcloud", "panorama", "bev"):
        assert cli.main([page, str(path), "--out", str(tmp_path / page)]) == 0
    (photos / "broken.png").write_bytes(b"x")
    assert predict(tiny_checkpoint, tmp_path / "bad", "--images", photos) == 1
    assert (
        "images/photos/000000_agent0: " in (said := capsys.readouterr().out)
        and "broken.png: not a readable image" in said
    )


def test_panorama_photographs(tiny_checkpoint, tmp_path, capsys):
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(2):
        path = tmp_path / "around" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (64, 128, 3), dtype=np.uint8)).save(path)
    tail = ("--images", tmp_path / "around", "--resolution", "112", "28")
    assert predict(tiny_checkpoint, tmp_path / "out", *tail, "--equirectangular") == 0
    frame = load_predictions(list_predictions(tmp_path / "out")[0])
    assert frame.meta.layout == "panorama" and frame.meta.agents == (0, 1) and frame.meta.cylinder.width == 112
    assert predict(tiny_checkpoint, tmp_path / "no", *tail, "--root", tmp_path) == 2
    assert "--images and --root: give one of them" in capsys.readouterr().err
    assert predict(tiny_checkpoint, tmp_path / "no", *tail, "--inputs", "pose") == 2
    assert "photographs of --images have no known geometry" in capsys.readouterr().err
    assert cli.main(["predict", "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "no")]) == 2
    assert (
        "needs --root, the tree to predict, or --images, a folder of photographs, or --rig" in capsys.readouterr().err
    )


@REAL
def test_real_photographs_keep_their_names_and_shapes(tiny_checkpoint, tmp_path, capsys):
    photos = tmp_path / "street"
    photos.mkdir()
    for path in NUSCENES.parent.glob("*CAM_FRONT*.jpg"):
        shutil.copy(path, photos)
    assert predict(tiny_checkpoint, tmp_path / "out", "--images", photos, "--export", "ply") == 0, (
        capsys.readouterr().out
    )
    (path,) = list_predictions(tmp_path / "out")
    frame = load_predictions(path)
    # 1600 x 900 on 518: nothing of the photograph is cut but a pixel of its height
    assert frame.image.shape == (3, 294, 518, 3)
    assert frame.meta.files == tuple(sorted(p.name for p in photos.iterdir()))
    assert cli.main(["panorama", str(path), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "panorama.html").read_text()
    assert "camera0 = " in page and frame.meta.files[0].partition("__CAM")[2] in page


@REAL
def test_a_stitched_photograph_of_the_real_rig_is_cut_to_the_panoramas_rows(tiny_checkpoint, tmp_path, capsys):
    from PIL import Image

    T_opencv_lidar = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    cameras, images = [], []
    for camera in json.loads(NUSCENES.read_text())["cameras"].values():
        images.append(np.asarray(photographs.read(NUSCENES.parent / camera["file"])))
        pose = T_opencv_lidar @ np.linalg.inv(np.array(camera["T_cam_lidar"], dtype=float).reshape(4, 4))
        cameras.append(panorama.RigCamera(np.array(camera["K"], dtype=float), pose, images[-1].shape[1::-1]))
    rig = panorama.Rig(tuple(cameras))
    (tmp_path / "around").mkdir()
    whole = panorama.PanoramaBuilder(rig, Cylinder.from_size((1512, 756), 180.0, 0.0)).build(images)
    Image.fromarray(whole.color).save(tmp_path / "around" / "street.png")
    tail = ("--images", tmp_path / "around", "--equirectangular", "--resolution", "252", "56")
    rows = ("--panorama-vertical-fov-deg", "30", "--panorama-elevation-center-deg", "-4")
    assert predict(tiny_checkpoint, tmp_path / "out", *tail, *rows) == 0, capsys.readouterr().out
    (path,) = list_predictions(tmp_path / "out")
    frame = load_predictions(path)
    direct = panorama.PanoramaBuilder(rig, Cylinder.from_size((1512, 336), 30.0, -4.0)).build(images)
    expected = np.asarray(Image.fromarray(direct.color).resize((252, 56), Image.Resampling.BICUBIC), dtype=float)
    off = np.abs(frame.image[0] - expected).mean()
    assert off < 2.0 < np.abs(frame.image[0] - np.roll(expected, 1, axis=0)).mean()  # a row's shift would be seen
    assert cli.main(["pointcloud", str(path), "--out", str(tmp_path / "page")]) == 0
    assert "vehicle 0 = street.png" in (tmp_path / "page" / "pointcloud.html").read_text()
