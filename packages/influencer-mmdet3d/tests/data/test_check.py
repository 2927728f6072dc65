"""The `check` command: every defect is found, good data is not accused, nothing in a file is run."""

import json
import os
import pickle
import re
from pathlib import Path

import defects
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from influencer_mmdet3d import cli
from influencer_mmdet3d.data import check, scenes
from influencer_mmdet3d.data.formats import FORMATS, SceneReport
from influencer_mmdet3d.data.labels import check_labels, check_points, check_resolution, check_superpoints
from influencer_mmdet3d.data.plain_pickle import PickledArray, load_plain
from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet


def run(*arguments):
    return cli.main(["check", *map(str, arguments)])


@pytest.mark.parametrize(("kind", "name"), defects.ALL)
def test_each_defect_is_found(tmp_path, kind, name, capsys):
    damage, code, message, outcome = defects.TABLES[kind][name]
    defects.write(tmp_path, kind, damage)
    findings = check.check_dataset(tmp_path, FORMATS[kind]).all_findings()
    found = [finding for finding in findings if finding.code == code]
    assert found, f"expected {code}, got {findings}"
    assert re.search(message, found[0].message), found[0].message
    if outcome in (defects.STOPS, defects.DROPS):
        assert found[0].severity == "error"
    assert run(tmp_path, "--format", kind) == (0 if found[0].severity == "note" else 1)
    assert code in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["s3dis", "scannet"])
def test_good_data_has_no_findings(tmp_path, kind, capsys):
    if kind == "s3dis":
        write_s3dis(tmp_path, areas=[1, 5], rooms_per_area=2, seed=4, points_per_room=6_000)
    else:
        write_scannet(tmp_path, scenes={"train": 2, "val": 1}, seed=4, points_per_scene=6_000)
    assert run(tmp_path, "--format", kind, "--workers", 3) == 0
    assert capsys.readouterr().out.endswith("nothing found\n")


def test_counts_against_the_files(tmp_path):
    write_s3dis(tmp_path, areas=[2], rooms_per_area=2, seed=9, points_per_room=3_000, objects=(10, 15))
    table = check.check_dataset(tmp_path, FORMATS["s3dis"]).class_table()
    points, instances = np.zeros(13, int), np.zeros(13, int)
    for path in sorted((tmp_path / "semantic_mask").iterdir()):
        semantic = np.fromfile(path, np.int64)
        instance = np.fromfile(tmp_path / "instance_mask" / path.name, np.int64)
        for label in range(13):
            points[label] += (semantic == label).sum()
            instances[label] += len(set(instance[semantic == label]))
    assert [row["points"] for row in table.values()] == [*points, 0]
    assert [row["instances"] for row in table.values()] == [*instances, 0]
    assert table["floor"]["scenes"] == 2


def test_labels_of_a_hand_made_scene():
    report = SceneReport("scene")
    semantic = np.array([8, 8, 8, 7, 7, 2])
    instance = np.array([1, 1, 4, 4, 9, 5])
    check_labels(FORMATS["s3dis"], semantic, instance, report)
    assert report.class_points == {"wall": 1, "table": 2, "chair": 3}
    assert report.class_instances == {"wall": 1, "table": 2, "chair": 1}  # a tie goes to the smaller label
    assert [(finding.severity, finding.code) for finding in report.findings] == [
        ("error", "mixed-classes"),
        ("note", "one-point-instance"),
    ]
    assert "1 instances have points of several classes (id 4: 1 table, 1 chair)" in report.findings[0].message
    assert "2 instances of one point (ids 5, 9)" in report.findings[1].message


def test_superpoint_majority_by_hand():
    report = SceneReport("scene")
    superpoint = np.array([0, 0, 0, 1, 1, 3])
    semantic = np.array([5, 5, 1, 7, 7, 1])
    instance = np.array([2, 2, 7, 3, 3, 7])
    check_superpoints(FORMATS["scannet"], superpoint, semantic, instance, report)
    assert [(finding.severity, finding.code) for finding in report.findings] == [("warning", "superpoint-gaps")]
    assert "3 superpoints have ids 0 to 3; expected 0 to 2" in report.findings[0].message


