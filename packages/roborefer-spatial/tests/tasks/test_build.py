import hashlib
import json
import shutil
from datetime import datetime
from pathlib import Path

import distributed
import numpy as np
import pytest
from roborefer_spatial import cli
from roborefer_spatial.sample import load_samples
from roborefer_spatial.tasks import build as build_module
from roborefer_spatial.tasks.object_samples import BuildOptions
from roborefer_spatial.tasks.set_files import SET_NAMES


@pytest.fixture
def tree(x3_tree):
    """Two training scenes and one validation scene, each with an object that hides in view 2."""
    for scene in ("s1", "s2"):
        x3_tree.uid(scene=scene, views=4, hidden=(2,))
    x3_tree.uid(split="validation", scene="s3", uid="7", views=3, hidden=(3,))
    return x3_tree


@pytest.fixture
def build(tree, tmp_path, capsys):
    """Run the command; return (exit status, manifest or None, printed text)."""

    def run(*arguments, out="out"):
        folder = tmp_path / out
        status = cli.main(["build", "--data-root", str(tree.root), "--out-dir", str(folder), *map(str, arguments)])
        printed = capsys.readouterr()
        path = folder / "manifest.json"
        return status, json.loads(path.read_text()) if path.exists() else None, printed.out + printed.err

    return run


def contents(folder):
    """File name to bytes of the sets."""
    return {path.name: path.read_bytes() for path in folder.glob("t*.json*")}


def test_sets_and_counts(build, tmp_path):
    status, manifest, printed = build()
    assert status == 0
    counts = {name: (s["samples"], s["visible"], s["not_visible"]) for name, s in manifest["sets"].items()}
    assert counts == {
        "t1_train_multi": (6, 4, 2),
        "t1_train_concat": (6, 4, 2),
        "t1_val_multi": (2, 1, 1),
        "t1_val_concat": (2, 1, 1),
        "t2a_train_multi": (2, 0, 2),
        "t2a_val_multi": (1, 0, 1),
        "t2b_train_multi": (6, 6, 0),
        "t2b_val_multi": (2, 2, 0),
    }
    assert tuple(counts) == SET_NAMES
    assert manifest["skipped"]["counts"] == {}
    assert "t1_train_multi" in printed
    for name, described in manifest["sets"].items():
        for file, facts in described["files"].items():
            data = (tmp_path / "out" / file).read_bytes()
            assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        samples = load_samples(tmp_path / "out" / f"{name}.json")
        assert samples == load_samples(tmp_path / "out" / f"{name}.jsonl")
        assert len(samples) == described["samples"]
        assert {sample.split for sample in samples} == {"train" if "train" in name else "val"}


def test_the_notes_types_in_json_and_one_type_in_jsonl(build, tmp_path):
    build()
    (row, *_) = json.loads((tmp_path / "out" / "t1_val_concat.json").read_text())
    assert isinstance(row["image"], str)
    assert list(row)[:5] == ["id", "task", "image", "query_original", "conversations"]
    for path in (tmp_path / "out").glob("*.jsonl"):
        assert all(isinstance(json.loads(line)["image"], list) for line in path.read_text().splitlines())


