import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps
from roborefer_spatial.tasks.masks import sample_seed
from roborefer_spatial.tasks.object_views import Unusable, read_views
from roborefer_spatial.tasks.scenes import scan


def read(tree, *, dilated=True, inpainted=True, seed=42):
    return read_views(scan(tree.root)[0], use_dilated_mask=dilated, want_inpainted=inpainted, seed=seed)


def only_skip(tree, **options):
    views, skipped = read(tree, **options)
    assert len(skipped) == 1
    return views, skipped[0]


def test_a_view_is_read(x3_tree):
    mask = np.zeros((18, 24), dtype=bool)
    mask[4:7, 10:15] = True
    x3_tree.view(1, mask=mask)
    (view,), skipped = read(x3_tree, dilated=False)
    assert skipped == []
    assert (view.size_wh, view.pixel) == ((24, 18), (12, 5))
    assert view.point == (12.5 / 24, 5.5 / 18)
    assert view.seed == sample_seed(42, "s1", "1", "01_000001")
    assert view.rgb.shape == (18, 24, 3)
    assert view.inpainted.name == "01_000001_inpainted.png"
    assert len(view.digests) == 4


def test_dilated_and_raw_masks_are_chosen(x3_tree):
    mask = np.zeros((18, 24), dtype=bool)
    mask[4, 10] = True
    x3_tree.view(1, mask=mask)
    assert read(x3_tree, dilated=False)[0][0].mask.sum() == 1
    assert read(x3_tree, dilated=True)[0][0].mask.sum() == 5


def test_an_empty_mask_is_not_visible(x3_tree):
    x3_tree.view(1, visible=False)
    (view,), skipped = read(x3_tree)
    assert (view.pixel, view.point, view.inpainted) == (None, None, None)
    assert skipped == []


@pytest.mark.parametrize(
    ("dilated", "missing", "reason", "detail"),
    [
        (
            True,
            "mask_dialated",
            "no_dilated_mask",
            "expected 01_000001_mask_dilated.png, or build with --no-use-di",
        ),
        (False, "mask", "no_mask", "expected 01_000001_mask.png, or build with --use-dilated-mask"),
    ],
)
def test_the_other_mask_does_not_step_in(x3_tree, dilated, missing, reason, detail):
    x3_tree.view(1, without=(missing,))
    views, skip = only_skip(x3_tree, dilated=dilated)
    assert (views, skip.where, skip.reason) == ([], "train/s1/uid_1/01", reason)
    assert detail in skip.detail
    assert len(read(x3_tree, dilated=not dilated)[0]) == 1


@pytest.mark.parametrize("kind", ["mask", "mask_dialated"])
def test_a_mask_of_another_size_drops_the_view(x3_tree, kind):
    stem = x3_tree.view(1)
    x3_tree.view(2)
    Image.new("L", (48, 36), 255).save(f"{stem}_{kind}.png")
    views, skip = only_skip(x3_tree)
    assert [view.files.number for view in views] == [2]
    assert skip.reason == "size_mismatch"
    assert skip.detail == f"01_000001_{kind}.png is 48x36, the original image is 24x18"


@pytest.mark.parametrize("kind", ["original", "mask", "mask_dialated"])
def test_unreadable_files_are_named(x3_tree, kind):
    stem = x3_tree.view(1)
    path = stem.with_name(f"{stem.name}_{kind}.png")
    path.write_bytes(path.read_bytes()[:40])
    views, skip = only_skip(x3_tree)
    assert (views, skip.reason) == ([], "unreadable")
    assert skip.detail.startswith(f"01_000001_{kind}.png: not a readable image")


def test_a_folder_in_place_of_a_file_is_unreadable(x3_tree):
    stem = x3_tree.view(1, without=("original",))
    stem.with_name(f"{stem.name}_original.png").mkdir()
    assert "Is a directory" in only_skip(x3_tree)[1].detail


def test_masks_that_disagree_about_visibility(x3_tree):
    stem = x3_tree.view(1)
    Image.new("L", (24, 18), 0).save(f"{stem}_mask.png")
    views, skip = only_skip(x3_tree)
    assert (views, skip.reason) == ([], "mask_disagreement")
    assert skip.detail == "01_000001_mask.png is empty, the other mask of the view is not"


def test_inpainted_pictures_are_checked_for_task_2b_only(x3_tree):
    stem = x3_tree.view(1, without=("inpainted",))
    views, skip = only_skip(x3_tree)
    assert (len(views), views[0].inpainted, skip.reason) == (1, None, "no_inpainted")
    assert read(x3_tree, inpainted=False)[1] == []
    inpainted = stem.with_name(f"{stem.name}_inpainted.png")
    Image.new("RGB", (12, 9)).save(inpainted)
    assert only_skip(x3_tree)[1].detail == "01_000001_inpainted.png is 12x9, the original 24x18"
    shutil.copy(f"{stem}_original.png", inpainted)
    assert only_skip(x3_tree)[1].reason == "no_change"
    inpainted.write_bytes(b"rubbish")
    assert only_skip(x3_tree)[1].reason == "unreadable"


def test_a_picture_that_does_not_decode_says_so_when_it_is_needed(x3_tree):
    x3_tree.view(1)
    (view,), _ = read(x3_tree)
    view._original = b"rubbish"
    with pytest.raises(Unusable, match=r"01_000001_original\.png: not a readable image") as caught:
        view.rgb  # noqa: B018
    assert caught.value.files is view.files


def test_masks_that_are_jpeg_inside_are_left_out(x3_tree):
    stem = x3_tree.view(1)
    Image.open(f"{stem}_mask.png").convert("L").save(f"{stem}_mask.png", "JPEG")
    assert only_skip(x3_tree)[1].reason == "lossy_mask"


def save_turned(path, array, turn):
    """Save upright pixels so that a viewer shows them, by a tag that says how to turn what is stored."""
    stored = {
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.swapaxes(0, 1),
        6: np.rot90(array),
        7: array[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(array, -1),
    }[turn]
    tag = Image.Exif()
    tag[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=tag)


@pytest.mark.parametrize("turn", range(2, 9))
def test_a_picture_with_an_exif_orientation_is_read_upright(x3_tree, turn):
    """The oracle turns the stored pixels by hand; Pillow's own reading of the tag agrees."""
    stem = x3_tree.view(1)
    upright = np.asarray(Image.open(f"{stem}_original.png"))
    mask = np.asarray(Image.open(f"{stem}_mask.png"))
    save_turned(f"{stem}_original.png", upright, turn)
    shown = ImageOps.exif_transpose(Image.open(f"{stem}_original.png"))
    assert np.array_equal(np.asarray(shown), upright)
    (view,), skipped = read(x3_tree)
    assert skipped == []
    assert view.size_wh == (24, 18)
    assert np.array_equal(view.rgb, upright)
    assert list(view.turned) == [view.files.original]
    save_turned(f"{stem}_mask_dialated.png", mask, turn)
    save_turned(f"{stem}_inpainted.png", upright // 2, turn)
    (view,), _ = read(x3_tree)
    assert np.array_equal(view.mask, mask > 0)
    assert set(view.turned) == {view.files.original, view.files.mask_dilated, view.files.inpainted}


def test_a_mask_of_the_pixels_before_they_are_turned_is_left_out(x3_tree):
    stem = x3_tree.view(1)
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.open(f"{stem}_original.png").save(f"{stem}_original.png", exif=tag)
    views, skip = only_skip(x3_tree)
    assert (views, skip.reason) == ([], "rotated")
    assert "mask.png is 24x18, the original image is 18x24 when it is turned by its EXIF orientation" in skip.detail
