"""Recordings for rerun, read back by rerun."""

import sys

import numpy as np
import pytest
from mapanything_opv2v.views.recording import write_recording
from mapanything_opv2v.views.sources import RawOptions, load_predicted_frame, load_raw_frame


def columns(path):
    import rerun

    recording = rerun.dataframe.load_recording(str(path))
    schema = recording.schema().component_columns()
    view = recording.view(index="log_tick", contents="/**", include_tombstone_columns=False)
    table = view.select_static().read_all().to_pydict()
    return recording, {column.entity_path for column in schema}, table


def test_a_prediction_is_read_back(town_predictions, tmp_path):
    frame = load_predicted_frame(town_predictions)
    path = tmp_path / "deep" / "frame.rrd"
    write_recording(path, frame)
    assert [p.name for p in path.parent.iterdir()] == ["frame.rrd"]
    recording, entities, table = columns(path)
    assert recording.application_id() == "mapanything-opv2v" and recording.recording_id() == frame.name
    for view in frame.views:
        entity = f"/world/agent_{view.agent_id}/{view.name}"
        assert {entity, f"{entity}_true", f"{entity}/image", f"{entity}/range"} <= entities
        points = np.array(table[f"/world/points/agent_{view.agent_id}/{view.name}:Points3D:positions"][0])
        assert points.shape == (int(view.pred.has_range().sum()), 3)
        moved = np.array(table[f"{entity}:Transform3D:translation"][0][0])
        np.testing.assert_allclose(moved, view.pred.T_world_cam[:3, 3], rtol=1e-5, atol=1e-5)
    assert len(table["/world/boxes:LineStrips3D:strips"][0]) == len(frame.boxes)
    assert "checkpoint-best.pth" in table["/title:TextDocument:text"][0][0]


def test_a_raw_frame_with_panoramas(small_town, town_yaml, tmp_path):
    options = RawOptions(depth_root=small_town.depth_root, agents=[int(town_yaml.parent.name)], layout="panorama")
    write_recording(tmp_path / "f.rrd", load_raw_frame(town_yaml, options), max_points=100)
    _, entities, table = columns(tmp_path / "f.rrd")
    agent = town_yaml.parent.name
    assert f"/world/agent_{agent}/panorama" in entities and f"/world/agent_{agent}/panorama_true" not in entities
    assert len(table[f"/world/points/agent_{agent}/panorama:Points3D:positions"][0]) == 100


def test_missing_rerun_is_explained_and_nothing_is_left(town_predictions, tmp_path, monkeypatch):
    frame = load_predicted_frame(town_predictions)
    with pytest.raises(ValueError, match="no LiDAR sweep"):
        write_recording(tmp_path / "f.rrd", frame, points="lidar")
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ValueError, match=r"rerun is missing .*pip install 'mapanything-opv2v\[viz\]'"):
        write_recording(tmp_path / "f.rrd", frame)
    assert not list(tmp_path.iterdir())
