import argparse
import json
import re

import pytest
from PIL import Image
from roborefer_spatial.demo import run as demo
from roborefer_spatial.predicting.backends import Request


def run(out, *arguments):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return demo.run(parser.parse_args(["--out", str(out), *arguments]))


def test_the_baseline_is_the_median_of_the_training_points(make_sample):
    samples = [make_sample(pixel) for pixel in ((0, 0), (31, 23), (63, 47))] + [make_sample()]
    backend = demo.MedianBackend(samples)
    assert backend.answer([Request("a", (), ""), Request("b", (), "")]) == [f"[({31.5 / 64:.6f}, {23.5 / 48:.6f})]"] * 2


def test_a_small_demo_learns_and_writes_what_nox_shows(tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert run(out, "--train-scenes", "16", "--val-scenes", "4", "--steps", "200") == 0
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "overview.png", "result.json"]
    result = json.loads((out / "result.json").read_text())
    assert sorted(result) == ["figures", "package", "page", "picture", "seconds", "synthetic", "title"]
    assert (result["package"], result["page"], result["picture"]) == (
        "roborefer-spatial",
        "index.html",
        "overview.png",
    )
    assert all(isinstance(text, str) for pair in result["figures"] for text in pair)
    hits = [float(text.split()[0]) for _, text in result["figures"][:2]]
    assert hits[0] > hits[1]
    assert Image.open(out / "overview.png").size == (1600, 800)
    page = (out / "index.html").read_text()
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    assert page.index("tiny VLM: t2b_multi/val") < page.index("baseline, t1_multi: t1_multi/val")
    assert '"start":{"run":"tiny VLM","order":"best"}' in page
    assert f"open {out / 'index.html'}" in capsys.readouterr().out


def test_a_model_that_has_not_learned_is_said(tmp_path, capsys):
    assert run(tmp_path, "--train-scenes", "2", "--val-scenes", "1", "--steps", "1") == 1
    assert "error: the trained model does not beat the baseline" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train-scenes", "val-scenes", "steps"])
def test_nothing_of_nothing(tmp_path, name):
    with pytest.raises(ValueError, match=f"--{name} is 0: expected at least 1"):
        run(tmp_path, f"--{name}", "0")


def test_missing_libraries_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_NEEDS", ("torch", "no_such_library"))
    with pytest.raises(
        ValueError, match=re.escape("the demo needs no_such_library: pip install 'roborefer-spatial[demo]'")
    ):
        demo.demo(tmp_path, demo.Plan())