def test_json_and_limited_listing(tmp_path, capsys):
    write_s3dis(tmp_path, areas=[1], rooms_per_area=12, seed=0, points_per_room=1_000, objects=(5, 6))
    for path in (tmp_path / "semantic_mask").iterdir():
        path.write_bytes(path.read_bytes()[:-8])
    assert run(tmp_path, "--format", "s3dis", "--json", tmp_path / "found.json") == 1
    printed = capsys.readouterr().out
    assert "error file-size (12)" in printed and "and 2 more; --json lists all" in printed
    assert printed.endswith("12 errors, 0 warnings\n")
    content = json.loads((tmp_path / "found.json").read_text())
    assert len(content["findings"]) == 12 and content["scenes"] == 12
    assert content["findings"][0].keys() == {"severity", "code", "where", "message"}
    assert not list(tmp_path.glob(".found*"))
    assert run(tmp_path, "--format", "s3dis", "--json") == 1
    assert json.loads(capsys.readouterr().out) == content


def test_quiet_and_the_old_name(tmp_path, capfd):
    write_s3dis(tmp_path, areas=[1], rooms_per_area=1, seed=0, points_per_room=1_000, objects=(5, 6), quiet=True)
    assert run(tmp_path, "--format", "s3dis", "--quiet") == 0
    assert capfd.readouterr() == ("", "")
    assert cli.main(["check-data", str(tmp_path), "--format", "s3dis"]) == 0
    assert "nothing found" in capfd.readouterr().out


def test_warnings_can_be_allowed(tmp_path):
    defects.write(tmp_path, "s3dis", defects.S3DIS["millimetres"][0])
    assert run(tmp_path, "--format", "s3dis") == 1
    assert run(tmp_path, "--format", "s3dis", "--allow-warnings") == 0
    defects.write(tmp_path, "s3dis", defects.S3DIS["nan"][0])
    assert run(tmp_path, "--format", "s3dis", "--allow-warnings") == 1


def test_own_infos_names(tmp_path):
    (infos,) = write_s3dis(tmp_path, areas=[1], rooms_per_area=1, seed=0, points_per_room=1_000, objects=(5, 6))
    infos.rename(tmp_path / "train.pkl")
    assert run(tmp_path, "--format", "s3dis") == 1
    assert run(tmp_path, "--format", "s3dis", "--infos", "train.pkl") == 0


def test_wrong_use(tmp_path, capsys):
    assert run(tmp_path / "absent", "--format", "s3dis") == 2
    assert "is not a folder; expected the folder that the config calls data_root" in capsys.readouterr().err
    assert run(tmp_path, "--format", "s3dis", "--workers", 0) == 2
    assert "workers must be at least 1, got 0" in capsys.readouterr().err


def test_names_cannot_steer_the_terminal_or_leave_the_folder(tmp_path, capsys):
    def damage(scene):
        scene.info["pts_instance_mask_path"] = "../outside\x1b[2J.bin"
        scene.info["pts_semantic_mask_path"] = "/etc/passwd"

    defects.write(tmp_path, "s3dis", damage)
    assert run(tmp_path, "--format", "s3dis") == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert printed.count("expected a file name inside") == 2


def test_an_unreadable_file_is_a_finding(tmp_path, monkeypatch):
    defects.write(tmp_path, "s3dis", lambda scene: None)

    def fail(*_, **__):
        raise OSError(5, "Input/output error", "room.bin")

    monkeypatch.setattr("influencer_mmdet3d.data.scenes.np.fromfile", fail)
    (finding,) = check.check_dataset(tmp_path, FORMATS["s3dis"]).all_findings()
    assert (finding.severity, finding.code) == ("error", "unreadable")
    assert "Input/output error (room.bin)" in finding.message


class _Hostile:
    def __reduce__(self):
        return os.system, ("touch /nowhere",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_Hostile(), r"it asks for (posix|nt)\.system; an infos file holds"),
        ({"data_list": [Path("x")]}, r"it asks for pathlib"),
        (np.array([1, "a"], dtype=object), "only numeric numpy arrays are accepted"),
        (np.zeros(2, dtype=[("a", "f4")]), "structured numpy types are not accepted|unknown numpy type"),
        (np.array(["text"]), "numpy values of type .* are not accepted"),
    ],
)
def test_hostile_infos_run_nothing(tmp_path, content, message):
    path = tmp_path / "s3dis_infos_Area_1.pkl"
    path.write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(ValueError, match=message):
        load_plain(path)
    (finding,) = check.check_dataset(tmp_path, FORMATS["s3dis"]).all_findings()
    assert finding.code == "infos-unreadable"


