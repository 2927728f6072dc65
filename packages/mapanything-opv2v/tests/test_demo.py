"""The demo, on smaller images and with fewer rays: what it writes is complete and true."""

import html
import json
import re
import time

import numpy as np
import pytest
from evaluation_cases import perfect
from mapanything_opv2v import rawdata, synthetic
from mapanything_opv2v.demo import learned, make, page, partners, recorded, tiny_model
from mapanything_opv2v.evaluation.measure import evaluate_frame
from mapanything_opv2v.evaluation.results import summarise
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.predictions import save_predictions


@pytest.fixture
def quick(monkeypatch):
    real = synthetic.write_town

    def small(root, **options):
        return real(root, **options | {"image_size": (200, 150), "lidar_size": (32, 256), "agents": 2})

    monkeypatch.setattr(synthetic, "write_town", small)
    monkeypatch.setattr(make, "CYLINDER", Cylinder(252, 63))
    monkeypatch.delenv("MAPANYTHING_ROOT", raising=False)


def test_the_demo_keeps_its_contract(quick, tmp_path, monkeypatch, capsys):
    assert make.make_demo(tmp_path / "out", 1, None) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert set(result) == {"package", "title", "page", "picture", "figures", "synthetic", "seconds"}
    assert result["package"] == "mapanything-opv2v" and result["seconds"] > 0
    figures = dict(result["figures"])
    assert figures["Problems found"] == "0"
    median, mean = map(float, re.findall(r"(?:median|mean) ([\d.]+) m", figures["Range error, dense depth"]))
    assert median < 0.05 and mean < 0.3
    assert float(figures["Covered, projected at infinity"]) == pytest.approx(0.856, abs=0.01)
    page = (tmp_path / "out" / result["page"]).read_text()
    assert "http" not in re.sub(r'base64,[^"]*', "", page)  # opens offline
    assert page.count("data:image/png;base64,") == 2
    assert all(html.escape(label) in page for label in figures)
    assert (tmp_path / "out" / result["picture"]).read_bytes().startswith(b"\x89PNG")
    links = re.findall(r'href="([^"]*)"', page)
    assert links == [f"look/{name}.html" for name in ("panorama", "pointcloud", "rig", "bev")]
    assert all((tmp_path / "out" / link).is_file() for link in links)

    assert html.escape(tiny_model.MISSING) in page  # no MapAnything: said, not hidden
    shown = recorded.load()
    assert html.escape(recorded.TITLE) in page and html.escape(shown.about) in page and len(shown.rows) >= 3
    assert f"{shown.rows[0][1]} (a constant that sees no image: {shown.rows[0][2]})" in page
    assert tiny_model.MISSING in capsys.readouterr().out and not any(label.startswith("Model") for label in figures)


def summary_of(frame, **better):
    figures = summarise({"a": evaluate_frame(frame)})["figures"]
    values = {"vehicle_rotation_deg": 41.25, "vehicle_translation_m": 9.5, "depth_relative": 0.3}
    beside = {
        name: {"model": value, "baseline": 2 * value, "frames": 6, "better": better.get(name, True)}
        for name, value in values.items()
    }
    return {"frames": 6, "figures": figures, "baselines": {"constant": {"figures": beside}}}


def test_a_trained_model_is_shown(quick, tmp_path, monkeypatch):
    frame = perfect(np.random.default_rng(1), views=2)
    path = save_predictions(tmp_path / "predictions", frame)
    strangers = {"figures": {"vehicle_rotation_deg": {"mean": 80.0}, "vehicle_translation_m": {"mean": 12.345}}}
    summary = summary_of(frame, vehicle_translation_m=False)
    trained = tiny_model.Trained(((4.0, 3.25), (90.0,)), summary, strangers, path, 321.4)
    monkeypatch.setattr(tiny_model, "train_and_evaluate", lambda out, seed, quiet: trained)
    assert make.make_demo(tmp_path / "out", 1, None) == 0
    figures = dict(json.loads((tmp_path / "out" / "result.json").read_text())["figures"])
    assert figures["Model: mean training loss of each epoch, start"] == "4.00, 3.25"
    assert figures["Model: mean training loss of each epoch, all heads"] == "90.00"
    assert figures["Model: heading of the partner"] == (
        "41.2 degrees, a constant that sees no image 82.5 degrees, with images of a partner of another town "
        "80.0 degrees: better than the constant"
    )
    assert figures["Model: position of the partner"] == (
        "9.50 m, a constant that sees no image 19.00 m, with images of a partner of another town 12.35 m: "
        "not better than the constant"
    )
    assert figures["Model: range, mean relative error"] == (
        "0.300, a constant that sees no image 0.600: better than the constant"
    )
    page = (tmp_path / "out" / "index.html").read_text()
    assert tiny_model.MISSING not in page and "its figures say nothing about MapAnything" in page
    assert "6 pairs of vehicles at most 15 m apart" in page and "321 s in all" in page
    for name in ("pointcloud", "views"):
        assert f'href="model/{name}.html"' in page and (tmp_path / "out" / "model" / f"{name}.html").is_file()


