"""The guide for one's own point clouds, followed word by word, through the launchers and the real host."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cpu_host
import numpy as np
import pytest
from influencer_mmdet3d.data.rooms import make_room

GUIDE = Path(__file__).parents[4] / "docs" / "influencer-mmdet3d" / "own-data.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
TO_FOUR = np.array([0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3])  # S3DIS classes to the guide's four
SMALL = (
    *("model.num_channels=16", "model.voxel_size=0.1", "model.min_spatial_shape=64", "model.test_cfg.npoint_thr=20"),
    *("model.backbone.num_planes=[16,32,48]", "model.decoder.num_instance_queries=60", "model.decoder.in_channels=16"),
    *("model.decoder.d_model=64", "model.decoder.num_heads=4", "model.decoder.hidden_dim=128"),
    *(f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")),
    *(f"{part}_dataloader.persistent_workers=False" for part in ("train", "val", "test")),
    *("model.test_cfg.topk_insts=100", "train_cfg.val_interval=4", "default_hooks.checkpoint.interval=2"),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The guide's three files, its data written by its own code, and an environment for a CPU."""
    root = tmp_path_factory.mktemp("own")
    for block in BLOCKS:
        if name := re.match(r"# (\w+\.py)", block):
            (root / name[1]).write_text(block)
    assert sorted(path.name for path in root.iterdir()) == ["my_config.py", "my_dataset.py", "write_data.py"]
    names: dict = {}
    exec((root / "write_data.py").read_text(), names)
    generator = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        rooms = {f"{split}_{n}": make_room(generator, points=3000, objects=(4, 6)) for n in range(count)}
        scenes = {name: (room.points, TO_FOUR[room.semantic], room.instance - 1) for name, room in rooms.items()}
        names["write_split"](root / "data" / "mine", split, scenes)
    (root / "site").mkdir()
    (root / "site" / "sitecustomize.py").write_text("import cpu_host\n")
    return root


def run(project, *words):
    path = [project / "site", Path(cpu_host.__file__).parent, project, os.environ["ONEFORMER3D_ROOT"], *sys.path]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=project, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def launch(project, *words):
    return run(project, "-m", "influencer_mmdet3d.cli", *words)


def scalars(work_dir):
    """Return what mmengine wrote for each step of each run, oldest run first."""
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):
        yield [json.loads(line) for line in path.read_text().splitlines()]


def scores_of_validation(work_dir):
    """Return the scores of the last validation."""
    (*_, last) = scalars(work_dir)
    return [line for line in last if "miou" in line][-1]


def scores_of_test(work_dir):
    """Return the scores of the last test, which mmengine writes beside the log."""
    return json.loads(max(work_dir.glob("*/*.json"), key=lambda path: path.stat().st_mtime).read_text())


def same(one, other):
    return all(one[key] == pytest.approx(other[key]) for key in ("miou", "all_ap_50%", "pq"))


def test_guide_trains_resumes_and_evaluates(project):
    code, output = launch(project, "verify", "my_config.py")
    assert code == 0, output
    code, output = launch(project, "train", "s3dis", "my_config.py", "--cfg-options", *SMALL, "train_cfg.max_epochs=2")
    assert code == 0, output[-3000:]
    words = ("train", "s3dis", "my_config.py", "--resume", "--cfg-options", *SMALL, "train_cfg.max_epochs=4")
    code, output = launch(project, *words)
    assert code == 0, output[-3000:]
    work_dir = project / "work_dirs" / "my_config"
    resumed = list(scalars(work_dir))[-1]
    assert {line["epoch"] for line in resumed if "epoch" in line} == {3, 4}, "it went on where it had stopped"
    checkpoint = work_dir / "epoch_4.pth"
    code, output = launch(project, "evaluate", "s3dis", "my_config.py", str(checkpoint), "--cfg-options", *SMALL)
    assert code == 0, output[-3000:]
    assert same(scores_of_test(work_dir), scores_of_validation(work_dir)), (
        "a checkpoint must score what its model scored"
    )
    assert len(list(work_dir.glob("train_*.log"))) == 2 and len(list(work_dir.glob("test_*.log"))) == 1


LOAD = """
import sys, torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
work_dir, name = sys.argv[1:]
cfg = Config.fromfile(f"{work_dir}/my_config.py")
init_default_scope("mmdet3d")
from mmdet3d.registry import MODELS
model = MODELS.build(cfg.model)
load_checkpoint(model, f"{work_dir}/{name}", map_location="cpu")
trained = torch.load(f"{work_dir}/epoch_4.pth", map_location="cpu", weights_only=False)["state_dict"]
kernels = [key for key, value in trained.items() if key.startswith("unet.") and value.ndim == 5]
assert kernels
sys.exit(0 if all(torch.equal(model.state_dict()[key], trained[key]) for key in kernels) else 9)
"""


def loads_the_trained_kernels(project, name):
    """Load a checkpoint as the host does, and tell whether the backbone got its trained weights."""
    code, output = run(project, "-c", LOAD, str(project / "work_dirs" / "my_config"), name)
    assert code in (0, 9), output[-3000:]
    return code == 0


def test_hosts_fix_breaks_a_checkpoint_and_ours_repairs_it(project):
    """What the docs say about `tools/fix_spconv_checkpoint.py`; needs the run of the test above."""
    work_dir = project / "work_dirs" / "my_config"
    checkpoint, fixed, repaired = (work_dir / name for name in ("epoch_4.pth", "fixed.pth", "repaired.pth"))
    tool = str(Path(os.environ["ONEFORMER3D_ROOT"]) / "tools" / "fix_spconv_checkpoint.py")
    code, output = run(project, tool, "--in-path", str(checkpoint), "--out-path", str(fixed))
    assert code == 0, output
    assert loads_the_trained_kernels(project, "epoch_4.pth")
    assert not loads_the_trained_kernels(project, "fixed.pth"), "the host goes on with a random backbone"
    code, output = launch(project, "evaluate", "s3dis", "my_config.py", str(fixed), "--cfg-options", *SMALL)
    assert code == 2 and "silently stay random" in output
    code, output = launch(project, "fix-checkpoint", str(fixed), str(repaired))
    assert code == 0, output
    assert loads_the_trained_kernels(project, "repaired.pth")
    code, output = launch(project, "evaluate", "s3dis", "my_config.py", str(repaired), "--cfg-options", *SMALL)
    assert code == 0 and same(scores_of_test(work_dir), scores_of_validation(work_dir)), output[-3000:]
