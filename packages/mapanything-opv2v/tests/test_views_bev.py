"""Frames from above."""

import re

import numpy as np
import pytest
from mapanything_opv2v import rawdata
from mapanything_opv2v.views.bev import Bev, BevOptions, make_bev, write_bev
from mapanything_opv2v.views.frame import Cloud
from mapanything_opv2v.views.sources import RawOptions, load_predicted_frame, load_raw_frame
from mapanything_opv2v.views.stage import Stage, ViewPoints


def test_cells_by_hand():
    xyz = [[1.5, 0.5, 0], [1.2, 0.7, 2], [-1.5, -1.5, 1], [0.5, 0.5, 9], [7, 0, 0]]
    rgb = np.arange(15, dtype=np.uint8).reshape(5, 3)
    parts = [ViewPoints(1, "camera0", Cloud(np.array(xyz), rgb))]
    bev = make_bev(Stage(np.eye(4)), parts, -1.0, BevOptions(reach_m=2, cell_m=1, max_height_m=4))
    assert bev.count.tolist() == [[0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert bev.height_m[0, 1] == 3 and bev.height_m[3, 3] == 2 and np.isnan(bev.height_m).sum() == 14
    assert bev.color[0, 1].tolist() == [3, 4, 5]  # the higher of the two
    assert bev.color[3, 3].tolist() == [6, 7, 8]


@pytest.mark.parametrize(("near", "far", "is_far"), [(9, 1, True), (8, 2, False), (0, 0, False)])
def test_a_room_in_the_middle_of_a_street_is_noticed(near, far, is_far):
    count = np.zeros((40, 40), np.int32)
    count[18, 21], count[18, 22] = near, far  # the middle tenth: rows and columns 18 to 21
    assert Bev(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.float32), count).is_far() == is_far


def test_files(small_town, town_yaml, town_predictions, tmp_path):
    frame = load_raw_frame(town_yaml, RawOptions(depth_root=small_town.depth_root))
    options = BevOptions(reach_m=20, cell_m=0.5)
    bev = write_bev(tmp_path, frame, options)
    with np.load(tmp_path / "bev.npz") as arrays:
        assert np.array_equal(arrays["count"], bev.count) and bev.count.shape == (80, 80)
    assert rawdata.load_image(tmp_path / "bev.png").shape[0] == 80 * 12 + 24
    assert "From above" in (tmp_path / "bev.html").read_text()
    # ranges 1.1 times as long: the predicted cloud is wider than the true one
    assert write_bev(tmp_path / "p", load_predicted_frame(town_predictions), options).count.sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell_m": 0}, "cell_m=0, expected a positive length"),
        ({"reach_m": 500, "cell_m": 0.1}, "reach_m=500, cell_m=0.1: 5000 cells to an edge, expected 1 to 2000"),
    ],
)
def test_grids_that_make_no_picture(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BevOptions(**options)
