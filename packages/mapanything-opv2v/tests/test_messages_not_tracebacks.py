"""What used to end in a traceback, or leave rubbish: a message with the way out."""

import errno
import types

import numpy as np
import pytest
from mapanything_opv2v import cli, depth, files, jobs, pictures, rawdata
from mapanything_opv2v.views.cloudfile import load_cloud


@pytest.fixture
def no_cameras(own_town):
    root, _ = own_town
    path = next(p for p in sorted((root / "test").rglob("*.yaml")) if p.parent.name.isdigit())
    for other in path.parent.parent.glob("*/*_camera*.png"):
        other.unlink()
    return path


@pytest.mark.parametrize("command", [["rig"], ["pointcloud", "--points", "lidar"], ["bev", "--points", "lidar"]])
def test_a_frame_without_cameras(no_cameras, command, tmp_path, capsys):
    assert cli.main([command[0], str(no_cameras), *command[1:], "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "no agent of this frame (" in said and "has a camera image" in said


def full_disk(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_stops_depth_at_once_and_leaves_no_half_file(small_town, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(np, "save", full_disk)
    out = tmp_path / "depth"
    assert cli.main(["depth", str(small_town.root), "--out", str(out), "--quiet", "--splits", "test"]) == 2
    said = capsys.readouterr()
    assert "no space left on the disk of" in said.err and "was not written, make room" in said.err
    assert [path.name for path in out.rglob("*") if path.is_file()] == [depth.PARAMETERS_FILE]


def test_numpy_s_short_write_is_told_as_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=0))
    with pytest.raises(OSError, match="no space left on the disk of") as error, files.whole_file(tmp_path / "a") as _:
        raise OSError("48 requested and 0 written")
    assert error.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1 << 40))
    with pytest.raises(OSError, match="48 requested"), files.whole_file(tmp_path / "a") as _:
        raise OSError("48 requested and 0 written")


def test_other_errors_stay_with_their_item():
    def work(item):
        raise OSError(errno.EACCES, "not yours")

    assert [done.error.errno for done in jobs.run(work, [1, 2], progress=False)] == [errno.EACCES] * 2


def test_a_torchvision_of_another_torch_is_named(monkeypatch):
    from mapanything_opv2v.host import register

    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(register.importlib, "import_module", fail)
    with pytest.raises(ImportError, match="built for another torch than the installed one; install the two together"):
        register.register()

    def defect(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(register.importlib, "import_module", defect)
    with pytest.raises(RuntimeError, match="something else"):
        register.register()


def test_what_a_killed_run_left_is_swept_up(tmp_path):
    left = tmp_path / "test" / f".a.npz.{'a' * 16}.part"
    with files.whole_file(tmp_path / "test" / "b.npz"):  # somebody is writing
        left.write_bytes(b"half")
        (tmp_path / "test" / "a.part").write_text("mine")
        assert files.remove_stale(tmp_path) == [left.name]
    assert {path.name for path in left.parent.iterdir()} == {"b.npz", "a.part"}
    assert files.remove_stale(tmp_path / "nothing") == []


def test_an_exported_cloud_keeps_its_colours(tmp_path):
    xyz, rgb = np.eye(3, dtype=np.float32), np.array([[255, 10, 0], [1, 2, 3], [0, 0, 200]], np.uint8)
    rawdata.save_colored_pcd(tmp_path / "a.pcd", xyz, rgb)
    assert np.array_equal(load_cloud(tmp_path / "a.pcd").rgb, rgb)
    rawdata.save_pcd(tmp_path / "b.pcd", rawdata.PointCloud(xyz, np.array([0, 0.5, 1], np.float32)))
    assert load_cloud(tmp_path / "b.pcd").rgb.tolist() == [[60] * 3, [158] * 3, [255] * 3]  # grey by intensity


def test_sweeps_are_coloured_by_height():
    low, middle, high = pictures.color_heights(np.array([-3.0, 1.5, 9.0])).astype(int)
    assert low[2] > low[0] and high[0] > high[2] and middle[1] > middle[[0, 2]].max()


def test_captions_are_whole_at_320_pixels():
    narrow = np.zeros((10, 320, 3), np.uint8)
    label = "range (55.1%; red near, blue far, log scale 2 to 100 m)"
    short, long = (pictures.sheet([(text, narrow)]) for text in ("colour", label))
    assert short.shape == (34, 320, 3) and long.shape == (52, 320, 3)  # one line, two lines
    assert (long[:, -3:] >= 0).all() and (long[:42, 314:] == 250).all()  # nothing reaches the edge