def test_hugging_face_datasets_loads_all_jsonl_together(build, tmp_path, monkeypatch):
    build()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    files = sorted((tmp_path / "out").glob("t*.jsonl"))
    loaded = datasets.load_dataset(
        "json", data_files=[*map(str, files)], split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 27
    by_id = {row["id"]: row for row in loaded}
    for path in files:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            assert by_id[row["id"]]["image"] == row["image"]
            assert by_id[row["id"]]["answer_point"] == row["answer_point"]


def test_workers_and_dask_change_nothing(build, tree, tmp_path):
    _, one, _ = build()
    build("--workers", 2, out="two")
    expected = {
        name: data.replace(str(tmp_path / "out").encode(), b"OUT") for name, data in contents(tmp_path / "out").items()
    }
    found = {
        name: data.replace(str(tmp_path / "two").encode(), b"OUT") for name, data in contents(tmp_path / "two").items()
    }
    assert found == expected
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        status, manifest, _ = build("--scheduler", cluster.scheduler_address)
    assert status == 0
    assert manifest["images"] == {"written": 0, "reused": one["images"]["written"]}
    assert manifest["sets"] == one["sets"]
    assert manifest["inputs"] == one["inputs"]


def test_a_scene_more_or_less_changes_nothing_else(build, tree, tmp_path):
    """The earlier builder drew from one generator: without one scene, 4 of 16 validation answers changed."""
    ring = np.zeros((18, 24), dtype=bool)
    ring[2:16, 2:22] = True
    ring[5:13, 5:19] = False
    for scene in ("s1", "s2"):
        tree.view(3, scene=scene, mask=ring)
    tree.view(2, split="validation", scene="s3", uid="7", mask=ring)
    build("--mode", "allpairs", "--max-pairs-per-uid", 4, "--neg-ratio", 0.3)
    before = contents(tmp_path / "out")
    shutil.rmtree(tree.root / "train" / "s1")
    build("--mode", "allpairs", "--max-pairs-per-uid", 4, "--neg-ratio", 0.3)
    after = contents(tmp_path / "out")
    assert {n: d for n, d in after.items() if "val" in n} == {n: d for n, d in before.items() if "val" in n}
    for name in after:
        if name.endswith("jsonl"):
            kept = [line for line in before[name].splitlines() if json.loads(line)["scene"] != "s1"]
            assert after[name].splitlines() == kept


def test_a_second_run_reuses_every_image_and_another_opacity_none(build, tmp_path):
    _, first, _ = build()
    assert first["images"] == {"written": 11, "reused": 0}
    assert build()[1]["images"] == {"written": 0, "reused": 11}
    _, other, _ = build("--alpha", 0.6)
    assert other["images"] == {"written": 11, "reused": 0}
    assert other["pruned"] == 0
    _, pruned, _ = build("--alpha", 0.6, "--prune")
    assert (pruned["images"], pruned["pruned"]) == ({"written": 0, "reused": 11}, 11)
    assert len(list((tmp_path / "out").rglob("*_marked_*.png"))) == 3


def test_prune_leaves_other_files_alone(build, tmp_path):
    other = tmp_path / "out" / "marked" / "holiday_marked.png"
    other.parent.mkdir(parents=True)
    other.touch()
    assert build("--prune")[1]["pruned"] == 0
    assert other.exists()
    other.with_name(".01_f_marked_0123456789ab.png.0123456789ab.part").touch()  # what a killed build leaves
    assert build("--prune")[1]["pruned"] == 1
    assert list(other.parent.glob("*.p*")) == [other]


def test_changed_pictures_are_not_taken_over(build, tree, tmp_path):
    build()
    tree.view(1, size_wh=(26, 18), frame="000001")
    assert build()[1]["images"]["written"] == 1 + 3  # the marked view and its three pairs


def test_an_interrupted_run_leaves_no_set_and_goes_on(build, tree, tmp_path, monkeypatch):
    real, calls = build_module.build_uid, []

    def stop_at_the_third(uid, options):
        calls.append(uid)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(uid, options)

    monkeypatch.setattr(build_module, "build_uid", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build()
    assert [path for path in (tmp_path / "out").iterdir() if path.is_file()] == []
    monkeypatch.setattr(build_module, "build_uid", real)
    assert build()[1]["images"] == {"written": 3, "reused": 8}


def test_an_interrupted_run_leaves_the_earlier_sets(build, tmp_path, monkeypatch):
    build()
    before = contents(tmp_path / "out")
    monkeypatch.setattr(build_module, "build_uid", lambda uid, options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build("--alpha", 0.9)
    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out" / "manifest.json").exists()


def test_sets_of_an_earlier_build_do_not_stay(build, tmp_path):
    build()
    _, manifest, _ = build("--emit-concat", 0, "--tasks", "t1")
    assert sorted(contents(tmp_path / "out")) == [
        f"t1_{split}_multi.{suffix}" for split in ("train", "val") for suffix in ("json", "jsonl")
    ]
    assert list(manifest["sets"]) == ["t1_train_multi", "t1_val_multi"]


def test_what_is_left_out_is_named_and_counted(build, tree):
    stem = tree.view(3, scene="s1")
    stem.with_name(f"{stem.name}_original.png").write_bytes(b"rubbish")
    (stem.parent / "04_000004_inpainted.png").unlink()
    tree.uid(scene="s9", views=2, hidden=(1,))
    status, manifest, printed = build()
    assert status == 0
    assert manifest["skipped"]["counts"] == {"unreadable": 1, "no_inpainted": 1, "anchor_not_visible": 1}
    assert [item["where"] for item in manifest["skipped"]["items"]] == [
        "train/s1/uid_1/03",
        "train/s1/uid_1/04",
        "train/s9/uid_1",
    ]
    assert "left out: 1 x a file cannot be read or decoded; first: train/s1/uid_1/03: 03_000003_original.png" in printed


def test_an_anchor_that_no_object_has_is_an_error(build, tmp_path):
    status, manifest, printed = build("--anchor-k", 9)
    assert (status, manifest) == (2, None)
    assert "error: anchor_k is 9, but no object has such a view; the tree's views are: 1, 2, 3, 4" in printed
    assert not (tmp_path / "out").exists()
    assert build("--anchor-k", 9, "--tasks", "t2b")[0] == 0  # pairs were not asked for


def test_nothing_built_is_an_error_and_writes_no_set(build, tree, tmp_path):
    for path in tree.root.rglob("*_mask_dialated.png"):
        path.unlink()
    status, manifest, printed = build()
    assert (status, manifest) == (2, None)
    assert "nothing was built from 3 object(s), and no set was written. Left out: 11 x a view has no dilated" in printed
    assert "or build with --no-use-dilated-mask" in printed
    assert build("--no-use-dilated-mask")[0] == 0


def test_no_pair_at_all_is_an_error_unless_only_2b_is_wanted(build, tree, tmp_path):
    for path in tree.root.rglob("0[234]_*.png"):
        path.unlink()
    status, manifest, printed = build()
    assert (status, manifest) == (2, None)
    assert "no sample of Task 1 (choose others with --tasks) was built" in printed
    assert "3 x an object has only one usable view, so no pair" in printed
    assert contents(tmp_path / "out") == {}
    status, manifest, _ = build("--tasks", "t2b")
    assert (status, list(manifest["sets"])) == (0, ["t2b_train_multi", "t2b_val_multi"])


def test_a_task_without_samples_is_said(build, tree):
    for path in tree.root.rglob("*_inpainted.png"):
        path.unlink()
    status, _, printed = build()
    assert status == 0
    assert "warning: no sample of t2b, so no file for it" in printed


def test_a_scene_in_both_splits_is_an_error(build, tree, tmp_path):
    tree.uid(split="validation", scene="s1")
    status, manifest, printed = build()
    assert (status, manifest) == (2, None)
    assert "s1 (train) and s1 (val)" in printed


def test_one_picture_under_two_scene_names_is_leakage(build, tree, tmp_path):
    folder = tree.folder(split="validation", scene="renamed", uid="1")
    shutil.copytree(tree.root / "train" / "s1" / "uid_1", folder, dirs_exist_ok=True)
    status, manifest, printed = build()
    assert (status, manifest) == (2, None)
    assert "validation/renamed/uid_1 and train/s1/uid_1 hold the same picture" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode", "allpairs", "--anchor-k", 1), "--anchor-k 1 has no meaning with --mode allpairs"),
        (
            ("--emit-concat", 0, "--concat-format", "png"),
            "--concat-format png has no meaning with --emit-concat 0",
        ),
        (("--workers", 2, "--scheduler", "tcp://x:1"), "--workers and --scheduler exclude each other"),
        (("--workers", 0), "workers is 0: expected at least 1"),
        (("--alpha", 0), "alpha is 0.0: expected 0 < alpha <= 1"),
        (("--neg-ratio", -1), "neg_ratio is -1.0"),
        (("--max-pairs-per-uid", 0), "max_pairs_per_uid is 0"),
    ],
)
def test_options_that_cannot_act_are_errors(build, arguments, message):
    status, manifest, printed = build(*arguments)
    assert (status, manifest) == (2, None)
    assert f"roborefer-spatial build: error: {message}" in printed


def test_every_option_is_in_the_manifest(build):
    _, manifest, _ = build("--mode", "allpairs", "--alpha", 0.3, "--no-use-dilated-mask", "--seed", 7, "--neg-ratio", 1)
    wanted = {"mode": "allpairs", "alpha": 0.3, "use_dilated_mask": False, "seed": 7, "neg_ratio": 1.0}
    assert manifest["arguments"].items() >= wanted.items()
    assert manifest["arguments"]["anchor_k"] is None


def test_relative_paths_survive_a_move(build, tree, tmp_path):
    build("--relative-paths")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(tmp_path / "out", moved / "out")
    shutil.move(tree.root, moved / "x3")
    for sample in load_samples(moved / "out" / "t1_val_multi.json"):
        for path in (*sample.image, sample.mask_path):
            assert (moved / path).is_file()


def test_emit_concat_can_stand_alone(build):
    assert "t1_val_concat" in build("--emit-concat")[1]["sets"]


def test_old_names_by_option(build, tmp_path):
    """The research builder's folders, and side-by-side images as JPEG unless said otherwise."""
    _, manifest, _ = build("--names", "notes")
    made = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".png", ".jpg")]
    assert {path.relative_to(tmp_path / "out").parts[0] for path in made} == {"marked_abs", "concat_abs"}
    assert {path.suffix for path in made if "concat_abs" in path.parts} == {".jpg"}
    assert manifest["arguments"]["names"] == "notes"
    for sample in load_samples(tmp_path / "out" / "t1_train_concat.json"):
        assert Path(sample.image[0]).is_file()
    _, manifest, _ = build("--prune")
    assert manifest["pruned"] == len(made)
    assert not any(path.suffix == ".jpg" for path in (tmp_path / "out").rglob("*"))


