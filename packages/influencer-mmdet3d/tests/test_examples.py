"""The script in examples/ runs and learns."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "examples" / "influencer-mmdet3d.py"


def test_example_finds_most_instances():
    done = subprocess.run([sys.executable, "-W", "ignore", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total = int(re.search(r"^(\d+) instances", done.stdout, re.M)[1])
    before = int(re.search(r"found before training: (\d+)", done.stdout)[1])
    after = [int(count) for count in re.findall(r"^step \d+: .* found (\d+)$", done.stdout, re.M)]
    assert len(after) == 4 and after[-1] > before and after[-1] >= 0.8 * total, done.stdout
    assert len(SCRIPT.read_text().splitlines()) <= 60
