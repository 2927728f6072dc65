"""Trees of other data sets are called by their names; ours are not."""

import pytest
from mapanything_opv2v import cli
from mapanything_opv2v.rawdata import other_datasets


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


SHAPES = {
    "V2X-Real (images": [
        "train/2023-03-17-15-53-02_1_0/1/000000.yaml",
        "train/2023-03-17-15-53-02_1_0/1/000000_cam1.jpeg",
    ],
    "V2X-Real or a converted tree (sweeps": ["train/seq/-1/000000.yaml", "train/seq/-1/000000.bin"],
    "DAIR-V2X (folders cooperative, vehicle-side)": ["cooperative/data_info.json", "vehicle-side/image/000009.jpg"],
    "V2V4Real (agents 0 and 1": ["train/testoutput_CAV/0/000000.pcd", "train/testoutput_CAV/1/000000.yaml"],
}


@pytest.mark.parametrize("said", SHAPES)
@pytest.mark.parametrize("command", ["tree", "check"])
def test_the_tree_is_named_and_the_layout_told(said, command, tmp_path, capsys):
    assert cli.main([command, str(touch(tmp_path, *SHAPES[said]))]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path} looks like {said}" in error and "this package reads OPV2V and V2XSet" in error
    assert "missing" not in error


def test_ours_is_ours_whatever_lies_beside_it(small_town, tmp_path):
    assert other_datasets.recognise(small_town.root) is None
    touch(tmp_path, "train/s/641/000000_camera0.png", "train/s/641/000000.bin", "train/s/641/000000_cam1.jpeg")
    assert other_datasets.recognise(tmp_path) is None
    assert other_datasets.recognise(touch(tmp_path / "empty", "train/readme.txt")) is None
    # a LiDAR-only V2XSet agent has a number of its own
    assert (
        other_datasets.recognise(touch(tmp_path / "lidar", "train/s/641/000000.pcd", "train/s/641/000000.yaml")) is None
    )
