import json
from pathlib import Path

import pytest
from roborefer_spatial.tasks.object_samples import UidResult
from roborefer_spatial.tasks.scenes import Skip, UidFolder
from roborefer_spatial.tasks.set_files import SET_NAMES, SetWriter, Tally, write_manifest


def result(split="train", scene="s", rows=(), originals=(), **more):
    where = f"{split}/{scene}/uid_1"
    return UidResult(
        UidFolder(split, scene, "1", Path(where), where, ()),
        list(rows),
        [],
        originals=list(originals),
        **more,
    )


def test_the_notes_file_names():
    expected = "t1_train_multi t1_val_multi t1_train_concat t1_val_concat t2a_train_multi t2a_val_multi"
    assert sorted(SET_NAMES) == sorted([*expected.split(), "t2b_train_multi", "t2b_val_multi"])


def test_rows_become_a_json_list_and_lines(tmp_path):
    writer = SetWriter(tmp_path)
    with writer.writing():
        writer.add(
            result(rows=[("t1_train_multi", True, '{"a": 1}', '{"a": [1]}'), ("t1_train_multi", False, "2", "2")])
        )
        writer.add(result(scene="t", rows=[("t1_train_multi", True, "3", "3")]))
        assert not (tmp_path / "t1_train_multi.json").exists()
    assert (tmp_path / "t1_train_multi.json").read_text() == '[\n{"a": 1},\n2,\n3\n]\n'
    assert (tmp_path / "t1_train_multi.jsonl").read_text() == '{"a": [1]}\n2\n3\n'
    facts = writer.describe()["t1_train_multi"]
    assert (facts["samples"], facts["visible"], facts["not_visible"]) == (3, 2, 1)
    assert (facts["scenes"], facts["uids"]) == (2, 2)
    assert facts["files"]["t1_train_multi.jsonl"]["bytes"] == 15


def test_an_error_leaves_everything_as_it_was(tmp_path):
    for name in ("manifest.json", "t1_train_multi.json", "t2b_val_multi.jsonl"):
        (tmp_path / name).write_text("old")
    writer = SetWriter(tmp_path)
    with pytest.raises(RuntimeError), writer.writing():
        writer.add(result(rows=[("t1_train_multi", True, "1", "1")]))
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "manifest.json": "old",
        "t1_train_multi.json": "old",
        "t2b_val_multi.jsonl": "old",
    }


def test_success_removes_the_old_manifest_and_old_sets_only(tmp_path):
    for name in ("manifest.json", "t2b_val_multi.jsonl", "mine.json"):
        (tmp_path / name).write_text("old")
    writer = SetWriter(tmp_path)
    with writer.writing():
        writer.add(result(rows=[("t1_train_multi", True, "1", "1")]))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.json",
        "t1_train_multi.json",
        "t1_train_multi.jsonl",
    ]


def test_the_input_hash_follows_names_and_contents():
    hashes = set()
    for digests in ({"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"}):
        tally = Tally()
        tally.add(result(digests=digests))
        hashes.add(tally.describe()["inputs"]["sha256"])
    assert len(hashes) == 4
    one, two = Tally(), Tally()
    one.add(result(digests={"a": "1", "b": "2"}))
    two.add(result(digests={"b": "2", "a": "1"}))
    assert one.describe()["inputs"] == two.describe()["inputs"]
    assert one.describe()["inputs"]["files"] == 2


def test_reasons_are_counted_and_explained():
    tally = Tally()
    one = result()
    one.skipped = [
        Skip("w/01", "unreadable", "d"),
        Skip("w/02", "unreadable", "e"),
        Skip("w", "single_view", "f"),
    ]
    tally.add(one)
    described = tally.describe()["skipped"]
    assert described["counts"] == {"unreadable": 2, "single_view": 1}
    assert described["meaning"]["unreadable"] == "a file cannot be read or decoded"
    assert described["items"][1] == {"where": "w/02", "reason": "unreadable", "detail": "e"}


def test_the_same_picture_in_both_splits_is_leakage():
    tally = Tally()
    tally.add(result(originals=["x", "y"]))
    tally.add(result(scene="t", originals=["x"]))  # twice in one split: another object of the same view
    with pytest.raises(ValueError, match="val/v/uid_1 and train/s/uid_1 hold the same picture"):
        tally.add(result(split="val", scene="v", originals=["z", "y"]))


def test_objects_are_counted_one_by_one():
    tally = Tally()
    for scene in "abc":
        tally.add(result(scene=scene, digests={"x": scene, "y": "1"}))
    assert (tally.uids, tally.describe()["inputs"]["uids"], tally.describe()["inputs"]["files"]) == (3, 3, 6)


def test_the_manifest_is_a_file_of_the_output_folder(tmp_path):
    write_manifest(tmp_path, {"a": 1})
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"a": 1}
