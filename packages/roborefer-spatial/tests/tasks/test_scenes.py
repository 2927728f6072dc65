import pytest
from roborefer_spatial.tasks.scenes import check_leakage, scan


def reasons(uid):
    return [(skip.where, skip.reason) for skip in uid.skipped]


def test_a_tree_is_found_in_order(x3_tree):
    x3_tree.uid(split="validation", scene="s3", uid="2")
    x3_tree.uid(split="train", scene="s2", uid="10")
    x3_tree.uid(split="train", scene="s1", uid="a_b", views=7)
    (x3_tree.folder() / "s1_uid_1_five_frames.json").write_text("[]")
    found = scan(x3_tree.root)
    assert [(u.split, u.scene, u.uid, len(u.views)) for u in found] == [
        ("train", "s1", "1", 0),
        ("train", "s1", "a_b", 7),
        ("train", "s2", "10", 3),
        ("val", "s3", "2", 3),
    ]
    assert found[2].where == "train/s2/uid_10"
    view = found[2].views[1]
    assert (view.number, view.label, view.frame, view.name) == (2, "02", "000002", "02_000002")
    assert view.mask_dilated.name == "02_000002_mask_dialated.png"
    assert view.original.is_absolute()


@pytest.mark.parametrize("name", ["mask_dialated", "mask_dilated"])
def test_both_spellings_of_dilated(x3_tree, name):
    x3_tree.view(1, dilated_name=name)
    assert scan(x3_tree.root)[0].views[0].mask_dilated.name == f"01_000001_{name}.png"


def test_frames_may_hold_underscores_and_kinds(x3_tree):
    x3_tree.view(1, frame="cam_original_7")
    view = scan(x3_tree.root)[0].views[0]
    assert view.frame == "cam_original_7"
    assert view.mask.name == "01_cam_original_7_mask.png"


def test_missing_kinds_are_none(x3_tree):
    x3_tree.view(1, without=("inpainted", "mask"))
    view = scan(x3_tree.root)[0].views[0]
    assert (view.inpainted, view.mask) == (None, None)


def test_a_view_without_original_is_named(x3_tree):
    x3_tree.view(2, without=("original",))
    uid = scan(x3_tree.root)[0]
    assert reasons(uid) == [("train/s1/uid_1/02", "no_original")]
    assert uid.skipped[0].detail == "expected 02_000002_original.png"


def test_two_frames_under_one_number_are_ambiguous(x3_tree):
    x3_tree.view(1, frame="a", without=("mask",))
    x3_tree.view(1, frame="b", without=("original", "inpainted", "mask_dialated"))
    uid = scan(x3_tree.root)[0]
    assert reasons(uid) == [("train/s1/uid_1/01", "ambiguous_view")]
    assert "frames a, b" in uid.skipped[0].detail


def test_two_spellings_at_once_are_ambiguous(x3_tree):
    x3_tree.view(1)
    x3_tree.view(1, dilated_name="mask_dilated")
    uid = scan(x3_tree.root)[0]
    assert reasons(uid) == [("train/s1/uid_1/01", "ambiguous_view")]
    assert "mask_dialated.png, 01_000001_mask_dilated.png" in uid.skipped[0].detail


def test_trees_that_cannot_be_used(tmp_path, x3_tree):
    with pytest.raises(ValueError, match=r"gone: no such folder; --data-root is the folder that holds train/"):
        scan(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected split folders train, val, validation; found nothing"):
        scan(tmp_path / "empty")
    (tmp_path / "flat" / "s1" / "uid_1").mkdir(parents=True)
    with pytest.raises(ValueError, match="found s1"):
        scan(tmp_path / "flat")
    (x3_tree.root / "train" / "s1" / "not_an_object").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no folder \{scene\}/uid_\{uid\} below train"):
        scan(x3_tree.root)
    x3_tree.view(1, split="val", scene="s2")
    (x3_tree.root / "validation").mkdir()
    with pytest.raises(ValueError, match="holds both val/ and validation/, which are the same split"):
        scan(x3_tree.root)


def test_a_scene_in_both_splits_is_an_error(x3_tree):
    x3_tree.uid(split="train", scene="s1")
    x3_tree.uid(split="val", scene="s1", uid="9")
    with pytest.raises(ValueError, match=r"1 room\(s\) are in .*: s1 \(train\) and s1 \(val\)\. Scores on rooms"):
        scan(x3_tree.root)


def test_two_scans_of_a_scannet_room_are_leakage():
    check_leakage([("train", "scene0001_00"), ("train", "scene0001_01"), ("val", "scene0002_00")])
    with pytest.raises(ValueError, match=r"scene0001_00 \(train\) and scene0001_01 \(val\)"):
        check_leakage([("train", "scene0001_00"), ("val", "scene0001_01")])


def test_many_leaks_are_counted():
    pairs = [(split, f"s{i}") for i in range(9) for split in ("train", "val")]
    with pytest.raises(ValueError, match=r"9 room\(s\) .*; and 4 more"):
        check_leakage(pairs)


def test_names_of_samples_cannot_clash(x3_tree):
    x3_tree.view(1, scene="a_uid1", uid="2")
    x3_tree.view(1, scene="a", uid="1_uid2")
    with pytest.raises(ValueError, match="two objects would have samples named 'a_uid1_uid2'"):
        scan(x3_tree.root)


@pytest.mark.parametrize(("suffix", "found"), [(".jpg", 1), (".PNG", 1), (".JPEG", 1), (".webp", 0)])
def test_other_suffixes_are_read_or_told(x3_tree, suffix, found):
    folder = x3_tree.uid(views=1)
    for path in folder.iterdir():
        if path.name.endswith("original.png"):
            path.rename(path.with_suffix(suffix))
    [uid] = scan(x3_tree.root)
    assert len(uid.views) == found
    reasons = [(skip.where, skip.reason) for skip in uid.skipped]
    if not found:
        assert reasons[0] == ("train/s1/uid_1/01_000001_original.webp", "other_format")


def test_five_leaks_are_all_named():
    pairs = [(split, f"s{i}") for i in range(5) for split in ("train", "val")]
    with pytest.raises(ValueError, match=r"5 room\(s\) .*s4 \(train\) and s4 \(val\)\. Scores"):
        check_leakage(pairs)


def test_what_a_folder_holds_is_listed_up_to_eight_names(tmp_path):
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="found a, b, c, d, e, f, g, h$"):
        scan(tmp_path)
    (tmp_path / "i").mkdir()
    with pytest.raises(ValueError, match="found a, b, c, d, e, f, g, h, ...$"):
        scan(tmp_path)


def test_the_clashing_name_is_the_one_that_occurs_twice(x3_tree):
    x3_tree.view(1, scene="other", uid="7")
    x3_tree.view(1, scene="a_uid1", uid="2")
    x3_tree.view(1, scene="a", uid="1_uid2")
    with pytest.raises(ValueError, match="two objects would have samples named 'a_uid1_uid2'"):
        scan(x3_tree.root)
