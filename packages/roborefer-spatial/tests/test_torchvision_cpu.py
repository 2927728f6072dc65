"""In processes of their own, against stand-ins of torchvision: a process can import it only once."""

import subprocess
import sys

import pytest

WITHOUT_OPERATORS = """
import torch
if not all(hasattr(torch.ops.torchvision, name) for name in ("nms", "qnms")):
    raise RuntimeError("operator torchvision::nms does not exist")
"""
CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from roborefer_spatial import torchvision_cpu
print(torchvision_cpu.lacks_operators(), torchvision_cpu.make_importable(), torchvision_cpu.lacks_operators())
import torchvision
"""


def run(folder, source):
    (folder / "torchvision").mkdir()
    (folder / "torchvision/__init__.py").write_text(source)
    return subprocess.run([sys.executable, "-c", CODE, str(folder)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("source", "printed"), [("", "False False False"), (WITHOUT_OPERATORS, "True True False")], ids=["whole", "cpu"]
)
def test_the_operators_are_declared_where_they_are_missing(tmp_path, source, printed):
    done = run(tmp_path, source)
    assert (done.returncode, done.stdout.strip()) == (0, printed), done.stderr
    assert ("its nms cannot be used" in done.stderr) == (source != "")


def test_another_fault_is_not_hidden(tmp_path):
    done = run(tmp_path, "raise RuntimeError('quite another fault')")
    assert done.returncode == 1
    assert "quite another fault" in done.stderr


def test_without_torchvision_nothing_is_done(monkeypatch):
    import importlib.util

    from roborefer_spatial import torchvision_cpu

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not torchvision_cpu.make_importable()
