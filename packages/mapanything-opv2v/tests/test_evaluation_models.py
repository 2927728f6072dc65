from __future__ import annotations

import csv
import json

import pytest
from mapanything_opv2v import cli
from mapanything_opv2v.evaluation import models

PROVENANCE = {"frames_sha256": "f", "options": {"alignment": "view0"}, "data": {"split": "test", "resolution": [4, 2]}}


def evaluation(folder, figures, baselines=None, **provenance):
    folder.mkdir()
    summary = {
        "figures": {name: {"mean": value, "frames": 3} for name, value in figures.items()},
        "baselines": baselines or {},
        "provenance": {**PROVENANCE, "checkpoint": folder.name, **provenance},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_one_table_by_hand(tmp_path, capsys):
    beside = {
        "constant": {"loses_in": ["depth_rmse_m"], "all_figures": {"depth_rmse_m": {"mean": 1.0, "frames": 3}}},
        "view0_copied": {"missing": "frames have one view"},
    }
    metric = evaluation(tmp_path / "metric", {"depth_rmse_m": 2.0, "depth_relative_scaled": 0.2}, beside)
    free = evaluation(tmp_path / "free", {"depth_relative_scaled": 0.1}, data={"split": "test", "resolution": [8, 2]})
    rows = models.load_rows([metric, free])
    assert [row.name for row in rows] == ["metric: metric (images)", "free: free (images)", "constant (no learning)"]
    assert rows[1].means["depth_rmse_m"] is None and rows[1].differs == "resolution [8, 2]"
    assert rows[0].loses == {"constant": 1} and rows[1].loses == {}
    assert models.best(rows) == {"depth_rmse_m": 2, "depth_relative_scaled": 1}
    assert cli.main(["table", str(metric), str(free), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("depth")}
    assert lines == {"depth_rmse_m": ["2", "–", "1*"], "depth_relative_scaled": ["0.2", "0.1*", "–"]}
    assert "metric: metric (images): loses to constant in 1 figures" in text
    table = list(csv.DictReader((tmp_path / "out" / "models.csv").open()))
    assert [row["depth_rmse_m"] for row in table] == ["2.0", "", "1.0"]
    assert "loses to constant in 1 figures" in (tmp_path / "out" / "models.html").read_text()


def test_what_makes_no_table_is_refused(tmp_path, capsys):
    a = evaluation(tmp_path / "a", {"depth_rmse_m": 2.0})
    b = evaluation(tmp_path / "b", {"depth_rmse_m": 2.0}, frames_sha256="g")
    c = evaluation(tmp_path / "c", {"depth_rmse_m": 2.0}, options={"alignment": "cameras"})
    for folders, message in (
        ([a, b], "was evaluated on other frames than"),
        ([a, c], "was evaluated on other options of the figures than"),
        ([a, tmp_path], "no summary.json; give folders that `evaluate` has finished"),
    ):
        with pytest.raises(ValueError, match=message):
            models.load_rows(folders)
    assert cli.main(["table", str(a), str(b), "--out", str(tmp_path / "out")]) == 2
    assert "other frames" in capsys.readouterr().err
