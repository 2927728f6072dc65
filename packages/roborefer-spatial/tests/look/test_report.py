"""The page, as text and in a headless Chromium."""

import argparse
import json
import os
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial.look import curves, report
from roborefer_spatial.look.thumbnails import Thumbnails
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring.score import score

ATTACK = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> [(0.1, 0.1)]"


@pytest.fixture
def scores(make_sample):
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    samples = [
        make_sample((3, 3), mask=left, images=True),
        make_sample((3, 3), mask=left, images=True),
        make_sample(images=True, scene="scene9"),
        make_sample((3, 3), mask=left, images=True, task="t1_concat"),
        make_sample((3, 3), mask=left, images=True),
    ]
    texts = ["[(0.1, 0.1), (0.9, 0.9)]", ATTACK, "NOT_VISIBLE", "[(0.55, 0.5)]", "[(7, 7)]"]
    return score(samples, [Prediction(s.id, t) for s, t in zip(samples, texts)])


def embedded(page, name):
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)[1])


def test_the_page_holds_every_sample_once_and_loads_nothing(scores, tmp_path):
    out = tmp_path / "deep" / "page.html"
    report.write_report([report.Run("model", scores)], out, title="A & <b>", bootstrap=10)
    page = out.read_text()
    assert "<title>A &amp; &lt;b&gt;</title>" in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    items = embedded(page, "data")["items"]
    assert [item["outcome"] for item in items] == ["partly hit", "hit", "correct NOT_VISIBLE", "hit", "miss"]
    assert [item["reason"] for item in items] == ["points", "points", "not_visible", "points", "out_of_range"]
    assert items[1]["text"] == ATTACK
    assert (items[0]["score"], items[2]["score"], items[2]["mask"], items[2]["truth"]) == (0.5, 1, None, None)
    pictures = embedded(page, "pictures")
    assert len(pictures) == 4 * 2 + 1 + 4  # 9 images, 4 masks
    assert all(picture.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for picture in pictures)
    assert list(tmp_path.joinpath("deep").iterdir()) == [out]


def test_untrusted_text_stays_inside_its_script_element(scores, tmp_path):
    report.write_report([report.Run("<i>", scores)], tmp_path / "page.html", title="t", bootstrap=0)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<script") == page.count("</script>") == 3
    assert 'onerror="' not in page
    assert "&lt;i&gt;: t1_multi/val" in page


def test_intervals_are_explained_where_there_are_any(make_sample, tmp_path):
    for scenes, explained in ((["a"], False), (["a", "b", "c"], True)):
        samples = [make_sample((3, 3), scene=scene, images=True) for scene in scenes]
        found = score(samples, [Prediction(sample.id, sample.answer) for sample in samples[1:]])
        out = tmp_path / f"{len(scenes)}.html"
        report.write_report([report.Run("m", found)], out, title="t", bootstrap=20)
        page = out.read_text()
        assert ("Small: 95 % interval" in page) is explained
        assert ("No intervals: they need two scenes or more" in page) is not explained


def test_pictures_in_a_folder(scores, tmp_path):
    report.write_report([report.Run("m", scores)], tmp_path / "page.html", title="t", embed=False, bootstrap=0)
    pictures = embedded((tmp_path / "page.html").read_text(), "pictures")
    assert len(set(pictures)) == 13
    assert all((tmp_path / picture).is_file() for picture in pictures)
    assert all(picture.startswith("page_files/") for picture in pictures)


def test_names_must_differ(scores, tmp_path):
    with pytest.raises(ValueError, match=re.escape("runs with different names, got ['m', 'm']")):
        report.write_report([report.Run("m", scores)] * 2, tmp_path / "page.html", title="t")
    with pytest.raises(ValueError, match=re.escape("got []")):
        report.write_report([], tmp_path / "page.html", title="t")