def test_calling_ndarray_is_refused(tmp_path):
    path = tmp_path / "infos.pkl"
    path.write_bytes(b"cnumpy\nndarray\n(I1000000000000\ntR.")
    with pytest.raises(ValueError, match=r"must not call numpy\.ndarray"):
        load_plain(path)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def test_git_lfs_pointers_are_called_that(tmp_path):
    infos = defects.write(tmp_path, "s3dis", lambda scene: None)
    (points,) = (tmp_path / "points").iterdir()
    points.write_bytes(LFS)
    (finding,) = check.check_dataset(tmp_path, FORMATS["s3dis"]).all_findings()
    assert (finding.severity, finding.code) == ("error", "not-data")
    assert "is a Git-LFS pointer, not the file that it stands for: run `git lfs pull`" in finding.message
    infos.write_bytes(LFS)
    with pytest.raises(ValueError, match="is not a readable infos file: it is a Git-LFS pointer"):
        load_plain(infos)


def test_truncated_infos(tmp_path):
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps({"data_list": list(range(100))})[:50])
    with pytest.raises(ValueError, match="is not a readable infos file"):
        load_plain(path)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_and_numpy_values_survive(tmp_path, protocol):
    values = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "transposed": np.arange(6, dtype=">i4").reshape(2, 3).T,
        "scalar": np.int64(7),
        "flag": np.bool_(True),
        "plain": [1, 2.5, "text", None, (True, b"bytes", b""), {"nested": {1, 2}}],
    }
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    read = load_plain(path)
    for name in ("array", "transposed"):
        assert isinstance(read[name], PickledArray)
        np.testing.assert_array_equal(read[name].values, values[name])
    assert read["scalar"] == 7 and read["flag"] is True
    assert read["plain"] == values["plain"]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_infos_raise_nothing_but_value_error(tmp_path_factory, data):
    whole = pickle.dumps({"metainfo": {"a": np.float32(1)}, "data_list": [{"b": np.arange(3)}] * 3}, protocol=4)
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=6)) + whole[at + data.draw(st.integers(0, 6)) :]
    path = tmp_path_factory.mktemp("damaged") / "infos.pkl"
    path.write_bytes(damaged)
    try:
        load_plain(path)
    except ValueError as error:
        assert str(error).startswith("infos.pkl is not a readable infos file: ")


FOUR = ["floor", "wall", "pipe", "valve"]
TO_FOUR = np.array([0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3])


def own(scene):
    scene.semantic = TO_FOUR[scene.semantic]


def test_own_classes_of_the_data_folder(tmp_path, capsys):
    def seven(scene):
        own(scene)
        scene.semantic[scene.semantic == 3] = 7

    defects.write(tmp_path, "s3dis", own)
    (tmp_path / "classes.txt").write_text("\n".join(["# of the plant", *FOUR, ""]))
    assert run(tmp_path, "--format", "s3dis") == 0
    printed = capsys.readouterr().out
    assert "pipe" in printed and "ceiling" not in printed
    defects.write(tmp_path, "s3dis", seven)
    assert run(tmp_path, "--format", "s3dis") == 1
    printed = capsys.readouterr().out
    assert (
        re.search(r"labels outside 0 to 3: 7 \(\d+ points\)", printed)
        and "Give such points a class of their own" in printed
    )
    (tmp_path / "classes.txt").unlink()
    assert check.check_dataset(tmp_path, check.format_of(tmp_path, "s3dis")).kind.labels == range(13)


def test_sixteen_classes_are_valid(tmp_path):
    def sixteen(scene):
        scene.semantic[scene.semantic == 12] = 15

    defects.write(tmp_path, "s3dis", sixteen)
    (tmp_path / "classes.txt").write_text("\n".join(f"class {n}" for n in range(16)))
    assert run(tmp_path, "--format", "s3dis") == 0