def test_a_model_without_a_constant_beside_it_is_an_error(tmp_path):
    summary = {"baselines": {"constant": {"missing": "not fitted on train: no samples"}}}
    trained = tiny_model.Trained(((), ()), summary, {}, tmp_path, 1.0)
    with pytest.raises(ValueError, match="^the demo's model has no constant beside it: not fitted on train"):
        learned.verdicts(trained)


def test_a_failing_model_ends_the_demo_with_its_last_words(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_model, "TOWNS", {"train": 2, "validate": 1, "test": 2})
    monkeypatch.setattr(tiny_model, "NEAR_M", 70.0)
    monkeypatch.setenv("MAPANYTHING_ROOT", str(tmp_path))  # nothing is there
    with pytest.raises(ValueError, match=r"(?s)failed with status \d+, see .*training_start\.txt:.*mapanything"):
        tiny_model.train_and_evaluate(tmp_path / "out", 1, quiet=True)


def test_progress_is_read_from_the_lines_of_the_log():
    line = "[INFO] - Epoch: [1]  [ 20/100]  eta: 0:00:55  lr: 0.001  epoch: 1.2 (1.1)  loss: 4.2267 (5.1375)  points: 1"
    text = tiny_model.progress(line, 4, time.monotonic() - 60)
    assert text == "step 120 of 400, mean loss of this epoch 5.1375, about 140 s left"
    assert tiny_model.progress(line.replace("Epoch", "Epic"), 4, 0.0) is None
    assert "about 0 s left" in tiny_model.progress(line.replace("[1]  [ 20", "[0]  [  0"), 4, 0.0)


def test_pairs_are_near_and_strangers_bring_images_of_another_town(tmp_path):
    root = synthetic.write_town(
        tmp_path / "towns", seed=3, sequences=3, agents=3, splits=("test",), image_size=(40, 30), lidar_size=(4, 16),
        layout="streets",
    ).root  # fmt: skip
    frames = rawdata.index_tree(root).splits["test"]
    everyone = partners.near_pairs(frames, 1000.0)
    assert len(everyone) == 9
    away = [np.linalg.norm(np.subtract(*(lidar(agent) for agent in (pair.first, pair.second)))) for pair in everyone]
    limit = float(np.median(away))
    near = partners.near_pairs(frames, limit)
    assert [pair for pair, metres in zip(everyone, away) if metres <= limit] == near

    partners.write_pairs(tmp_path / "pairs" / "test", everyone)
    partners.write_pairs(tmp_path / "strangers" / "test", everyone, strangers=True)
    own, wrong = (rawdata.index_tree(tmp_path / name).splits["test"] for name in ("pairs", "strangers"))
    assert len(own) == len(wrong) == 9
    images = {path.read_bytes(): pair.town for pair in everyone for path in pair.second.camera_paths.values()}
    for pair, right, other in zip(everyone, own, wrong):
        for agents in zip((pair.first, pair.second), right.agents, other.agents):
            assert len({agent.yaml_path.read_bytes() for agent in agents}) == 1
            assert all(len(agent.camera_paths) == len(agent.depth_paths) == 4 for agent in agents)
        seen = [agent.camera_paths[0].read_bytes() for agent in (*right.agents, *other.agents)]
        assert seen[0] == seen[2] == pair.first.camera_paths[0].read_bytes()
        assert images[seen[1]] == pair.town != images[seen[3]]


def test_too_few_pairs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="0 pairs of near vehicles, too few to judge a model on"):
        partners.write_pairs(tmp_path / "test", [])


def lidar(agent):
    return rawdata.load_agent_yaml(agent.yaml_path).lidar_pose[:3]


def test_a_real_frame_is_shown_if_named(quick, tmp_path, small_town):
    frame = next((small_town.root / "test").rglob("*.yaml")).parent
    path = next(frame.rglob("0*.yaml"))
    assert make.make_demo(tmp_path / "out", 1, path) == 0
    figures = dict(json.loads((tmp_path / "out" / "result.json").read_text())["figures"])
    assert "Real frame, weakest agreement of neighbouring cameras" in figures
    assert "A real frame of OPV2V" in (tmp_path / "out" / "index.html").read_text()


def test_text_is_escaped():
    story = page.Story(True, [("<b>", "&")], [("<script>", "<i>", None)])
    text = page.page_html(story, 1.0)
    assert "<script>" not in text and "<i>" not in text and "&lt;b&gt;" in text and "&amp;" in text