def test_what_is_said_word_by_word(build, tree, tmp_path):
    status, manifest, printed = build("--tasks", "t1", "t2a", "--emit-concat", 0)
    lines = [line for line in printed.splitlines() if "building" not in line and line.strip()]
    assert status == 0
    assert lines[:4] == [
        "t1_train_multi            6 samples, 4 visible, 2 not; 2 objects in 2 scenes",
        "t1_val_multi              2 samples, 1 visible, 1 not; 1 objects in 1 scenes",
        "t2a_train_multi           2 samples, 0 visible, 2 not; 2 objects in 2 scenes",
        "t2a_val_multi             1 samples, 0 visible, 1 not; 1 objects in 1 scenes",
    ]
    written = manifest["images"]["written"]
    assert lines[4:] == [
        f"{written} images written, 0 there already; {manifest['seconds']} s; everything else is in "
        f"{tmp_path / 'out' / 'manifest.json'}"
    ]
    assert 0 <= manifest["seconds"] < 600 and manifest["pruned"] == 0


def test_quiet_and_json(build):
    assert build("--quiet")[2] == ""
    _, manifest, printed = build("--quiet", "--json")
    assert json.loads(printed) == manifest and printed.startswith('{\n  "package": "roborefer-spatial"')
    _, manifest, printed = build("--json")
    assert printed.count("samples, ") == 0 and '"sets"' in printed