def test_too_much_for_one_file(make_sample, tmp_path):
    sample = make_sample((3, 3), images=True)
    thumbnails = Thumbnails(64, None, limit_bytes=2000)
    with pytest.raises(ValueError, match="do not belong into one page: pass --images folder"):
        for path in sample.image:
            thumbnails.image(path)
    with pytest.raises(ValueError, match="--image-px is 8: expected at least 16"):
        Thumbnails(8, None, 1)


def test_thumbnails_are_shared_and_masks_stand_where_the_answer_is(make_sample, tmp_path):
    mask = np.zeros((100, 200), bool)
    mask[50, 100] = True  # one pixel survives being made smaller
    sample = make_sample((100, 50), size_wh=(200, 100), mask=mask, task="t1_concat", images=True, name="one")
    thumbnails = Thumbnails(100, tmp_path / "files", 1)
    assert thumbnails.image(sample.image[0]) == thumbnails.image(sample.image[0]) == 0
    assert thumbnails.mask(sample) == thumbnails.mask(sample) == 1
    picture = Image.open(tmp_path / thumbnails.sources[1]).convert("RGBA")
    assert picture.size == (100, 25)
    rows, cols = np.nonzero(np.asarray(picture)[..., 3])
    assert rows.tolist() == [12]
    assert cols.tolist() == [75]


def test_curves_by_hand(make_sample):
    left = np.ones((48, 64), bool)
    samples = [make_sample((32, 24), mask=left) for _ in range(4)] + [make_sample()]
    x, y = 32.5 / 64, 24.5 / 48
    texts = [f"[({x + 0.05}, {y})]", f"[({x}, {y - 0.1})]", "NOT_VISIBLE", "[(3, 3)]", "[(0.5, 0.5)]"]
    scores = score(samples, [Prediction(s.id, t) for s, t in zip(samples, texts)])
    curve = curves.success_curve("<a>", scores, np.ones(5, bool))
    assert [curves.at(curve, d) for d in (0.0, 0.049, 0.051, 0.099, 0.101, 0.25)] == [
        0,
        0,
        0.25,
        0.25,
        0.5,
        0.5,
    ]
    root = ElementTree.fromstring(curves.svg([curve]))
    path = next(e for e in root if e.tag.endswith("path")).get("d")
    heights = [float(point.split(",")[1]) for point in path[1:].split(" L")]
    assert heights[0] > heights[60] > heights[-1]
    assert "&lt;a&gt;" in curves.svg([curve])


def run(*arguments):
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return report.run(parser.parse_args([str(argument) for argument in arguments]))


def test_the_command(make_sample, tmp_path, capsys):
    samples = [make_sample((3, 3), images=True) for _ in range(3)]
    files = make_sample.write(samples), make_sample.answers({s.id: s.answer for s in samples})
    out = tmp_path / "page.html"
    arguments = ["--samples", files[0], "--predictions", files[1], "--out", out]
    assert run(*arguments, "--names", "mine", "--limit", 2, "--image-px", 32) == 0
    assert "2 samples" in capsys.readouterr().out
    assert {item["run"] for item in embedded(out.read_text(), "data")["items"]} == {"mine"}
    assert "No baseline is shown: predict --backend matcher answers the same questions" in out.read_text()
    bar = make_sample.answers({s.id: "[(0.5, 0.5)]" for s in samples}, "matcher.jsonl")
    assert run(*arguments, "--baseline", bar, "--image-px", 32) == 0
    assert [item["run"] for item in embedded(out.read_text(), "data")["items"]][2:4] == ["answers", "baseline matcher"]
    assert "<td>baseline matcher: t1_multi/val</td><td>3</td><td>0.000" in out.read_text()
    assert "No baseline is shown" not in out.read_text()
    with pytest.raises(ValueError, match=r"--baseline names 2 file\(s\), and --samples 1 different one\(s\)"):
        run(*arguments, "--baseline", bar, bar)
    both = ["--samples", *files[:1] * 2, "--predictions", files[1], bar, "--names", "one", "two", "--out", out]
    assert run(*both, "--baseline", bar, "--image-px", 32) == 0  # two models, one file of questions, one bar
    runs = [item["run"] for item in embedded(out.read_text(), "data")["items"]]
    assert set(runs) == {"one", "two", "baseline matcher"} and len(runs) == 9
    with pytest.raises(ValueError, match=re.escape("--names gives 2 name(s) for 1 file(s)")):
        run(*arguments, "--names", "a", "b")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        message = "no Chromium on the PATH: the page was not tried in a browser"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    quiet += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=quiet)
        yield made
        made.close()


