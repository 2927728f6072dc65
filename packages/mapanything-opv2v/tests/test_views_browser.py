"""The pages in a headless Chromium: nothing fails, nothing is loaded, what is shown is what the arrays hold."""

import io
import itertools
import math
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from mapanything_opv2v import predictions
from mapanything_opv2v.views import bev, compare, panels, pointcloud, poses, stage
from mapanything_opv2v.views.frame import view_cloud
from mapanything_opv2v.views.sources import RawOptions, load_predicted_frame, load_raw_frame
from PIL import Image

ATTACK = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        message = "no Chromium on the PATH: the pages were not tried in a browser"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic"]
    quiet += ["--no-first-run", "--disable-sync", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=quiet)
        yield made
        made.close()


@pytest.fixture
def open_page(browser):
    """Open a page offline; fail on any console error and on any request beyond the file and its own data."""
    context, problems = browser.new_context(offline=True, viewport={"width": 1200, "height": 800}), []

    def opened(path):
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else problems.append(r.url))
        page.goto(path.as_uri())
        settle(page)
        return page

    yield opened
    context.close()
    assert problems == []


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def differ(a, b):
    """Whether two pictures differ by more than the edges of letters, which the browser draws anew each time."""
    return int((np.abs(a - b).max(axis=-1) > 24).sum()) > 12


def pixels(page, selector="canvas"):
    """Return what is shown once two looks in a row are the same: software drawing may lag behind on a busy machine."""
    last = None
    for _ in range(50):
        settle(page)
        shown = np.asarray(Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")).astype(int)
        if last is not None and not differ(shown, last):
            return shown
        last = shown
    raise AssertionError("the picture does not come to rest")


def colours(page, selector="canvas"):
    return len(np.unique(pixels(page, selector).reshape(-1, 3), axis=0))


@pytest.fixture(scope="module")
def raw_frame(small_town, town_yaml):
    agents = sorted(agent for agent in small_town.agents if agent >= 0)[:2]
    return load_raw_frame(town_yaml, RawOptions(depth_root=small_town.depth_root, agents=agents))


@pytest.fixture
def panorama_page(small_town, town_yaml, tmp_path):
    options = RawOptions(depth_root=small_town.depth_root, layout="panorama")
    frame = load_raw_frame(town_yaml, options)
    panels.write_panels(tmp_path / "panorama.html", frame)
    return frame, tmp_path / "panorama.html"


def read_out(page):
    words = page.locator("#readout > span").all_inner_texts()
    return dict(re.match(r"(.*?) (.*)", text).groups() for text in words)


def point_at(page, canvas, column, row, width, height):
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + (column + 0.5) / width * box["width"], box["y"] + (row + 0.5) / height * box["height"])
    settle(page)


