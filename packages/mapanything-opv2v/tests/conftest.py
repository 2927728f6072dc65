from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from mapanything_opv2v.synthetic import write_town


def load_double():
    path = Path(__file__).with_name("host_double.py")
    spec = importlib.util.spec_from_file_location("opv2v_host_double", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its classes can be pickled
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def small_town(tmp_path_factory):
    """Three splits of 80 x 60 images: two sequences of two frames with three cars and a mast.

    The first frame of each split's second sequence has lost its last car: frames offer different view counts.
    """
    root = tmp_path_factory.mktemp("town")
    truth = write_town(
        root / "opv2v",
        seed=5,
        sequences=2,
        frames=2,
        agents=3,
        infrastructure=1,
        splits=("train", "validate", "test"),
        depth_root=root / "depth",
        image_size=(80, 60),
        lidar_size=(24, 256),
    )
    for split in truth.splits:
        for tree in (truth.root, truth.depth_root):
            for path in (tree / split / truth.sequences[1] / str(truth.agents[-1])).glob(f"{truth.frames[0]}*"):
                path.unlink()
    return truth


@pytest.fixture
def own_town(small_town, tmp_path):
    """Return (root, depth_root): a copy of the town that a test may damage."""
    shutil.copytree(small_town.root, tmp_path / "opv2v")
    shutil.copytree(small_town.depth_root, tmp_path / "depth")
    return tmp_path / "opv2v", tmp_path / "depth"


@pytest.fixture
def double_host(monkeypatch):
    """Return `mapanything_opv2v.host.datasets`, imported against the double of the host."""
    double = load_double()
    double.clear()
    for name, module in double.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    from mapanything_opv2v.host import datasets

    yield datasets
    double.clear()
