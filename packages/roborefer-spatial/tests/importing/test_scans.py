import argparse
import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scannet_rooms
from PIL import Image
from roborefer_spatial.importing import layouts, scans
from roborefer_spatial.importing.scene_writer import ImportOptions, write_scene
from roborefer_spatial.synthetic import tree
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import BuildOptions

SEED = 5
EVERYTHING = ImportOptions(min_visible=0, min_size=0, dilate=0.016)
"""Every pixel counts, as in the generator, whose masks grow by 2 % of the width: 3 pixels, as 1.6 % of the diagonal."""


@pytest.fixture(autouse=True)
def one_camera(monkeypatch):
    """Give all cameras of a room one focal length, as a recording has."""
    several = tree.cameras

    def cameras(*arguments):
        seats = several(*arguments)
        return [dataclasses.replace(seat, focal_px=seats[0].focal_px) for seat in seats]

    monkeypatch.setattr(tree, "cameras", cameras)


@pytest.fixture
def true_tree(tmp_path):
    root = tmp_path / "true"
    tree.write_scenes(root, scenes=2, seed=SEED, size_wh=scannet_rooms.SIZE_WH, splits=("val",))
    return root / "val"


def painter(folder):
    """Return an inpainter that knows the generator's own pictures without each object."""

    def key(picture, mask):
        return hashlib.sha256(picture.tobytes() + np.ascontiguousarray(mask).tobytes()).digest()

    known = {}
    for path in folder.glob("*/uid_*/*_original.png"):
        stem = path.name.removesuffix("_original.png")
        picture, inpainted, dilated = (
            np.asarray(Image.open(path.with_name(f"{stem}_{kind}.png")))
            for kind in ("original", "inpainted", "mask_dialated")
        )
        known[key(picture, dilated > 0)] = inpainted
    return lambda picture, mask: known[key(picture, mask)]


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("uid_*/*.png")}


@pytest.mark.parametrize("number", [0, 1])
def test_rooms_exported_as_scannet_come_back_as_the_generators_tree(tmp_path, true_tree, number):
    folder = scannet_rooms.export(tmp_path / "scans", split="val", number=number, seed=SEED)
    recording = layouts.load(folder, "scannet", "auto", tmp_path / "scans")
    summary = write_scene(recording, tmp_path / "made", "val", EVERYTHING, painter(true_tree))
    truth, made = files_of(true_tree / folder.name), files_of(tmp_path / "made")
    assert sorted(made) == sorted(truth)
    for name in [name for name in truth if name.endswith("_inpainted.png")]:
        stem = true_tree / folder.name / name.removesuffix("_inpainted.png")
        if not np.asarray(Image.open(f"{stem}_mask.png")).any():  # its shadow may be there; a recording cannot know
            truth[name] = Path(f"{stem}_original.png").read_bytes()
    assert made == truth  # every picture and mask, byte for byte
    masks = [np.asarray(Image.open(path)) for path in (tmp_path / "made").glob("uid_*/*_mask.png")]
    assert summary.not_visible == sum(not mask.any() for mask in masks) > 0
    for path in (tmp_path / "made").glob("uid_*"):
        views = json.loads((path / "views.json").read_text())["views"]
        assert {view["state"] for view in views} <= {"visible", "hidden", "out_of_view"}
        assert [view["pixels"] > 0 for view in views] == [view["state"] == "visible" for view in views]


def test_a_labelled_mesh_gives_nearly_the_same_masks(tmp_path, true_tree):
    folder = scannet_rooms.export(tmp_path / "scans", split="val", number=0, seed=SEED, mesh=True)
    recording = layouts.load(folder, "scannet", "auto", tmp_path / "scans")
    assert recording.mesh is not None
    write_scene(recording, tmp_path / "made", "val", EVERYTHING)
    truth = true_tree / folder.name
    found = []
    for path in truth.glob("uid_*/01_*_mask.png"):
        mine = next((tmp_path / "made" / path.parent.name).glob(f"*_{path.name.split('_', 1)[1]}"))
        a, b = (np.asarray(Image.open(p)) > 0 for p in (path, mine))
        found.append((a & b).sum() / (a | b).sum())
    assert len(found) == scannet_rooms.OBJECTS
    assert min(found) > 0.85  # cubes of 4 cm know no thinner border


def run(*words):
    parser = argparse.ArgumentParser()
    scans.add_arguments(parser)
    return scans.run(parser.parse_args([*map(str, words), "--quiet"]))


