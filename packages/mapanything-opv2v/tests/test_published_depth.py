"""Depth as other tools publish it: OPV2V-H's names, 8-bit codes, 16 bits with a scale that the user states."""

import cv2
import numpy as np
import pytest
from mapanything_opv2v import cli, rawdata
from mapanything_opv2v.rawdata.images import SKY


@pytest.fixture(autouse=True)
def no_scale(monkeypatch):
    monkeypatch.setenv("OPV2V_PNG_UNITS_PER_M", "1")  # what is set is undone afterwards, also where it was not set
    monkeypatch.delenv("OPV2V_PNG_UNITS_PER_M")


def carla(metres):
    """Return CARLA's code as BGR pixels."""
    code = np.rint(np.asarray(metres) / 1000 * (256**3 - 1)).astype(np.int64)
    return np.stack([code >> 16 & 255, code >> 8 & 255, code & 255], axis=-1).astype(np.uint8)


def test_carla_s_code_by_hand(tmp_path):
    pixels = np.zeros((1, 3, 3), np.uint8)
    pixels[0, 0] = (0, 0, 1)  # red 1: the smallest step
    pixels[0, 1] = (1, 0, 0)  # blue 1: 65536 steps
    pixels[0, 2] = 255
    pixels[0, 2, 2] = 254  # not grey
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    depth = rawdata.load_depth(tmp_path / "a.png")
    assert np.allclose(depth[0, :2], [1000 / 16777215, 65536 * 1000 / 16777215], rtol=1e-6) and depth[0, 2] == SKY


def test_carla_s_code_there_and_back(tmp_path):
    metres = np.random.default_rng(0).uniform(0.5, 200, (20, 30))
    cv2.imwrite(str(tmp_path / "a.png"), carla(metres))
    assert np.abs(rawdata.load_depth(tmp_path / "a.png") - metres).max() < 1e-4


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_is_metres_and_its_end_unknown(tmp_path, channels):
    grey = np.array([[0, 1, 50, 254, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2))
    assert rawdata.load_depth(tmp_path / "a.png").tolist() == [[0, 1, 50, 254, 0]]


def test_heal_s_names_are_found_after_ours(small_town, tmp_path):
    frame = rawdata.index_tree(small_town.root, splits=["test"]).splits["test"][0]
    agent = frame.agents[1]
    folder = tmp_path / "OPV2V_Hetero" / "test" / frame.sequence / str(agent.agent_id)
    folder.mkdir(parents=True)
    for camera in range(4):
        cv2.imwrite(str(folder / f"{frame.frame}_depth{camera}.png"), np.full((60, 80), 7 + camera, np.uint8))
    np.save(folder / f"{frame.frame}_camera1_depth.npy", np.full((60, 80), 3.0, np.float32))

    def found():
        tree = rawdata.index_tree(small_town.root, depth_root=tmp_path / "OPV2V_Hetero", splits=["test"])
        return tree.splits["test"][0].agent(agent.agent_id).depth_paths

    assert [path.name[7:] for path in found().values()] == [
        "depth0.png",
        "camera1_depth.npy",
        "depth2.png",
        "depth3.png",
    ]
    assert [float(rawdata.load_depth(path)[0, 0]) for path in found().values()] == [7, 3, 9, 10]


def test_a_command_can_state_the_scale_of_16_bits(own_town, tmp_path, capsys):
    root, depth_root = own_town
    for path in (depth_root / "test").rglob("*_depth.npy"):
        depth = np.load(path)
        units = np.where(depth >= 999, 65535, np.rint(depth * 256).clip(0, 65534)).astype(np.uint16)
        cv2.imwrite(str(path.with_name(path.name.replace("_camera", "_depth").replace("_depth.npy", ".png"))), units)
        path.unlink()
    run = ["check", str(root), "--depth-root", str(depth_root), "--splits", "test", "--quiet", "--need-depth"]
    assert cli.main(run) == 1
    assert "say its scale with --png-units-per-m (in configs dataset.opv2v.png_units_per_m" in capsys.readouterr().out
    assert cli.main([*run, "--png-units-per-m", "256"]) == 0
    assert cli.main([*run, "--png-units-per-m", "64"]) == 1  # four times too far
    assert "differs from the LiDAR sweep by 300%" in capsys.readouterr().out
    assert cli.main([*run, "--png-units-per-m", "0"]) == 2
    assert "png_units_per_m=0.0: expected a positive number of units a metre" in capsys.readouterr().err


def test_a_dataset_can_state_it_and_files_that_do_need_none(double_host, small_town, tmp_path):
    rawdata.assume_png_units(256)
    rawdata.save_depth(tmp_path / "own.png", np.full((2, 2), 10.0))
    cv2.imwrite(str(tmp_path / "other.png"), np.full((2, 2), 2560, np.uint16))
    assert rawdata.load_depth(tmp_path / "own.png")[0, 0] == rawdata.load_depth(tmp_path / "other.png")[0, 0] == 10
    rawdata.assume_png_units(None)
    options = dict(ROOT=small_town.root, depth_root=small_town.depth_root, split="test", num_views=2)
    options |= dict(resolution=(40, 30), transform="imgnorm", data_norm_type="dinov2")
    with pytest.raises(ValueError, match="png_units_per_m='x'"):
        double_host.OPV2VDataset(**options, png_units_per_m="x")


@pytest.mark.parametrize("kind", ["OPV2VDataset", "OPV2VCylindricalDataset"])
def test_two_data_sets_of_one_process_have_their_own_scales(double_host, own_town, kind):
    """Depth of 16 bits that states no scale, read as 256 and as 128 units a metre: one is twice as far."""
    root, depth_root = own_town
    for path in (depth_root / "test").rglob("*_depth.npy"):
        cv2.imwrite(str(path.with_suffix(".png")), np.full(np.load(path).shape, 2560, np.uint16))
        path.unlink()
    options = dict(ROOT=root, depth_root=depth_root, split="test", num_views=1, seed=1)
    size = (40, 30) if kind == "OPV2VDataset" else (80, 20)
    options |= dict(resolution=size, transform="imgnorm", data_norm_type="dinov2")
    near, far = (getattr(double_host, kind)(**options, png_units_per_m=units) for units in (256, 128))
    first, second, third = (np.asarray(made[0][0]["depth_along_ray"]) for made in (near, far, near))
    assert first.max() > 0 and np.array_equal(first, third)
    known = (first > 0) & (second > 0)
    assert np.median(second[known] / first[known]) == pytest.approx(2, rel=0.1)
    with pytest.raises(ValueError, match="the PNG states no"):
        getattr(double_host, kind)(**options)[0]
