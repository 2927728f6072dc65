"""The benchmark's cell, trained and evaluated in the real host by the benchmark's own command."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "host_learning.py"


def test_a_tiny_cell(tmp_path):
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--models", "scannet", "--criteria", "influence"]
    command += ["--seeds", "3", "--steps", "5", "--rooms", "2", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scannet influence seed 3: held-out AP" in done.stdout
    cell = json.loads((tmp_path / "cells" / "scannet.influence.3.json").read_text())
    assert [point["step"] for point in cell["curve"]] == [1, 2, 3, 4, 5]
    assert set(cell["held_out"]) == set(cell["training"]) == {"ap", "ap50", "ap25", "miou", "pq"}
    assert cell["options"]["num_classes"] == 18 and cell["options"]["form"] == "influence"
    assert cell["inst_loss"]["last_tenth"] < cell["inst_loss"]["first_tenth"]
    assert 0 < cell["train_seconds"] < cell["seconds"]