def test_the_command_makes_a_tree_that_builds_and_goes_on(tmp_path, capsys):
    for number in (0, 1):
        scannet_rooms.export(tmp_path / "scans", split="val", number=number, seed=SEED)
    out = tmp_path / "x3"
    words = (
        "--source",
        tmp_path / "scans",
        "--out",
        out,
        "--split",
        "val",
        "--min-size",
        "0.001",
        "--min-visible",
        0.05,
    )
    assert run(*words) == 0
    assert "2 scenes made; next: roborefer-spatial build" in capsys.readouterr().out
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert run(*words) == 0
    assert "0 scenes made" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == first
    with pytest.raises(ValueError, match="was imported with .*'views': 5.* now .*'views': 4"):
        run(*words, "--views", "4")
    with pytest.raises(ValueError, match="in the training and in the validation split"):
        run(*words[:5], "train", *words[6:])
    build(out, BuildOptions(out_dir=tmp_path / "tasks"))
    manifest = json.loads((tmp_path / "tasks" / "manifest.json").read_text())
    assert manifest["skipped"] == [] or manifest["skipped"]
    assert (tmp_path / "tasks" / "t2b_val_multi.json").is_file()


def test_a_recording_without_instances_has_patches_of_its_own(tmp_path):
    folder = scannet_rooms.export(tmp_path / "scans", split="val", number=0, seed=SEED)
    options = ImportOptions(objects=4, min_visible=0.2, min_size=0.001, instances="none")
    made = scans.import_scans(tmp_path / "scans", tmp_path / "x3", options, split="val")
    assert [(one.regions, one.scene) for one in made] == [(True, folder.name)]
    assert made[0].objects >= 1
    assert not list((tmp_path / "x3").rglob("*_inpainted.png"))
    assert json.loads(next((tmp_path / "x3").rglob("views.json")).read_text())["source"] == "patch"


def test_rooms_have_one_split_whatever_else_there_is():
    rooms = [f"scene{number:04d}" for number in range(400)]
    splits = [scans.split_of(room, 0.2, 0) for room in rooms]
    assert 50 < splits.count("val") < 110
    assert splits[7] == scans.split_of("scene0007", 0.2, 0)
    assert {scans.split_of(room, 0, 0) for room in rooms} == {"train"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 1}, "expected --objects >= 1, --views >= 2"),
        ({"dilate": 0.0}, "0 < --dilate < 0.5"),
        ({"inpainter": "lama {image} {out}"}, "it lacks {mask}"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        ImportOptions(**change)


def test_no_recording(tmp_path):
    with pytest.raises(ValueError, match="no recording at or below it. Expected ScanNet's color/"):
        scans.import_scans(tmp_path, tmp_path / "x3", ImportOptions())
    with pytest.raises(ValueError, match="--split both: known are auto, train, val"):
        scans.import_scans(tmp_path, tmp_path / "x3", ImportOptions(), split="both")


def pictures(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.*"))}


@pytest.mark.parametrize("how", ["workers", "dask"])
def test_processes_and_dask_make_the_same_tree(tmp_path, how):
    for number in range(3):
        scannet_rooms.export(tmp_path / "scans", split="val", number=number, seed=SEED)
    options = ImportOptions(min_visible=0.05, min_size=0.001)
    alone = scans.import_scans(tmp_path / "scans", tmp_path / "alone", options, split="val")
    if how == "workers":
        made = scans.import_scans(tmp_path / "scans", tmp_path / "made", options, split="val", workers=2)
    else:
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster:
            made = scans.import_scans(
                tmp_path / "scans", tmp_path / "made", options, split="val", scheduler=cluster.scheduler_address
            )
    assert made == alone and len(made) == 3
    assert pictures(tmp_path / "made") == pictures(tmp_path / "alone")


def test_a_command_of_ones_own_paints_objects_out(tmp_path):
    scannet_rooms.export(tmp_path / "scans", split="val", number=0, seed=SEED)
    script = tmp_path / "paint.py"
    script.write_text(
        "import sys\nfrom PIL import Image\n"
        "picture, mask = (Image.open(path) for path in sys.argv[1:3])\n"
        "picture.paste((1, 2, 3), (0, 0, *picture.size), mask)\npicture.save(sys.argv[3])\n"
    )
    command = f"{sys.executable} {script} {{image}} {{mask}} {{out}}"
    words = ("--source", tmp_path / "scans", "--out", tmp_path / "x3", "--split", "val", "--min-size", 0.001)
    assert run(*words, "--min-visible", 0.05, "--objects", 2, "--inpainter", command) == 0
    stems = [str(path).removesuffix("_inpainted.png") for path in (tmp_path / "x3").rglob("*_inpainted.png")]
    assert stems
    for stem in stems:
        kinds = ("original", "inpainted", "mask_dialated")
        before, after, mask = (np.asarray(Image.open(f"{stem}_{kind}.png")) for kind in kinds)
        assert np.array_equal(after, np.where(mask[..., None] > 0, (1, 2, 3), before))
