"""Recordings for rerun, read back by rerun."""

import sys

import numpy as np
import pytest
from mapanything_opv2v.views.recording import write_recording
from mapanything_opv2v.views.sources import RawOptions, load_predicted_frame, load_raw_frame


def columns(path):
    """Application and recording id, entity paths, and the static columns; by what the installed rerun reads with."""
    import rerun

    if hasattr(rerun, "dataframe"):  # gone in newer versions
        recording = rerun.dataframe.load_recording(str(path))
        view = recording.view(index="log_tick", contents="/**", include_tombstone_columns=False)
        entities = {column.entity_path for column in recording.schema().component_columns()}
        names = recording.application_id(), recording.recording_id()
        return names, entities, view.select_static().read_all().to_pydict()
    reader = rerun.chunk.RrdReader(str(path))
    (entry,) = reader.recordings()
    chunks = [(chunk.entity_path, chunk.to_record_batch().to_pydict()) for chunk in reader.stream().to_chunks()]
    table = {f"{path}:{name}": values for path, batch in chunks for name, values in batch.items()}
    return (entry.application_id, entry.recording_id), {path for path, _ in chunks}, table


def test_a_prediction_is_read_back(town_predictions, tmp_path):
    frame = load_predicted_frame(town_predictions)
    path = tmp_path / "deep" / "frame.rrd"
    write_recording(path, frame)
    assert [p.name for p in path.parent.iterdir()] == ["frame.rrd"]
    names, entities, table = columns(path)
    assert names == ("mapanything-opv2v", frame.name)
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