def test_the_arguments_of_a_bare_build(build, tree, tmp_path):
    _, manifest, _ = build()
    assert manifest["arguments"] == {
        "data_root": str(tree.root), "out_dir": str(tmp_path / "out"), "tasks": ["t1", "t2a", "t2b"],
        "mode": "anchor", "anchor_k": 1, "alpha": 0.45, "use_dilated_mask": True, "concat_format": "png", "seed": 42,
        "max_pairs_per_uid": None, "neg_ratio": None, "relative_paths": False, "names": "today", "workers": 1,
        "scheduler": None,
    }  # fmt: skip
    assert datetime.fromisoformat(manifest["created"]).utcoffset().total_seconds() == 0
    _, manifest, _ = build("--emit-concat", 0, "--anchor-k", 3, "--workers", 2)
    arguments = manifest["arguments"]
    assert (arguments["concat_format"], arguments["anchor_k"], arguments["workers"]) == (None, 3, 2)


def test_an_anchor_matters_where_pairs_are_wanted(build):
    for tasks in (("t1",), ("t2a",), ("t2a", "t2b")):
        assert build("--anchor-k", 9, "--tasks", *tasks)[0] == 2
    assert build("--mode", "allpairs", "--tasks", "t1")[0] == 0


def test_building_shows_progress_unless_it_is_not_asked_for(tree, tmp_path, monkeypatch):
    quiets = []
    monkeypatch.setattr(
        build_module.terminal,
        "progress",
        lambda results, *, quiet, total, **_: (quiets.append((quiet, total)), results)[1],
    )
    options = BuildOptions(out_dir=tmp_path / "out")
    said = []
    build_module.build(tree.root, options)
    build_module.build(tree.root, options, progress=True, echo=said.append)
    assert quiets == [(True, 3), (False, 3)] and len(said) == 9


def test_of_many_left_out_the_first_is_shown(build, tree):
    for scene in ("s1", "s2"):
        for number in ("03", "04"):
            for path in (tree.root / "train" / scene).rglob(f"{number}_*_inpainted.png"):
                path.unlink()
    printed = build()[2]
    (line,) = [line for line in printed.splitlines() if line.startswith("left out")]
    assert line.startswith("left out: 4 x ") and "first: train/s1/uid_1/03: " in line
