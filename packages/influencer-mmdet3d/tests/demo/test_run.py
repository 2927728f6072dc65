"""The demo as a whole, tiny; and its page in a real browser."""

import argparse
import base64
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from influencer_mmdet3d import cli
from influencer_mmdet3d.data.synthetic import write_s3dis
from influencer_mmdet3d.demo import run as demo
from influencer_mmdet3d.demo.train import CRITERIA, demo_config, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "a <b>out"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TRAIN_ROOMS": 2, "TEST_ROOMS": 2, "SHOWN_ROOMS": 2, "POINTS": 2_048}.items():
            patch.setattr(demo, name, value)
        parser = argparse.ArgumentParser()
        demo.add_arguments(parser)
        args = parser.parse_args(
            ["--out", str(out), "--steps", "6", "--objects", "5", "8", "--seed", "3", "--seeds", "2"]
        )
        assert demo.run(args) == 0
    return out


def test_result_follows_the_repositorys_contract(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result.keys() == {"package", "title", "page", "picture", "figures", "synthetic", "seconds"}
    assert result["package"] == "influencer-mmdet3d"
    assert all(isinstance(label, str) and isinstance(value, str) for label, value in result["figures"])
    assert len(result["figures"]) == 8
    assert [label for label, _ in result["figures"][:2]] == [f"instances found, {name}" for name in CRITERIA.values()]
    assert all(re.fullmatch(r"\d+ of \d+", value) for _, value in result["figures"][:2])
    assert all(re.fullmatch(r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", value) for _, value in result["figures"][2:])
    assert "synthetic" in result["synthetic"] and result["seconds"] > 0
    assert (finished / result["picture"]).read_bytes().startswith(b"\x89PNG")
    assert not list(finished.glob(".*.part"))


def test_page_stands_alone(finished):
    page = (finished / "index.html").read_text()
    assert "__" not in page.split("<script")[0]
    assert "http" not in page and 'src="data:image/png;base64,' in page
    assert "a <b>out" not in page and "a &lt;b&gt;out" in page
    embedded = page.split('id="data" type="application/json">')[1].split("</script>")[0]
    data = json.loads(embedded)
    room = data["rooms"][0]
    assert len(base64.b64decode(room["xyz"])) == room["count"] * 6 == 2_048 * 6
    assert set(room["shown"]) == {"truth", *CRITERIA}


def test_configs_differ_in_the_criterion_only(tmp_path):
    configs = [demo_config(name, tmp_path, tmp_path, steps=50, seed=4).to_dict() for name in CRITERIA]
    criteria = [config["model"].pop("criterion") for config in configs]
    for config in configs:
        config["custom_hooks"][0].pop("description")
    assert configs[0] == configs[1]
    assert criteria[0].pop("type") == "InfluencerCriterion" and criteria[1].pop("type") == "DemoHungarianCriterion"
    assert criteria[0] == criteria[1], "loss weights are the same"
    assert configs[0]["train_dataloader"]["dataset"]["length"] == 50 * configs[0]["train_dataloader"]["batch_size"]
    assert configs[0]["randomness"]["seed"] == configs[0]["train_dataloader"]["dataset"]["seed"] == 4


def test_config_refuses(tmp_path):
    with pytest.raises(ValueError, match="no demo config 'sinkhorn'; known: influencer, hungarian"):
        demo_config("sinkhorn", tmp_path, tmp_path, steps=50)
    with pytest.raises(ValueError, match="steps must be at least 5, got 2"):
        demo_config("influencer", tmp_path, tmp_path, steps=2)


@pytest.mark.parametrize("name", CRITERIA)
def test_training_learns_a_room(tmp_path, name):
    write_s3dis(tmp_path, areas=[1, 5], rooms_per_area=1, seed=0, points_per_room=1_024, objects=(5, 5))
    changes = {
        "model.decoder.num_queries": 24,
        "train_dataloader.dataset.num_points": 512,
        "val_dataloader.dataset.areas": [1],
        "train_cfg.val_interval": 80,
        "val_evaluator.min_points": 20,
        "optim_wrapper.optimizer.lr": 4e-3,
    }
    cfg = demo_config(name, tmp_path, tmp_path / "work", steps=80, changes=changes)
    torch.set_num_threads(1)
    trained = train(name, cfg)
    assert [step for step, _ in trained.scores] == [80]
    assert trained.losses[0][0] == 1 and trained.losses[-1][0] == 80
    assert trained.losses[-1][1] < 0.5 * trained.losses[0][1]
    assert trained.final["ap25"] > 0.2
    assert [room["name"] for room in trained.rooms] == ["Area_1_room_1"]


def test_the_same_seed_gives_the_same_training(tmp_path):
    write_s3dis(tmp_path, areas=[1, 5], rooms_per_area=1, seed=0, points_per_room=1_024, objects=(5, 5))
    changes = {"model.decoder.num_queries": 16, "train_dataloader.dataset.num_points": 256}
    torch.set_num_threads(1)
    losses = [
        train("influencer", demo_config("influencer", tmp_path, tmp_path / "work", steps=5, changes=changes)).losses
        for _ in range(2)
    ]
    assert losses[0] == losses[1]


def test_missing_packages_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert "the demo needs matplotlib and mmdet3d. Install with: pip install" in capsys.readouterr().err


def test_wrong_arguments_are_explained(tmp_path, capsys):
    assert cli.main(["demo", "--out", str(tmp_path / "out"), "--objects", "9", "4", "--quiet"]) == 2
    assert "objects must be (low, high)" in capsys.readouterr().err
    assert cli.main(["demo", "--out", str(tmp_path / "out"), "--seeds", "0"]) == 2
    assert "--seeds must be at least 1, got 0" in capsys.readouterr().err


def browser_path():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def page(finished):
    path = browser_path()
    if path is None:
        message = "no Chromium on the PATH: the page was not opened in a browser"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=path, args=flags)
        opened = browser.new_page(viewport={"width": 1100, "height": 900})
        opened.errors = []
        opened.on("console", lambda message: message.type == "error" and opened.errors.append(message.text))
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.on("request", lambda request: request.url.startswith("http") and opened.errors.append(request.url))
        opened.goto(Path(finished / "index.html").resolve().as_uri())
        settle(opened)
        yield opened
        assert opened.errors == []
        browser.close()


def settle(opened):
    opened.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(opened, name):
    """Return the colours of a canvas with the number of pixels of each."""
    return opened.evaluate(
        """name => {
          const canvas = document.getElementById(name);
          const image = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          const data = new Uint32Array(image.data.buffer);
          const counts = {};
          for (const value of data) counts[value] = (counts[value] || 0) + 1;
          return counts;
        }""",
        name,
    )


def test_both_views_show_points(page):
    for name in ("left", "right"):
        counts = pixels(page, name)
        background = max(counts.values())
        assert sum(counts.values()) - background > 2_000
    assert len(pixels(page, "left")) > 8, "the truth has a colour for each instance"
    assert page.inner_text(".panel output").endswith("instances")


@pytest.mark.parametrize("view", ["truth", "influencer", "hungarian", "photo"])
def test_every_view_can_be_chosen(page, view):
    before = pixels(page, "left")
    page.select_option(".panel >> nth=0 >> select", view)
    settle(page)
    after = pixels(page, "left")
    assert (after == before) == (view == "truth")
    if view == "photo":
        assert len(after) > 200


def test_controls_act(page):
    seen = pixels(page, "left")

    def changed(action):
        nonlocal seen
        action()
        settle(page)
        now = pixels(page, "left")
        different, seen = now != seen, now
        return different

    assert changed(lambda: page.uncheck("#ceiling"))
    assert changed(lambda: page.uncheck("#near"))
    assert changed(lambda: page.select_option("#by", "class"))
    assert changed(lambda: page.select_option("#room", "1"))
    assert changed(lambda: page.fill("#size", "8"))
    start = dict(seen)

    def drag():
        page.locator("#right").scroll_into_view_if_needed()
        box = page.locator("#right").bounding_box()
        page.mouse.move(box["x"] + 200, box["y"] + 200)
        page.mouse.down()
        page.mouse.move(box["x"] + 320, box["y"] + 240, steps=4)
        page.mouse.up()

    assert changed(drag), "dragging one view turns the other too"
    assert changed(lambda: page.mouse.wheel(0, -400))
    page.click("#reset")
    settle(page)
    assert pixels(page, "left") == start


def test_a_phone_needs_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    first, second = (page.locator(f"#{name}").bounding_box() for name in ("left", "right"))
    assert first["width"] > 340 and second["y"] > first["y"] + first["height"], "one view below the other"


def test_wrong_masks_have_a_colour_of_their_own(page):
    """Red hues are for wrong masks alone: at least 40 degrees away from every instance."""
    hues = page.evaluate(
        """() => [...Array(60).keys(), data.wrong, data.wrong + 1, data.wrong + 2].map(number => {
          const [r, g, b] = instanceColour(number), top = Math.max(r, g, b), span = top - Math.min(r, g, b);
          const h = top === r ? (g - b) / span : top === g ? 2 + (b - r) / span : 4 + (r - g) / span;
          return (60 * h + 360) % 360;
        })"""
    )
    assert all(40 <= hue <= 300 for hue in hues[:60]) and all(hue < 15 or hue > 345 for hue in hues[60:])


def test_pointing_names_what_is_there(page):
    page.locator("#right").scroll_into_view_if_needed()
    box = page.locator("#right").bounding_box()
    texts = set()
    for dx in range(-60, 61, 20):
        for dy in range(0, 81, 20):
            page.mouse.move(box["x"] + box["width"] / 2 + dx, box["y"] + box["height"] / 2 + dy)
            texts.add(page.locator(".panel >> nth=1 >> output").inner_text())
    assert any(text.startswith("truth: ") and "predicted: " in text for text in texts)
