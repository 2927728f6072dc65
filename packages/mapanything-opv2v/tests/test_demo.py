"""The demo, on smaller images and with fewer rays: what it writes is complete and true."""

import html
import json
import re

import numpy as np
import pytest
from evaluation_cases import perfect
from mapanything_opv2v import synthetic
from mapanything_opv2v.demo import make, page, recorded, tiny_model
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


def test_a_trained_model_is_shown(quick, tmp_path, monkeypatch):
    frame = perfect(np.random.default_rng(1), views=2)
    path = save_predictions(tmp_path / "predictions", frame)
    summary = {"frames": 6, "figures": summarise({"a": evaluate_frame(frame)})["figures"]}
    summary["figures"]["scale_ratio"] = {"frames": 0}
    trained = tiny_model.Trained((14.0, 9.25), summary, path)
    monkeypatch.setattr(tiny_model, "train_and_evaluate", lambda out, seed, quiet: trained)
    assert make.make_demo(tmp_path / "out", 1, None) == 0
    figures = dict(json.loads((tmp_path / "out" / "result.json").read_text())["figures"])
    assert figures["Model: training loss by epoch"] == "14.0, 9.2"
    assert figures["Model: frames evaluated, from images only"] == "6"
    assert figures["Model: mean relative range error"] == "0.000"
    assert "Model: predicted over true range" not in figures
    page = (tmp_path / "out" / "index.html").read_text()
    assert tiny_model.MISSING not in page and "its figures say nothing about MapAnything" in page
    for name in ("pointcloud", "views"):
        assert f'href="model/{name}.html"' in page and (tmp_path / "out" / "model" / f"{name}.html").is_file()


def test_a_failing_model_ends_the_demo_with_its_last_words(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("MAPANYTHING_ROOT", str(tmp_path))  # nothing is there
    with pytest.raises(ValueError, match=r"(?s)failed with status \d+, see .*training\.txt:.*mapanything"):
        tiny_model.train_and_evaluate(tmp_path / "out", 1)


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
