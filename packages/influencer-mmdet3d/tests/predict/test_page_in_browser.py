"""The page of predictions in a real browser, at desktop and phone width."""

import os
import shutil

import numpy as np
import pytest
from influencer_mmdet3d.data.clouds import Cloud
from influencer_mmdet3d.predict.page import write_page
from influencer_mmdet3d.predict.results import boxes, collect
from influencer_mmdet3d.predict.stitch import Piece

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def room():
    """A floor, a chair on it, a ceiling above; a second chair that nobody is sure of."""
    u, v = np.meshgrid(np.linspace(0, 4, 120), np.linspace(0, 4, 120), indexing="ij")
    floor = np.stack([u, v, 0 * u], -1).reshape(-1, 3)
    ceiling = floor + np.array([0, 0, 2.5])
    chairs = [
        np.random.default_rng(k).uniform(0, 0.8, (4000, 3)) + np.array([1 + 1.5 * k, 1 + 1.5 * k, 0]) for k in range(2)
    ]
    xyz = np.concatenate([floor, ceiling, *chairs])
    parts = np.repeat(np.arange(4), [len(floor), len(ceiling), 4000, 4000])
    semantic = np.array([0, 1, 2, 2])[parts]
    pieces = [Piece(0, np.flatnonzero(parts == 2), 0, 0.9), Piece(0, np.flatnonzero(parts == 3), 0, 0.3)]
    found = collect(pieces, len(xyz), ["chair"], semantic, ["floor", "ceiling", "chair"])
    cloud = Cloud(xyz.astype(np.float64), np.full(xyz.shape, 200, np.uint8))
    return write_page("room.ply", cloud.points(), found, boxes(found, cloud.xyz), 0.5, 100_000)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        message = "no Chromium on the PATH: the page was not opened in a browser"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(room(), encoding="utf-8")
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=path, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1100, "height": 900})
        errors = []
        opened.on("console", lambda message: message.type == "error" and errors.append(message.text))
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("request", lambda request: request.url.startswith("http") and errors.append(request.url))
        opened.goto(file.resolve().as_uri())
        yield opened
        assert errors == []
        browser.close()


def settle(page):
    page.wait_for_function("drawn >= cloud.count && !timer")


def colours(page):
    """The colours on the canvas that cover more than 300 pixels, without the background."""
    settle(page)
    return page.evaluate(
        """() => {
          const counts = {};
          for (const value of frame.pixels) counts[value] = (counts[value] || 0) + 1;
          delete counts[0xfffaf7f5];
          return Object.keys(counts).filter(key => counts[key] > 300).length;
        }"""
    )


def look_at(page, number):
    """Move the mouse to a pixel behind which there is a point of an instance, -1 for none."""
    settle(page)
    place = page.evaluate(
        """number => {
          const own = Array.from(frame.pick, (point, at) => point >= 0 && instance[point] === number ? at : -1)
            .filter(at => at >= 0);
          const at = own[own.length >> 1];
          return at === undefined ? null : [at % frame.width / frame.ratio, Math.floor(at / frame.width) / frame.ratio];
        }""",
        number,
    )
    assert place is not None, "no pixel shows it"
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    return page.inner_text("#read")


def test_what_the_page_shows_and_reads(page):
    assert page.inner_text("#counts") == "1 of 2 instances, 36,800 points"
    page.check("#ceiling")
    assert colours(page) == 2, "the sure chair, and grey"
    assert look_at(page, 0).startswith("chair, instance 0: score 0.90, 4,000 points, 0.80 x 0.80 x 0.80 m")
    assert look_at(page, 1) == "chair, in no instance", "its score is below the filter"
    assert look_at(page, -1) == "floor, in no instance"
    page.evaluate("() => { $('score').value = 0.2; $('score').dispatchEvent(new Event('input')); }")
    assert page.inner_text("#counts").startswith("2 of 2 instances") and colours(page) == 3
    assert look_at(page, 1).startswith("chair, instance 1: score 0.30")
    page.select_option("#view", "class")
    assert colours(page) == 2 and "chair (2)" in page.inner_text("#legend")
    page.select_option("#view", "colour")
    assert colours(page) == 1
    page.select_option("#view", "instance")
    page.check("#rest")
    assert colours(page) == 2, "chairs alone"
    page.uncheck("#rest")


def test_the_ceiling_can_be_hidden(page):
    hidden = "() => Array.from(frame.pick).filter(point => point >= 0 && cloud.xyz[3 * point + 2] > 2).length"
    page.uncheck("#ceiling")
    settle(page)
    assert page.evaluate(hidden) > 1000
    page.check("#ceiling")
    settle(page)
    assert page.evaluate(hidden) == 0


def test_turning_draws_part_and_then_all(page):
    page.evaluate("() => { budget = 5000; }")
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 220)
    page.wait_for_function("camera.yaw !== CAMERA.yaw")
    page.mouse.up()
    settle(page)
    assert page.evaluate("drawn === cloud.count")
    page.click("#reset")
    assert page.evaluate("camera.yaw === CAMERA.yaw")


def test_nothing_is_cut_off_at_phone_width(page):
    page.set_viewport_size({"width": 390, "height": 800})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("$('canvas').getBoundingClientRect().width > 350")
