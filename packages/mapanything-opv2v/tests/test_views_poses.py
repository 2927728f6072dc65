"""Camera poses and boxes."""

import json
import re
import sys

import pytest
from mapanything_opv2v import rawdata
from mapanything_opv2v.views.poses import write_rig
from mapanything_opv2v.views.sources import RawOptions, load_predicted_frame, load_raw_frame


def rows(folder):
    text = (folder / "rig.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    (table,) = data["tables"]
    return {row[0]: row[1:] for row in table["rows"]}


def test_the_published_rig_is_read_back(town_yaml, tmp_path):
    """OPV2V: front (2.5, 0, 1.0), right (0, 0.3, 1.8) yaw 100, left (0, -0.3, 1.8) yaw -100, back (-2, 0, 1.5)."""
    write_rig(tmp_path, load_raw_frame(town_yaml, RawOptions(agents=[int(town_yaml.parent.name)])))
    agent = town_yaml.parent.name
    found = rows(tmp_path)
    assert found[f"{agent} camera0"][:5] == ["0.00", "0.00", "0.00", "0.0", "0.0"]
    assert [float(cell) for cell in found[f"{agent} camera1"][:4]] == [-2.5, -0.3, 0.8, -100]
    assert [float(cell) for cell in found[f"{agent} camera2"][:4]] == [-2.5, 0.3, 0.8, 100]
    assert [float(cell) for cell in found[f"{agent} camera3"][:3]] == [-4.5, 0, 0.5]
    assert abs(float(found[f"{agent} camera3"][3])) == 180
    assert found[f"{agent} camera0"][5] == "100°"
    assert rawdata.load_image(tmp_path / "rig.png").std() > 5


def test_predicted_and_true_poses_differ(town_predictions, tmp_path):
    frame = load_predicted_frame(town_predictions)
    write_rig(tmp_path / "pred", frame)
    write_rig(tmp_path / "gt", frame, pose_source="gt")
    assert "predicted poses" in (tmp_path / "pred" / "rig.html").read_text()
    assert rows(tmp_path / "pred") != rows(tmp_path / "gt")


def test_missing_matplotlib_is_explained(town_predictions, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"matplotlib is missing .*pip install 'mapanything-opv2v\[viz\]'"):
        write_rig(tmp_path, load_predicted_frame(town_predictions))
    assert not list(tmp_path.iterdir())