@pytest.fixture
def open_page(browser):
    """Open a page offline; fail on any console error and on any request beyond the file and its pictures."""
    context, problems = browser.new_context(offline=True, viewport={"width": 1300, "height": 900}), []

    def opened(path):
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else problems.append(r.url))
        page.goto(path.as_uri())
        return page

    yield opened
    context.close()
    assert problems == []


@pytest.fixture
def two_runs(make_sample, tmp_path):
    """Two models on three samples: both right, only the first, only the second."""
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    samples = [make_sample((3, 3), mask=left, images=True) for _ in range(3)]
    texts = {"one": ["[(0.1, 0.1)]", "[(0.2, 0.1)]", "[(0.9, 0.9)]"], "two": ["[(0.1, 0.1)]", "none", "[(0.3, 0.1)]"]}
    runs = [
        report.Run(name, score(samples, [Prediction(s.id, t) for s, t in zip(samples, said)]))
        for name, said in texts.items()
    ]
    out = tmp_path / "page.html"
    report.write_report(runs, out, title="two", bootstrap=20, start=report.side_by_side("one", "two"))
    return out


def test_two_models_side_by_side(two_runs, open_page):
    page = open_page(two_runs)
    assert ids(page) == ["s00001", "s00001", "s00002", "s00002"]
    assert page.locator(".pair").count() == 2
    first = page.locator(".pair").first.locator(".card")
    assert [card.locator(".badge").inner_text() for card in first.all()] == ["hit", "wrong NOT_VISIBLE"]
    assert [card.locator(".run").inner_text() for card in first.all()] == ["one", "two"]
    page.select_option("#pair", label="two right, one wrong")
    assert ids(page) == ["s00002", "s00002"]
    page.select_option("#pair", label="one and two, all")
    assert len(ids(page)) == 6
    page.select_option("#pair", label="off")
    assert (len(ids(page)), page.locator(".pair").count()) == (6, 0)
    assert not page.locator(".run").first.is_visible()


def test_the_address_keeps_the_filters(two_runs, open_page):
    page = open_page(two_runs)
    page.select_option("#pair", label="off")
    page.select_option("#run", "two")
    page.fill("#search", "s00002")
    assert ids(page) == ["s00002"]
    address = page.url
    assert "run=two" in address and "search=s00002" in address
    page.reload()
    assert (ids(page), page.input_value("#run")) == (["s00002"], "two")
    page.evaluate("location.hash = 'run=nobody&order=id'")
    page.wait_for_function("document.getElementById('order').value === 'id'")
    assert page.input_value("#run") == ""
    page.evaluate("location.hash = ''")
    page.wait_for_function("document.getElementById('order').value === 'file'")
    assert page.locator(".pair").count() == 2


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_cut_off(two_runs, open_page, width):
    page = open_page(two_runs)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(
        "[...document.querySelectorAll('.card')].every(c => c.getBoundingClientRect().right <= innerWidth)"
    )
    assert page.evaluate("[...document.querySelectorAll('.picture')].every(p => p.getBoundingClientRect().height > 60)")
    if width == 1280:
        box = page.locator(".scroll").first
        assert box.evaluate("box => box.scrollWidth <= box.clientWidth")


def test_a_picture_can_be_enlarged(two_runs, open_page):
    page = open_page(two_runs)
    page.locator(".picture").first.click()
    assert page.inner_text("#zoom-name") == "s00001 (one)"
    shown = page.locator("#zoomed .picture").first
    before = shown.bounding_box()["width"]
    page.click("#larger")
    assert shown.bounding_box()["width"] == pytest.approx(1.5 * before, rel=0.05)
    assert page.locator("#zoomed .point.answer").count() == 1
    page.click("#close")
    assert not page.locator("#zoom").is_visible()


