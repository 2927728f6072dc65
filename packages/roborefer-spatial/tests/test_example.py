import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples/roborefer-spatial.py"


def test_it_renders_builds_scores_and_writes_a_page(tmp_path):
    done = subprocess.run([sys.executable, str(EXAMPLE), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    hits = [float(value) for value in re.findall(r"Hit@Mask ([\d.]+)", done.stdout)]
    assert len(hits) == 2 and all(0 <= hit <= 1 for hit in hits)
    assert "where it was in A" in (tmp_path / "report.html").read_text()
