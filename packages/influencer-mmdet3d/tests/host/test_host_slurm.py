"""The launcher as a job of a real SLURM cluster of one node: submitted, requeued in the middle, and gone on with."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cpu_host
import pytest
from influencer_mmdet3d.host.checkpoint import read_checkpoint
from launcher import SMALL

ROOT = Path(__file__).parents[4]
slurm = runpy.run_path(str(ROOT / "tasks" / "slurm_cluster.py"))
pytestmark = pytest.mark.skipif(bool(slurm["missing"]()), reason=slurm["missing"]() or "there")
EPOCHS = 6
SHORT = (
    *("load_from=None", "train_dataloader.batch_size=1", "default_hooks.checkpoint.interval=1"),
    *("train_cfg.val_interval=100", f"train_cfg.max_epochs={EPOCHS}"),
)


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket lies there
    with slurm["Cluster"](folder) as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    from influencer_mmdet3d.data.synthetic import write_s3dis

    root = tmp_path_factory.mktemp("s3dis")
    write_s3dis(root, areas=range(1, 7), rooms_per_area=1, seed=0, points_per_room=2_000, objects=(4, 5))
    return root


def submit(cluster, folder, *options, script="train_s3dis.sh", words):
    """Submit a launcher's script as sbatch users do; return the job's number and its output file."""
    path = [Path(cpu_host.__file__).parent, folder, os.environ["ONEFORMER3D_ROOT"], *sys.path]
    env = {
        **cluster.environment,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
    }
    env.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)  # the launcher's to set
    output = folder / "job.out"
    command = ["sbatch", "--parsable", f"--output={output}", "--open-mode=append", *options]
    command += [str(ROOT / "tools" / "influencer" / script), *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), output


def test_a_requeued_job_goes_on_at_its_epoch(cluster, rooms, tmp_path):
    words = ("influencer", "--resume", "--work-dir", "run", "--data-root", str(rooms), "--cfg-options")
    number, output = submit(cluster, tmp_path, "--ntasks=1", "--requeue", words=(*words, *SMALL["s3dis"], *SHORT))
    deadline = time.monotonic() + 240
    while not (tmp_path / "run" / "epoch_2.pth").exists():
        assert time.monotonic() < deadline, output.read_text()[-4000:] if output.exists() else "no output"
        time.sleep(0.5)
    cluster.run("scontrol", "requeue", number)
    text = cluster.wait_for_job(number, ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL"), 300)
    said = output.read_text()
    assert "JobState=COMPLETED" in text and "Restarts=1" in text, said[-4000:]
    assert "holds no checkpoint yet, starting from the beginning" in said  # the first start
    (resumed,) = re.findall(r"resumed epoch: (\d+)", said)
    assert 2 <= int(resumed) < EPOCHS
    assert read_checkpoint(tmp_path / "run" / f"epoch_{EPOCHS}.pth")["meta"]["epoch"] == EPOCHS


def test_a_job_of_two_tasks_starts_both_with_srun(cluster, rooms, tmp_path):
    """More than one process needs CUDA, since mmengine does. Both tasks come as far as that, under one srun."""
    words = ("influencer", "--work-dir", "run", "--data-root", str(rooms), "--cfg-options")
    number, output = submit(cluster, tmp_path, "--ntasks=2", words=(*words, *SMALL["s3dis"], *SHORT))
    cluster.wait_for_job(number, ("COMPLETED", "FAILED"), 240)
    said = output.read_text()
    assert re.search(r"srun --ntasks=2 --kill-on-bad-exit=1 \S*python\S* -u \S*train\.py .* --launcher slurm", said), (
        said
    )
