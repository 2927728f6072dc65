from __future__ import annotations

import csv
import json
import statistics

import pytest
from mapanything_opv2v.evaluation.results import ResultsFolder, scale_warning, summarise, write_tables

FRAMES = {
    "test/b/2_agent5": {"metric_scale": 1.0, "error_m": 3.0, "pairs": None},
    "test/a/1_agent5": {"metric_scale": 1.0, "error_m": 1.0, "pairs": None},
    "test/a/2_agent5": {"metric_scale": 1.0, "error_m": 8.5, "pairs": None, "extra": 2.0},
}


def test_a_folder_resumes_and_refuses_another_run(tmp_path):
    folder = ResultsFolder(tmp_path / "out", {"checkpoint": "abc", "inputs": ("pose",)})
    assert not folder.has("test/a/1_agent5")
    folder.add("test/a/1_agent5", FRAMES["test/a/1_agent5"])
    again = ResultsFolder(tmp_path / "out", {"inputs": ["pose"], "checkpoint": "abc"})
    assert again.has("test/a/1_agent5")
    assert again.load(FRAMES) == {"test/a/1_agent5": FRAMES["test/a/1_agent5"]}
    with pytest.raises(
        ValueError, match=r"another run \(checkpoint: 'abc' there, 'xyz' now; seed: None there, 1 now\)"
    ):
        ResultsFolder(tmp_path / "out", {"checkpoint": "xyz", "inputs": ["pose"], "seed": 1})


def test_a_folder_from_before_baselines_is_gone_on_with(tmp_path, caplog):
    before = {"checkpoint": "abc"}
    ResultsFolder(tmp_path / "out", before).add("test/a/1_agent5", {"error_m": 1.0})
    now = {**before, "baseline": {"split": "train", "samples": 100}}
    with pytest.raises(ValueError, match=r"another run \(checkpoint: 'abc' there, 'xyz' now\)"):
        ResultsFolder(tmp_path / "out", {**now, "checkpoint": "xyz"})
    again = ResultsFolder(tmp_path / "out", now)
    assert again.has("test/a/1_agent5") and "begun before `baseline` was recorded: it is gone on with" in caplog.text
    caplog.clear()
    ResultsFolder(tmp_path / "out", now)
    assert not caplog.text
    with pytest.raises(ValueError, match=r"another run \(baseline: .*'samples': 100.* there, .*'samples': 5"):
        ResultsFolder(tmp_path / "out", {**now, "baseline": {"split": "train", "samples": 5}})
    with pytest.raises(ValueError, match=r"another run \(baseline: .* there, None now\)"):
        ResultsFolder(tmp_path / "out", before)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_a_damaged_provenance_is_named(tmp_path, text):
    (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(ValueError, match=r"provenance\.json: (damaged JSON|expected an object, got list)"):
        ResultsFolder(tmp_path, {"checkpoint": "abc"})


def test_a_summary_by_hand():
    figures = summarise(FRAMES)["figures"]
    values = [1.0, 3.0, 8.5]
    assert figures["error_m"] == {
        "frames": 3,
        "mean": pytest.approx(statistics.mean(values)),
        "median": 3.0,
        "std": pytest.approx(statistics.pstdev(values)),
        "p90": pytest.approx(3 + 0.8 * 5.5),
    }
    assert figures["pairs"] == {"frames": 0}
    assert figures["extra"]["frames"] == 1


def test_a_warning_needs_a_majority():
    assert scale_warning({"frames": 4, "scale_applied": {"twice": 2, "once": 2}}) is None
    assert "never" in scale_warning({"frames": 4, "scale_applied": {"never": 3, "once": 1}})


def test_tables(tmp_path):
    summary = write_tables(tmp_path, FRAMES, {"checkpoint": "abc"}, {"test/c/1_agent5": "no file"})
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["failed"] == {"test/c/1_agent5": "no file"}
    assert summary["provenance"] == {"checkpoint": "abc"} and summary["frames"] == 3
    rows = list(csv.DictReader((tmp_path / "frames.csv").open()))
    assert [row["frame"] for row in rows] == sorted(FRAMES)
    assert [float(row["error_m"]) for row in rows] == [1.0, 8.5, 3.0]
    assert [row["extra"] for row in rows] == ["", "2.0", ""] and {row["pairs"] for row in rows} == {""}
