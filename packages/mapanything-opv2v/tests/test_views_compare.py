"""Two clouds or runs against each other."""

import json
import re

import numpy as np
import pytest
from mapanything_opv2v.views.compare import common_frame, load_side, write_compare
from mapanything_opv2v.views.sources import RawOptions


def grid(shift=0.0):
    x, z = np.meshgrid(np.arange(10.0), np.arange(10.0))
    return np.stack([x.ravel(), np.full(100, shift), z.ravel()], axis=1)


def test_two_planes_by_hand(tmp_path):
    np.save(tmp_path / "a.npy", grid())
    np.save(tmp_path / "b.npy", np.concatenate([grid(0.3)[:99], [[9, 0.7, 9]]]))
    sides = [load_side(tmp_path / name) for name in ("a.npy", "b.npy")]
    figures = write_compare(tmp_path / "out", *sides)
    assert figures["a_to_b"]["median_m"] == pytest.approx(0.3) and figures["a_to_b"]["share_within_0.5_m"] == 0.99
    assert figures["b_to_a"]["mean_m"] == pytest.approx((99 * 0.3 + 0.7) / 100)
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == figures
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "<h1>Compare · two clouds</h1>" in page and page.count("a.npy") < 4 and "as in the files" in page


def test_a_prediction_lies_beside_the_raw_frame(town_predictions, town_yaml, small_town, tmp_path):
    truth = RawOptions(depth_root=small_town.depth_root, agents=[int(town_yaml.parent.name)], camera_ids=[0])
    a = load_side(town_yaml, truth)
    figures = write_compare(tmp_path, a, load_side(town_predictions))
    assert "brought together <b>by the first view</b>" in (tmp_path / "compare.html").read_text()
    assert figures["a"].startswith("Point cloud · test/") and "checkpoint-best.pth" in figures["b"]
    again = write_compare(tmp_path, a, load_side(town_yaml, truth))
    assert again["a_to_b"]["mean_m"] < 1e-9 < figures["a_to_b"]["mean_m"]


def test_what_cannot_be_compared(town_predictions, town_yaml, small_town, tmp_path):
    other = [agent for agent in small_town.agents if agent >= 0][-1]
    a = load_side(town_predictions)
    b = load_side(town_yaml, RawOptions(depth_root=small_town.depth_root, agents=[other]))
    with pytest.raises(ValueError, match="nothing says how they lie to each other"):
        write_compare(tmp_path, a, b)
    with pytest.raises(ValueError, match=re.escape("expected a file of predictions (.npz)")):
        load_side("x.obj")


def test_two_runs_share_a_frame(town_predictions, tmp_path):
    folder, name = town_predictions.parents[2], str(town_predictions.relative_to(town_predictions.parents[2]))[:-4]
    other = tmp_path / "b" / f"{name}.npz"
    other.parent.mkdir(parents=True)
    other.write_bytes(town_predictions.read_bytes())
    (other.parent / "000001_agent1.npz").write_bytes(b"")
    assert common_frame(folder, tmp_path / "b") == (town_predictions, other)
    assert common_frame(folder, tmp_path / "b", name) == (town_predictions, other)
    with pytest.raises(ValueError, match=re.escape(f"2; both have {name}, not test/x/000001_agent1")):
        common_frame(folder, tmp_path / "b", "test/x/000001_agent1")
    with pytest.raises(ValueError, match="1 frames of predictions, .* 0; both have none"):
        common_frame(folder, tmp_path / "a")
