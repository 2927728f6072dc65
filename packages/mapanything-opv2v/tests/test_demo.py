"""The demo, on smaller images and with fewer rays: what it writes is complete and true."""

import html
import json
import re

import pytest
from mapanything_opv2v import demo, synthetic
from mapanything_opv2v.geometry import Cylinder


@pytest.fixture
def quick(monkeypatch):
    real = synthetic.write_town

    def small(root, **options):
        return real(root, **options | {"image_size": (200, 150), "lidar_size": (32, 256), "agents": 2})

    monkeypatch.setattr(synthetic, "write_town", small)
    monkeypatch.setattr(demo, "CYLINDER", Cylinder(252, 63))


def test_the_demo_keeps_its_contract(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "REAL_FRAME", tmp_path / "none.yaml")
    assert demo.run(tmp_path / "out", 1, None) == 0
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


def test_a_real_frame_is_shown_if_named(quick, tmp_path, small_town):
    frame = next((small_town.root / "test").rglob("*.yaml")).parent
    path = next(frame.rglob("0*.yaml"))
    assert demo.run(tmp_path / "out", 1, path) == 0
    figures = dict(json.loads((tmp_path / "out" / "result.json").read_text())["figures"])
    assert "Real frame, weakest agreement of neighbouring cameras" in figures
    assert "A real frame of OPV2V" in (tmp_path / "out" / "index.html").read_text()


def test_text_is_escaped():
    story = demo._Story([("<b>", "&")], [("<script>", "<i>", None)])
    page = demo._page(story, 1.0)
    assert "<script>" not in page and "<i>" not in page and "&lt;b&gt;" in page and "&amp;" in page