@pytest.mark.parametrize(("text", "message"), [("a\nb\na\n", "'a' stands there twice"), ("# x\n\n", "names no class")])
def test_a_wrong_class_file(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        check.format_of(tmp_path, "s3dis")


def test_labels_from_1(tmp_path):
    def from_one(scene):
        own(scene)
        scene.semantic += 1

    defects.write(tmp_path, "s3dis", from_one)
    (tmp_path / "classes.txt").write_text("\n".join(FOUR))
    codes = {
        finding.code: finding for finding in check.check_dataset(tmp_path, check.format_of(tmp_path, "s3dis")).findings
    }
    assert codes["labels-from-1"].severity == "error"
    assert "no point of any scene has label 0, 'floor': are labels counted from 1?" in codes["labels-from-1"].message


def test_georeferenced_points_are_found(tmp_path):
    def shift(scene):
        scene.points = np.add(scene.points, np.array([500_000, 5_400_000, 300, 0, 0, 0])).astype(np.float32)

    defects.write(tmp_path, "s3dis", shift)
    (finding,) = [f for f in check.check_dataset(tmp_path, FORMATS["s3dis"]).all_findings() if f.severity == "error"]
    assert finding.code == "rounded-coordinates"
    assert re.search(r"reach 5,400,\d+, where float32 counts in steps of 0\.5 m: 3000 points have", finding.message)


def test_what_the_voxels_merge_is_found(tmp_path):
    """A room in kilometres: all of it lies in one voxel."""

    def shrink(scene):
        scene.points[:, :3] /= 1000

    defects.write(tmp_path, "s3dis", shrink)
    (finding,) = check.check_dataset(tmp_path, FORMATS["s3dis"]).all_findings()
    assert (finding.severity, finding.code) == ("error", "merged-by-voxels")
    assert "in 1 voxels" in finding.message and "Are the coordinates in metres?" in finding.message


def test_instances_without_a_voxel_by_hand():
    """Instance 1 has a voxel to itself; 2 shares its only voxel with 1."""
    report = SceneReport("scene")
    points = np.zeros((5, 6), np.float32)
    points[:, 0] = [0.0, 0.01, 0.06, 0.07, 0.11]
    check_resolution(FORMATS["s3dis"], points, np.array([1, 1, 1, 2, 3]), report)
    (finding,) = report.findings
    assert (finding.severity, finding.code) == ("note", "merged-by-voxels")
    assert "1 of 3 instances (ids 2) have no voxel of 0.05 m to themselves in 3 voxels" in finding.message


@pytest.mark.parametrize("which", ["both", "semantic", "instance"])
def test_int32_masks_are_not_blamed_on_the_points(tmp_path, which):
    """Labels of 0 beside each other look like one int64, whose upper half is 0 too."""

    def damage(scene):
        scene.semantic[:] = 0
        scene.instance[:] = 0
        if which != "instance":
            scene.semantic = scene.semantic.astype(np.int32)
        if which != "semantic":
            scene.instance = scene.instance.astype(np.int32)

    defects.write(tmp_path, "s3dis", damage)
    findings = check.check_dataset(tmp_path, FORMATS["s3dis"]).all_findings()
    assert {finding.code for finding in findings} == {"file-size"}
    assert len(findings) == (2 if which == "both" else 1)
    for finding in findings:
        assert "_mask/" in finding.message and "which looks like int32; expected 24000: 3000 int64" in finding.message


def test_scenes_that_are_listed_twice(tmp_path):
    infos = defects.write(tmp_path, "s3dis", lambda scene: scene.infos["data_list"].append(scene.infos["data_list"][0]))
    (tmp_path / "s3dis_infos_Area_2.pkl").write_bytes(infos.read_bytes())
    found = {finding.code: finding.message for finding in check.check_dataset(tmp_path, FORMATS["s3dis"]).findings}
    assert "is listed 4 times (s3dis_infos_Area_1.pkl[0], s3dis_infos_Area_1.pkl[1]" in found["listed-twice"]
    assert "stands in s3dis_infos_Area_1.pkl and s3dis_infos_Area_2.pkl" in found["in-two-infos"]


# single values at the edges of rules


@pytest.mark.parametrize(
    ("colours", "code"),
    [
        ((0, 1), "colour-range"),
        ((0, 1.01), None),
        ((0, 255), None),
        ((0, 255.5), "colour-range"),
        ((-1, 200), "colour-range"),
    ],
)
def test_colour_range_edges(colours, code):
    report = SceneReport("scene")
    points = np.zeros((2, 6), np.float32)
    points[:, 3] = colours
    check_points(points, report)
    assert [finding.code for finding in report.findings] == ([code] if code else [])


def test_things_only_with_id_minus_1_have_stuff():
    """In ScanNet a point of id -1 counts as unlabelled, so that the host's assertion holds."""
    for ids, codes in (([-1, 0], []), ([0, 1], ["no-stuff"])):
        report = SceneReport("scene")
        check_labels(FORMATS["scannet"], np.array([5, 5]), np.array(ids), report)
        assert [finding.code for finding in report.findings if finding.severity == "error"] == codes


@pytest.mark.parametrize("numbers", [5, 7])
def test_boxes_have_six_numbers(tmp_path, numbers):
    defects.write(tmp_path, "s3dis", lambda scene: scene.info["instances"][0].update(bbox_3d=[1.0] * numbers))
    (finding,) = check.check_dataset(tmp_path, FORMATS["s3dis"]).all_findings()
    assert finding.code == "box-shape"


def own_labels(folder, labels):
    """A scene of own classes a to d with these labels, one point each; returns the codes of what is found."""
    (folder / "classes.txt").write_text("a\nb\nc\nd\n")
    count = len(labels)
    xyz = np.concatenate([np.arange(3.0 * count).reshape(count, 3), np.full((count, 3), 99)], 1)
    for kind, data in (("points", xyz.astype("<f4")), ("semantic_mask", np.array(labels, "<i8")),
                       ("instance_mask", np.arange(count, dtype="<i8"))):  # fmt: skip
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / "s.bin").write_bytes(data.tobytes())
    entry = {"lidar_points": {"lidar_path": "s.bin", "num_pts_feats": 6}, "pts_semantic_mask_path": "s.bin",
             "pts_instance_mask_path": "s.bin", "instances": [{"bbox_3d": [0] * 6, "bbox_label_3d": 0}]}  # fmt: skip
    for split in ("train", "val"):
        infos = {"metainfo": {}, "data_list": [entry] if split == "train" else []}
        (folder / f"infos_{split}.pkl").write_bytes(pickle.dumps(infos))
    report = check.check_dataset(folder, check.format_of(folder, "s3dis"), workers=1, quiet=True)
    return {finding.code: finding.severity for finding in report.all_findings()}


