from pathlib import Path

import numpy as np
import pytest
from roborefer_spatial.images import concat, mark, read_rgb
from roborefer_spatial.tasks import derived
from roborefer_spatial.tasks.derived import MADE_NAME, DerivedImages
from roborefer_spatial.tasks.object_views import read_views
from roborefer_spatial.tasks.scenes import scan

FOLDER = Path("train/s1/uid_1")


@pytest.fixture
def views(x3_tree):
    x3_tree.view(1)
    x3_tree.view(2, size_wh=(30, 12))
    return lambda dilated=True: read_views(
        scan(x3_tree.root)[0], use_dilated_mask=dilated, want_inpainted=False, seed=1
    )[0]


def test_a_marked_view_is_the_overlay(views, tmp_path):
    a, _ = views()
    path = DerivedImages(tmp_path, FOLDER, 0.45).marked(a)
    assert path.parent == tmp_path / "marked" / FOLDER
    assert path.name.startswith("01_000001_marked_")
    assert MADE_NAME.search(path.name)
    np.testing.assert_array_equal(read_rgb(path), mark(a.rgb, a.mask, 0.45))


def test_side_by_side_is_a_marked_and_b_as_it_is(views, tmp_path):
    a, b = views()
    path = DerivedImages(tmp_path, FOLDER, 0.45).side_by_side(a, b, "png")
    assert path.name.startswith("01000001_to_02000002_concat_")
    assert MADE_NAME.search(path.name)
    np.testing.assert_array_equal(read_rgb(path), concat(mark(a.rgb, a.mask, 0.45), b.rgb))


def test_jpeg_is_close_and_another_file(views, tmp_path):
    a, b = views()
    made = DerivedImages(tmp_path, FOLDER, 0.45)
    png, jpg = (made.side_by_side(a, b, suffix) for suffix in ("png", "jpg"))
    assert jpg.suffix == ".jpg"
    assert jpg.read_bytes()[:2] == b"\xff\xd8"
    assert np.abs(read_rgb(jpg).astype(int) - read_rgb(png)).mean() < 12


def test_everything_that_decides_the_pixels_is_in_the_name(views, x3_tree, tmp_path, monkeypatch):
    a, b = views()
    names = {DerivedImages(tmp_path, FOLDER, 0.45).marked(a).name}
    names.add(DerivedImages(tmp_path, FOLDER, 0.5).marked(a).name)
    names.add(DerivedImages(tmp_path, FOLDER, 0.45).marked(views(dilated=False)[0]).name)
    before = DerivedImages(tmp_path, FOLDER, 0.45).side_by_side(a, b, "png").name
    x3_tree.view(2, mask=np.zeros((12, 30), bool), size_wh=(30, 12))
    assert DerivedImages(tmp_path, FOLDER, 0.45).side_by_side(a, views()[1], "png").name == before  # B's mask: no
    x3_tree.view(1, size_wh=(26, 18))  # the same name with other pixels
    changed = views()[0]
    names.add(DerivedImages(tmp_path, FOLDER, 0.45).marked(changed).name)
    assert DerivedImages(tmp_path, FOLDER, 0.45).side_by_side(changed, b, "png").name != before
    monkeypatch.setattr(derived, "_VERSION", 99)
    names.add(DerivedImages(tmp_path, FOLDER, 0.45).marked(changed).name)
    assert len(names) == 5


def test_an_image_that_is_there_is_not_made_again(views, tmp_path):
    a, _ = views()
    first = DerivedImages(tmp_path, FOLDER, 0.45)
    path = first.marked(a)
    assert first.made == {path: True}
    stamp = path.stat().st_mtime_ns
    second = DerivedImages(tmp_path, FOLDER, 0.45)
    assert second.marked(a) == path
    assert second.made == {path: False}
    assert path.stat().st_mtime_ns == stamp


def test_asking_twice_counts_once(views, tmp_path):
    made = DerivedImages(tmp_path, FOLDER, 0.45)
    path = made.marked(views()[0])
    assert made.marked(views()[0]) == path
    assert made.made == {path: True}