def test_panorama_reads_out_what_the_arrays_hold(panorama_page, open_page):
    frame, path = panorama_page
    page = open_page(path)
    view = frame.views[0]
    width, height = view.size_wh
    canvases = page.locator("figure canvas:not(.ramp)")
    assert canvases.count() == 3
    assert all(
        len(np.unique(pixels(page, f"figure:nth-child({k}) > canvas").reshape(-1, 3), axis=0)) > 3 for k in (1, 2, 3)
    )
    rows, columns = np.nonzero(view.true.has_range())
    sky_rows, sky_columns = np.nonzero(view.true.masks["sky"])
    azimuths, elevations = view.camera.azimuth_elevation()
    cases = [(k % 3, int(rows[i]), int(columns[i])) for k, i in enumerate(range(0, len(rows), len(rows) // 6))]
    for panel, row, column in [*cases, (1, int(sky_rows[0]), int(sky_columns[0]))]:
        point_at(page, canvases.nth(panel), column, row, width, height)
        shown = read_out(page)
        assert shown["pixel"] == f"{column}, {row}"
        value = view.true.range_m[row, column]
        assert shown["range"] == ("sky" if value < 0 else f"{value:.3f} m")
        assert shown["azimuth"] == f"{math.degrees(azimuths[column]):.2f}°"
        assert float(shown["elevation"][:-1]) == pytest.approx(math.degrees(elevations[row]), abs=0.006)
        expected = [name for name, mask in view.true.masks.items() if mask[row, column]]
        assert shown["mask"] == (", ".join(expected) or "none")


def test_panels_zoom_move_and_go_round_together(panorama_page, open_page):
    frame, path = panorama_page
    page = open_page(path)
    before = [pixels(page, f"figure:nth-child({k}) > canvas") for k in (1, 2, 3)]
    box = page.locator("figure canvas:not(.ramp)").first.bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    settle(page)
    under = read_out(page)["pixel"]
    page.mouse.wheel(0, -800)
    settle(page)
    assert page.evaluate("window2d.zoom") == pytest.approx(math.exp(1.2), rel=1e-3)
    assert read_out(page)["pixel"] == under  # zooming keeps what is under the pointer
    after = [pixels(page, f"figure:nth-child({k}) > canvas") for k in (1, 2, 3)]
    assert all(np.abs(a - b).mean() > 1 for a, b in zip(before, after))
    page.keyboard.press("r")
    settle(page)
    assert page.evaluate("window2d.zoom") == 1
    page.mouse.move(box["x"] + 10, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 10 + 0.75 * box["width"], box["y"] + 20)
    page.mouse.up()
    settle(page)  # three quarters of a turn: what stood at a quarter from the left is on the right edge's left now
    width = frame.views[0].size_wh[0]
    assert page.evaluate("window2d.u") == pytest.approx(0.75 * width, abs=2)
    page.select_option("#view", "1")
    settle(page)
    point_at(page, page.locator("figure canvas:not(.ramp)").nth(1), 500, 150, *frame.views[1].size_wh)
    value = frame.views[1].true.range_m[150, 500]
    assert read_out(page)["range"] == ("sky" if value < 0 else "none" if value == 0 else f"{value:.3f} m")


def test_predicted_panels_show_both_ranges(town_predictions, tmp_path, open_page):
    frame = load_predicted_frame(town_predictions)
    panels.write_panels(tmp_path / "p.html", frame)
    page = open_page(tmp_path / "p.html")
    titles = page.locator("figcaption b").all_inner_texts()
    assert titles == [
        *("colour", "predicted range (log scale)", "true range (log scale)"),
        *("difference in range", "predicted masks", "true masks"),
    ]
    view = frame.views[0]
    row, column = (int(k) for k in np.argwhere(view.true.has_range())[7])
    point_at(page, page.locator("figure canvas:not(.ramp)").nth(1), column, row, *view.size_wh)
    shown = set(page.locator("#readout > span").all_inner_texts())
    assert f"predicted range {view.pred.range_m[row, column]:.3f} m" in shown
    assert f"true range {view.true.range_m[row, column]:.3f} m" in shown
    rays = view.camera.rays()[row, column]
    assert f"azimuth {math.degrees(math.atan2(rays[0], rays[2])):.2f}°" in shown


def test_pointcloud_is_drawn_and_its_switches_act(raw_frame, tmp_path, open_page):
    count = pointcloud.write_pointcloud(tmp_path / "cloud.html", raw_frame)
    page = open_page(tmp_path / "cloud.html")
    assert colours(page) > 200
    assert page.evaluate("viewer.scenes[0].points.reduce((sum, part) => sum + part.count, 0)") == count
    everything = pixels(page)
    for selector in ("label[data-group]", "label[data-view]", "[data-layer=cameras]", "[data-layer=boxes]"):
        page.locator(f"{selector} input").first.uncheck()
        assert differ(pixels(page), everything), selector
        page.locator(f"{selector} input").first.check()
        assert not differ(pixels(page), everything), selector
    for name in page.locator("label[data-group]").all():
        name.locator("input").uncheck()
    for layer in ("boxes", "grid", "boxLabels"):
        page.locator(f"[data-layer={layer}] input").uncheck()
    assert colours(page) <= 2  # nothing is left but the ground colour
    hidden = page.evaluate("viewer.scenes[0].points.every(part => !part.visible)")
    assert hidden


def test_pointcloud_colours_size_and_camera(raw_frame, tmp_path, open_page):
    pointcloud.write_pointcloud(tmp_path / "cloud.html", raw_frame)
    page = open_page(tmp_path / "cloud.html")
    start = page.evaluate("JSON.stringify(viewer.scenes[0].camera)")
    seen = [pixels(page)]
    for mode in ("plain", "height"):
        page.select_option("#mode", mode)
        seen.append(pixels(page))
    page.evaluate("$('size').value = 8; $('size').dispatchEvent(new Event('input'))")
    seen.append(pixels(page))
    page.locator("canvas").first.focus()
    for action in (
        lambda: page.click("#top"),
        lambda: page.locator("label[data-view] button").first.click(),
        lambda: page.mouse.wheel(0, 300),
    ):
        page.mouse.move(300, 400)
        action()
        seen.append(pixels(page))
    page.mouse.move(300, 400)
    page.mouse.down()
    page.mouse.move(360, 420)
    page.mouse.up()
    seen.append(pixels(page))
    assert page.evaluate("viewer.scenes[0].camera.yaw") == pytest.approx(-18, abs=1e-6)
    page.keyboard.down("Shift")
    page.mouse.move(300, 400)
    page.mouse.down()
    page.mouse.move(340, 400)
    page.mouse.up()
    page.keyboard.up("Shift")
    seen.append(pixels(page))
    assert all(differ(a, b) for a, b in itertools.pairwise(seen))
    page.keyboard.press("r")
    settle(page)
    assert page.evaluate("JSON.stringify(viewer.scenes[0].camera)") == start


def test_pointing_at_a_point_names_it(raw_frame, tmp_path, open_page):
    pointcloud.write_pointcloud(tmp_path / "cloud.html", raw_frame)
    page = open_page(tmp_path / "cloud.html")
    where = page.evaluate(
        """() => {
          const scene = viewer.scenes[0], box = scene.canvas.getBoundingClientRect(), part = scene.points[1];
          for (let i = 0; i < part.count; i++) {
            const [x, y, w] = scene.project(part.xyz.subarray(3 * i, 3 * i + 3));
            if (w > 0 && x > 50 && y > 50 && x < box.width - 50 && y < box.height - 50)
              return [box.left + x, box.top + y];
          }
        }"""
    )
    page.mouse.move(*where)
    settle(page)
    text = page.locator(".stage output").inner_text()
    found = re.fullmatch(r"(.*) · x (\S+), y (\S+), z (\S+) m · (\S+) m from its camera", text)
    assert found, text
    view = next(v for v in raw_frame.views if f"{stage.vehicle_name(v.agent_id)} {v.name}" == found[1])
    axes = stage.Stage.around(raw_frame.views[0].true.T_world_cam)
    every = axes.points(view_cloud(view, "gt", "gt", 10**9, np.random.default_rng(0)).xyz)
    distances = np.abs(every - [float(k) for k in found.groups()[1:4]]).max(axis=1)
    assert distances.min() < 0.006  # it is one of the view's points, in the page's axes
    centre = axes.points(view.true.T_world_cam[:3, 3])
    assert np.linalg.norm(every[distances.argmin()] - centre) == pytest.approx(float(found[5]), abs=0.011)


def test_predicted_and_true_cameras(town_predictions, tmp_path, open_page):
    frame = load_predicted_frame(town_predictions)
    pointcloud.write_pointcloud(tmp_path / "p.html", frame)
    page = open_page(tmp_path / "p.html")
    assert "predicted poses" in page.title()
    assert page.locator("[data-layer=truth]").count() == 1
    before = pixels(page)
    page.locator("[data-layer=truth] input").uncheck()
    assert differ(pixels(page), before)
    page.select_option("#mode", "value")
    assert "error of the distance" in page.locator("#legend").inner_text()
    pointcloud.write_pointcloud(tmp_path / "t.html", frame, pose_source="gt")
    truth = open_page(tmp_path / "t.html")
    assert "true poses" in truth.title() and truth.locator("[data-layer=truth]").count() == 0


def test_rig_and_bev(raw_frame, tmp_path, open_page):
    poses.write_rig(tmp_path, raw_frame)
    page = open_page(tmp_path / "rig.html")
    assert colours(page) > 20 and page.locator("#pointControls").is_hidden()
    assert page.locator("#more tbody tr").count() == 8
    options = bev.BevOptions(reach_m=20, cell_m=0.5)
    made = bev.write_bev(tmp_path, raw_frame, options)
    page = open_page(tmp_path / "bev.html")
    canvas = page.locator("figure canvas:not(.ramp)").first
    canvas.scroll_into_view_if_needed()
    row, column = (int(k) for k in np.argwhere(made.count[:40] > 1)[-1])
    point_at(page, canvas, column, row, 80, 80)
    shown = read_out(page)
    assert shown["points"] == str(made.count[row, column])
    assert (
        shown["height"] == f"{made.height_m[row, column]:.2f} m".replace("-0.00", "0.00")
        or shown["height"] == "-0.00 m"
    )
    assert shown["ahead"] == f"{20 - (row + 0.5) / 2:.2f} m" and shown["left"] == f"{20 - (column + 0.5) / 2:.2f} m"
    before = pixels(page, "figure:nth-child(1) > canvas")
    page.locator("#overlays input").first.uncheck()
    assert differ(pixels(page, "figure:nth-child(1) > canvas"), before)


def test_compare_turns_both_together(raw_frame, town_predictions, tmp_path, open_page):
    a, b = compare.load_side(town_predictions), compare.load_side(town_predictions, pose_source="gt")
    compare.write_compare(tmp_path, a, b)
    page = open_page(tmp_path / "compare.html")
    assert all(colours(page, f"#{name} canvas") > 20 for name in ("stageA", "stageB"))
    before = [pixels(page, f"#{name} canvas") for name in ("stageA", "stageB")]
    page.mouse.move(200, 400)
    page.mouse.down()
    page.mouse.move(260, 400)
    page.mouse.up()
    after = [pixels(page, f"#{name} canvas") for name in ("stageA", "stageB")]
    assert all(differ(x, y) for x, y in zip(before, after))
    page.select_option("#layout", "over")
    assert page.locator("#stageB").is_hidden()
    page.select_option("#mode", "plain")
    both = pixels(page, "#stageA canvas")
    page.locator("label[data-group^='B:'] input").first.uncheck()
    assert differ(pixels(page, "#stageA canvas"), both)
    assert "A to B" in page.locator("#more").inner_text()


def test_hostile_names_do_nothing(town_predictions, tmp_path, open_page):
    made = predictions.load_predictions(town_predictions)
    path = predictions.save_predictions(
        tmp_path, replace(made, meta=replace(made.meta, checkpoint=ATTACK, config=ATTACK))
    )
    frame = replace(load_predicted_frame(path), name=f"test/{ATTACK}/000068")
    frame = replace(frame, views=tuple(replace(view, name=ATTACK) for view in frame.views))
    panels.write_panels(tmp_path / "panorama.html", frame)
    pointcloud.write_pointcloud(tmp_path / "pointcloud.html", frame)
    poses.write_rig(tmp_path, frame)
    bev.write_bev(tmp_path, frame, bev.BevOptions(reach_m=10, cell_m=0.5))
    side = compare.load_side(path)
    side = replace(side, title=ATTACK, frame=replace(side.frame, name=f"test/{ATTACK}/000068"))
    compare.write_compare(tmp_path, side, side)
    for name in ("panorama", "pointcloud", "rig", "bev", "compare"):
        page = open_page(tmp_path / f"{name}.html")
        assert ATTACK in page.title() and ATTACK in page.inner_text("h1")
        assert page.locator("img").count() == 0 and page.locator("script").count() == 2