@pytest.mark.parametrize(
    ("labels", "severity"),
    [
        ([1, 2, 3, 4], "error"),
        ([1, 2, 3], "warning"),
        ([1, 2], None),
        ([0, 1, 2, 3], None),
        ([0, 1, 2], None),
        ([-1, 1, 2, 3], None),
        ([-1, 1, 2], None),
    ],
)
def test_labels_counted_from_1(tmp_path, labels, severity):
    assert own_labels(tmp_path, labels).get("labels-from-1") == severity


def test_workers_must_be_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        check.check_dataset(tmp_path, FORMATS["s3dis"], workers=0)


def test_what_is_printed_cannot_steer_a_terminal():
    assert check._printable("a\x1b[2Jb\n'é") == "a\\x1b[2Jb\\n'é"


def test_as_many_findings_as_are_listed_have_no_more(tmp_path):
    report = check.DatasetReport(tmp_path, FORMATS["s3dis"])
    report.findings += [check.Finding("error", "code", f"place {k}", "message") for k in range(check.SHOWN)]
    assert "more; --json" not in check.summary(report)
    report.findings.append(report.findings[0])
    assert "and 1 more; --json lists all" in check.summary(report)


def test_a_class_without_instances_counts_none(tmp_path):
    report = check.DatasetReport(tmp_path, FORMATS["scannet"])
    scene = SceneReport("scene")
    check_labels(FORMATS["scannet"], np.array([1, 1, 5]), np.array([0, 0, 3]), scene)
    report.scenes.append(scene)
    table = report.class_table()
    assert (table["wall"]["points"], table["wall"]["instances"], table["chair"]["instances"]) == (2, 0, 1)


