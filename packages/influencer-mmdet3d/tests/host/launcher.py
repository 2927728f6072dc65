"""The package's own commands in a process of their own, with the real host on a CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cpu_host

# Options that shrink the host's two models; the loaders' workers would only cost start-up time.
_MODEL = (
    *("model.num_channels=16", "model.voxel_size=0.1", "model.min_spatial_shape=64", "model.test_cfg.npoint_thr=20"),
    *("model.backbone.num_planes=[16,32,48]", "model.decoder.in_channels=16", "model.decoder.d_model=64"),
    *("model.decoder.num_heads=4", "model.decoder.hidden_dim=128", "model.test_cfg.topk_insts=100"),
    *(f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")),
    *(f"{part}_dataloader.persistent_workers=False" for part in ("train", "val", "test")),
)
SMALL = {
    "s3dis": (*_MODEL, "model.decoder.num_instance_queries=60"),
    # the pipeline's voxel size must be the model's
    "scannet": (*_MODEL, "model.decoder.num_layers=3", "train_dataloader.dataset.pipeline.7.voxel_size=0.1"),
}


def launch(folder: Path, *words: str) -> tuple[int, str]:
    """Run `influencer-mmdet3d WORDS` in a folder, which is importable too; return its exit code and all it printed."""
    standins = Path(cpu_host.__file__).parent  # its sitecustomize.py makes the child run the host without a GPU
    path = [standins, folder, os.environ["ONEFORMER3D_ROOT"], *sys.path]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    env.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)  # the launcher's to set
    command = [sys.executable, "-m", "influencer_mmdet3d.cli", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def metrics(output: str, kind: str) -> tuple[str, ...]:
    """Return the last scores that the host printed for `kind`, 'val' or 'test'."""
    found = re.findall(rf"Epoch\({kind}\).*?(miou: \S+).*?(all_ap_50%: \S+).*?(pq: \S+)", output)
    assert found, output[-3000:]
    return found[-1]