def test_the_answer_stands_out_from_the_red_mark(two_runs, open_page):
    """It differs from the truth by its form, and from the mark by its colour."""
    page = open_page(two_runs)
    style = "e => [getComputedStyle(e).backgroundImage.includes('svg'), getComputedStyle(e).borderStyle]"
    assert page.locator(".point.answer").first.evaluate(style) == [True, "none"]
    assert page.locator(".point.truth").first.evaluate(style) == [False, "solid"]


def ids(page):
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")


@pytest.mark.parametrize("embed", [True, False])
def test_the_gallery_in_a_browser(scores, tmp_path, open_page, embed):
    out = tmp_path / "page.html"
    report.write_report([report.Run("model", scores)], out, title="Gallery", bootstrap=20, embed=embed)
    page = open_page(out)
    assert page.title() == "Gallery"  # the attack did not run
    assert len(ids(page)) == 5
    assert ATTACK in page.inner_text("#cards")
    assert page.locator("#cards script, #cards img[src=x]").count() == 0
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator(".point.truth").count() == 4
    assert page.locator(".point.answer").count() == 4  # the one outside is not drawn
    page.select_option("#outcome", "miss")
    assert ids(page) == ["s00004"]
    page.select_option("#outcome", "")
    page.select_option("#set", "t1_concat/val")
    assert ids(page) == ["s00003"]
    truth = page.locator(".point.truth").bounding_box()
    image = page.locator(".picture img").first.bounding_box()
    middle = (truth["x"] + truth["width"] / 2 - image["x"]) / image["width"]
    assert middle == pytest.approx(0.5 + 0.5 * 3.5 / 64, abs=0.005)
    page.select_option("#set", "")
    page.select_option("#reason", "not_visible")
    assert ids(page) == ["s00002"]
    page.select_option("#reason", "")
    page.fill("#low", "0.4")
    page.fill("#high", "0.6")
    assert ids(page) == ["s00000"]
    page.fill("#low", "")
    page.fill("#high", "")
    page.fill("#search", "SCENE9")
    assert ids(page) == ["s00002"]
    page.fill("#search", "")
    page.select_option("#order", "worst")
    assert set(ids(page)[:2]) == {"s00000", "s00004"}  # without a distance
    page.select_option("#order", "best")
    assert ids(page)[0] == "s00002"
    assert page.locator("img.mask").first.is_visible()
    page.uncheck("#masks")
    assert not page.locator("img.mask").first.is_visible()


def test_thousands_of_samples_stay_usable(make_sample, tmp_path, open_page):
    """6,000 samples: 24 cards in the document at a time, and every page of them reachable."""
    sample = make_sample((3, 3), images=True, name="shared")
    row = sample.to_row()
    samples = [type(sample).from_row(row | {"id": f"{i:05d}"}) for i in range(6000)]
    scores = score(samples, [Prediction(s.id, f"[({i / 6000:.4f}, 0.5)]") for i, s in enumerate(samples)])
    out = tmp_path / "page.html"
    report.write_report([report.Run("model", scores)], out, title="many", bootstrap=0)
    assert out.stat().st_size < 6e6
    page = open_page(out)
    assert len(ids(page)) == 24
    assert "6000 of 6000 samples, page 1 of 250" in page.inner_text("#count")
    page.click("#next")
    assert ids(page)[0] == "00024"
    page.select_option("#order", "worst")
    assert ids(page)[0] == "05999"
    page.fill("#search", "0123")
    assert "page 1 of 1" in page.inner_text("#count")
    assert set(ids(page)) == {"00123", "01230", *(f"0123{i}" for i in range(10))} | {
        item.id for item, text in zip(samples, scores.texts) if "0123" in text
    }