@pytest.mark.parametrize(
    ("row", "looks"),
    [(48, "float64"), (12, "x y z without colour"), (16, "four columns"), (28, "seven columns"), (36, "nine columns")],
)
def test_points_of_another_type_are_recognised(tmp_path, row, looks):
    defects.write(tmp_path, "s3dis", lambda scene: None)
    report = check.check_dataset(tmp_path, FORMATS["s3dis"], quiet=True)
    path = next((tmp_path / "points").iterdir())
    count = path.stat().st_size // 24
    kind = "<f8" if row == 48 else "<f4"
    path.write_bytes(np.linspace(1, 9, count * row // np.dtype(kind).itemsize).astype(kind).tobytes())
    assert not report.all_findings()
    found = check.check_dataset(tmp_path, FORMATS["s3dis"], quiet=True).all_findings()
    assert any(f"which looks like {looks}; expected {count * 24}" in finding.message for finding in found), found


# what a file of an unexpected size could be, by the numbers in it


@pytest.mark.parametrize(
    ("row", "values", "plausible"),
    [
        (8, [2**31 - 1, 0], True),
        (8, [2**31, 0], False),
        (8, [-(2**31), 0], False),
        (8, [-5, 300], True),  # nobody knows what a wide label means; only its size is odd
        (4, [-1, 300], True),
        (4, [-2, 300], False),  # two halves of something else
        (2, [-2, 7], False),
        (1, [100, 0], True),
    ],
)
def test_what_looks_like_labels(tmp_path, row, values, plausible):
    (tmp_path / "mask.bin").write_bytes(np.array(values, f"<i{row}").tobytes())
    assert scenes._plausible(tmp_path / "mask.bin", "instance_mask", row) is plausible


@pytest.mark.parametrize("row", [24, 48])
@pytest.mark.parametrize(
    ("value", "plausible"),
    [(0.0, True), (-99_999_992.0, True), (1e8, False), (-2e8, False), (1.1e-12, True), (1e-12, False), (np.nan, True)],
)
def test_what_looks_like_coordinates(tmp_path, row, value, plausible):
    """A number that is huge or nearly zero has been read in the wrong width. Gaps are another rule's business."""
    table = np.full((5_000, 6), 3.0)  # more points than are looked at
    table[1, 2] = value
    (tmp_path / "points.bin").write_bytes(table.astype("<f8" if row == 48 else "<f4").tobytes())
    if row == 24 and value == 1e-12:
        return  # float32 has its own nearest number, on either side of the limit
    assert scenes._plausible(tmp_path / "points.bin", "points", row) is plausible


def test_a_finding_is_named_after_the_points(tmp_path):
    defects.write(tmp_path, "s3dis", lambda scene: scene.info.update(pts_instance_mask_path="other.bin"))
    (finding,) = check.check_dataset(tmp_path, FORMATS["s3dis"], quiet=True).all_findings()
    (points,) = (tmp_path / "points").iterdir()
    assert (finding.code, finding.where) == ("missing-file", points.stem)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (b"S'f4,f4'", "unknown numpy type 'f4,f4'"),
        (b"I5", "unknown numpy type 5"),
        (b"N", "unknown numpy type None"),
    ],
)
def test_types_that_numpy_does_not_write_are_refused(tmp_path, argument, message):
    end = b"" if argument == b"N" else b"\n"
    (tmp_path / "infos.pkl").write_bytes(b"cnumpy\ndtype\n(" + argument + end + b"tR.")
    with pytest.raises(ValueError, match=message):
        load_plain(tmp_path / "infos.pkl")


def test_long_text_arrays_are_called_by_their_type(tmp_path):
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps(np.array(["x" * 100]), protocol=4))
    with pytest.raises(ValueError, match="numpy values of type '<U100' are not accepted"):
        load_plain(tmp_path / "infos.pkl")


def test_an_entry_without_a_file_is_named_by_its_place(tmp_path):
    defects.write(tmp_path, "s3dis", lambda scene: scene.infos["data_list"].append("nothing"))
    (finding,) = check.check_dataset(tmp_path, FORMATS["s3dis"], quiet=True).all_findings()
    assert (finding.code, finding.where) == ("info-entry", "s3dis_infos_Area_1.pkl[1]")
    assert finding.message == "is of type str, expected a dict"
