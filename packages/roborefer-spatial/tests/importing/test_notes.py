"""Rows as the research builder wrote them: B's frame in side-by-side answers, three decimals, absolute paths."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial.importing import notes
from roborefer_spatial.sample import load_samples
from roborefer_spatial.scoring.score import score


@pytest.fixture
def folder(x3_tree):
    """Three views of one object, hidden in the third; A is 24x18, the others, too."""
    return x3_tree.uid(views=3, hidden=(3,), split="validation")


def old_row(folder, b=2, *, task="t1_multi", answer="[(0.396, 0.417)]", image=None, **changes):
    b_name = f"{b:02d}_{b:06d}"
    images = image or [str(folder / "marked_abs/01_000001_marked.png"), str(folder / f"{b_name}_original.png")]
    return {
        "id": f"{task.upper()}_s1_uid1_A01000001_B{b:02d}{b:06d}",
        "task": task,
        "image": images,
        "query_original": str(folder / f"{b_name}_original.png"),
        "conversations": [
            {"from": "human", "value": "<image>\n<image>\nWhere is it? Answer as [(x, y)]."},
            {"from": "gpt", "value": answer},
        ],
    } | changes


@pytest.fixture
def whole(folder):
    """A side-by-side picture as the research builder wrote it: a JPEG, A left and B right."""
    path = folder / "concat_abs" / "01_to_02.jpg"
    path.parent.mkdir()
    views = [np.asarray(Image.open(folder / f"{n:02d}_{n:06d}_original.png")) for n in (1, 2)]
    Image.fromarray(np.concatenate(views, axis=1)).save(path)
    return str(path)


def test_a_multi_row_becomes_a_sample(folder):
    sample = notes.imported(old_row(folder))
    assert (sample.task, sample.split, sample.scene, sample.uid) == ("t1_multi", "val", "s1", "1")
    assert (sample.view_ref, sample.view_query, sample.query_size) == ("01", "02", (24, 18))
    assert (sample.answer_point, sample.gt_mask, sample.coord_frame) == ((0.396, 0.417), "dilated", "query")
    assert Path(sample.mask_dilated_path).name == "02_000002_mask_dialated.png"
    assert sample.prompt.startswith("The first image shows a scene")
    kept = notes.imported(old_row(folder), prompts="kept")
    assert kept.prompt == "Where is it? Answer as [(x, y)]."
    assert type(sample).from_row(sample.to_row()) == sample


def test_a_side_by_side_row_is_taken_to_the_whole_images_frame(folder, whole):
    sample = notes.imported(old_row(folder, task="t1_concat", image=whole))
    assert sample.answer_point == pytest.approx((0.5 + 0.396 / 2, 0.417))
    assert sample.answer == "[(0.698, 0.417)]"
    assert (sample.coord_frame, sample.concat.size_wh) == ("concat", (48, 18))
    assert sample.ref_point[0] < 0.5
    assert "the point [(" in sample.prompt
    scores = score([sample], [])
    assert scores.visible.tolist() == [True]  # the truth hits its own mask, or `score` would have raised


def test_rows_of_the_other_tasks(folder):
    hidden = notes.imported(old_row(folder, 3, task="t2a_multi", answer="NOT_VISIBLE"))
    assert (hidden.task, hidden.answer_point, hidden.answer) == ("t2a_multi", None, "NOT_VISIBLE")
    pair = [str(folder / f"02_000002_{kind}.png") for kind in ("original", "inpainted")]
    row = old_row(folder, task="t2b_multi", image=pair, query_original=pair[1], id="T2B_MULTI_s1_uid1_K02000002")
    difference = notes.imported(row)
    assert (difference.query_original, difference.view_ref, difference.view_query) == (pair[1], "02", "02")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"answer": "[(0.9, 0.9)]"}, "misses its mask"),
        ({"answer": "[(1.5, 0.4)]"}, "misses its mask"),
        ({"answer": "NOT_VISIBLE"}, "visible after all"),
        ({"answer": "over there"}, "no single point"),
        ({"conversations": []}, "no such row"),
        ({"coord_frame": "concat"}, "a sample already"),  # its point would be read in the wrong frame
        ({"task": "t9", "id": "x"}, "unknown task"),
        ({"query_original": "/nowhere/b.png"}, "not in an x3 tree"),
        ({"query_original": "/x/train/s/uid_1/02_000002_original.png"}, "no such picture"),
    ],
)
def test_unsound_rows_are_refused_with_the_reason(folder, changes, kind):
    with pytest.raises(notes.Unsound) as caught:
        notes.imported(old_row(folder, **changes))
    assert caught.value.kind == kind


def test_a_resized_side_by_side_picture_is_refused(folder, whole):
    Image.open(whole).resize((30, 18)).save(whole)
    with pytest.raises(notes.Unsound, match="is 30x18, A and B side by side are 48x18: one was resized"):
        notes.imported(old_row(folder, task="t1_concat", image=whole))


def test_without_masks_nothing_can_be_tried(folder):
    for path in folder.glob("02_*mask*"):
        path.unlink()
    with pytest.raises(notes.Unsound, match="no mask beside it"):
        notes.imported(old_row(folder))


def run(*words):
    parser = argparse.ArgumentParser()
    notes.add_arguments(parser)
    return notes.run(parser.parse_args([str(word) for word in words]))


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_the_command(folder, whole, tmp_path, capsys, suffix):
    rows = [old_row(folder), old_row(folder, task="t1_concat", image=whole), old_row(folder, 3, answer="[(0.1, 0.1)]")]
    old, out = tmp_path / f"old{suffix}", tmp_path / f"new{suffix}"
    old.write_text(json.dumps(rows) if suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    assert run(old, "--out", out) == 1
    assert [sample.task for sample in load_samples(out)] == ["t1_multi", "t1_concat"]
    printed = capsys.readouterr().out
    assert "2 of 3 rows are samples now" in printed
    assert "refused: 1 x misses its mask; first: " in printed
    (refused,) = [json.loads(line) for line in (tmp_path / f"new{suffix}.refused.jsonl").read_text().splitlines()]
    assert refused["row"] == rows[2]
    old.write_text(json.dumps(rows[:2]) if suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows[:2]))
    assert run(old, "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 2, "samples": 2, "refused": {}}
    assert not (tmp_path / f"new{suffix}.refused.jsonl").exists()


def test_a_tree_that_has_moved(folder, tmp_path, capsys):
    row = old_row(folder)
    start = str(folder.parents[2])
    row["image"] = [path.replace(start, "/old/place") for path in row["image"]]
    row["query_original"] = row["query_original"].replace(start, "/old/place")
    (tmp_path / "old.json").write_text(json.dumps([row]))
    assert run(tmp_path / "old.json", "--out", tmp_path / "new.json") == 1
    assert "has the tree moved? (--moved FROM TO)" in capsys.readouterr().out
    assert run(tmp_path / "old.json", "--out", tmp_path / "new.json", "--moved", "/old/place", start) == 0


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json: no such file"):
        run(tmp_path / "gone.json", "--out", tmp_path / "new.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"x\.json: expected a JSON list of rows, got dict"):
        run(tmp_path / "x.json", "--out", tmp_path / "new.json")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match=r"x\.json: holds no rows"):
        run(tmp_path / "x.json", "--out", tmp_path / "new.json")
