import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples/mapanything-opv2v.py"


def test_it_checks_makes_depth_and_builds_panoramas(tmp_path):
    done = subprocess.run([sys.executable, str(EXAMPLE), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "checked 20 files of 1 frame: 0 problems" in done.stdout, done.stdout
    errors = {
        name: float(error) for name, error in re.findall(r"(dense|lidar) depth: .* error ([\d.]+) m", done.stdout)
    }
    assert errors["dense"] < 0.02 and errors["lidar"] < 0.2
    assert len(list(tmp_path.glob("panorama_*.png"))) == 2
