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
from influencer_mmdet3d.data import check
from influencer_mmdet3d.data.formats import FORMATS, SceneReport
from influencer_mmdet3d.data.labels import check_labels, check_superpoints
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
    assert run(tmp_path, "--format", kind) == 1
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
        ("warning", "one-point-instance"),
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
    defects.write(tmp_path, "s3dis", defects.S3DIS["instance of one point"][0])
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
