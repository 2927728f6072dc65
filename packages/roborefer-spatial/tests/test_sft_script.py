"""`tools/x3/run_sft_t1_x3.sh` and the defaults of both scripts; `echo` stands in for Python and shows the command."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[3] / "tools" / "x3"
NAMES = ("ROBOREFER_ROOT", "MODEL_PATH", "DATA_PATH", "OUTPUT_DIR", "FREEZE_VISION", "LOG_FILE", "MODEL", "DATA_ROOT")
MODEL = "runs/train/RoboRefer-2B-Depth-Align"


@pytest.fixture
def script(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in (*NAMES, "OUT_DIR", "EVAL_DIR")}
    env["PYTHON"] = str(shutil.which("echo"))

    def run(name, *words, **more):
        command = ["bash", str(TOOLS / name), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env | more)

    return run


def test_training_has_defaults_for_every_path_but_the_checkout(script, tmp_path):
    done = script("run_sft_t1_x3.sh")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "run_sft_t1_x3.sh: ROBOREFER_ROOT is not set")
    done = script("run_sft_t1_x3.sh", ROBOREFER_ROOT="/host")
    assert done.returncode == 2
    assert done.stderr.startswith(f"run_sft_t1_x3.sh: MODEL_PATH is {MODEL}, and there is no such path here")
    (tmp_path / MODEL).mkdir(parents=True)
    data = tmp_path / "tmp/spatial_tasks_x3/t1_train_multi.json"
    data.parent.mkdir(parents=True)
    data.write_text("[]")
    done = script("run_sft_t1_x3.sh", "--gpus", "8", ROBOREFER_ROOT="/host")
    assert done.returncode == 0
    assert (
        done.stdout.split()
        == (
            f"-m roborefer_spatial.train --model-name-or-path {MODEL} --data tmp/spatial_tasks_x3/t1_train_multi.json "
            "--output-dir runs/train/sft_t1_x3 --log-file runs/train/sft_t1_x3/train.log --freeze-vision "
            "--image-aspect-ratio resize --model-max-length 8192 --gpus 8"
        ).split()
    )
    done = script("run_sft_t1_x3.sh", ROBOREFER_ROOT="/host", OUTPUT_DIR="o", FREEZE_VISION="0")
    assert "--output-dir o --log-file o/train.log --no-freeze-vision" in done.stdout


def test_zero_shot_takes_tree_and_model_where_the_notes_have_them(script, tmp_path):
    tasks = tmp_path / "tmp/spatial_tasks_x3"
    done = script("run_zeroshot_x3.sh")
    assert (done.returncode, "DATA_ROOT is not set" in done.stderr) == (2, True)
    (tmp_path / "x3").mkdir()
    done = script("run_zeroshot_x3.sh")
    assert "build --data-root x3 --out-dir tmp/spatial_tasks_x3" in done.stdout
    tasks.mkdir(parents=True)
    for name in ("manifest.json", "t1_val_multi.json"):
        (tasks / name).write_text("[{}]")
    assert "--model-name-or-path" not in script("run_zeroshot_x3.sh").stdout
    (tmp_path / MODEL).mkdir(parents=True)
    assert f"--model-name-or-path {MODEL}" in script("run_zeroshot_x3.sh").stdout
    assert "--model-name-or-path" not in script("run_zeroshot_x3.sh", "--backend", "file").stdout
    assert "--model-name-or-path mine" in script("run_zeroshot_x3.sh", MODEL="mine").stdout
