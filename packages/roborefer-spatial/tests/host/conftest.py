"""The real RoboRefer on a CPU, as published and with its syntax error corrected, and a tiny checkpoint.

A process can import one host only: tests of both run in processes of their own, the others share this one and
the published host.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
ROOT_ENV = "ROBOREFER_ROOT"
QUESTION = "Point to the object that is marked in the first image."
ANSWERS = ["[(0.123456, 0.789012)]", "NOT_VISIBLE", "[(0.500781, 0.251042)]", "[(0.912345, 0.034567)]"]


def pytest_configure(config):
    if not os.environ.get(ROOT_ENV):
        raise pytest.UsageError(f"{ROOT_ENV} is not set: the real-host tests need your RoboRefer checkout")


def environment(root) -> dict[str, str]:
    """Variables of a process that uses a host on this CPU, offline."""
    return {
        **os.environ, ROOT_ENV: str(root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1", "WANDB_MODE": "disabled", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip


def run(root, *words, status=0) -> str:
    """Run a Python module or file on a host; return what it printed, or fail with it on another status."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=environment(root), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=420,
    )  # fmt: skip
    assert done.returncode == status, f"status {done.returncode}, wanted {status}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def published() -> Path:
    """The user's own checkout, which nothing here may change."""
    return Path(os.environ[ROOT_ENV]).resolve()


@pytest.fixture(scope="session")
def corrected(published, tmp_path_factory) -> Path:
    """A copy of the package whose mixture file is corrected as a user would: valid names, nothing else."""
    import re

    root = tmp_path_factory.mktemp("corrected")
    shutil.copytree(published / "llava", root / "llava", ignore=shutil.ignore_patterns("__pycache__"))
    file = root / "llava/data/datasets_mixture.py"
    source = re.sub(r"(?<![\w\"/.])(\d)D_(\w+)(?=\)| = Dataset)", r"set\1d_\2", file.read_text())
    compile(source, str(file), "exec")
    file.write_text(source)
    return root


@pytest.fixture(params=["published", "corrected"])
def host_root(request) -> Path:
    """Either host."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def checkpoint(published, tmp_path_factory) -> Path:
    """A checkpoint of about 300,000 parameters in the host's layout."""
    folder = tmp_path_factory.mktemp("checkpoint")
    run(published, HERE / "tiny.py", folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> SimpleNamespace:
    """Four samples of two images each, told apart by their images only, as JSON and as JSONL."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index, answer in enumerate(ANSWERS):
        names = [f"{index}_{view}.png" for view in "ab"]
        for name in names:
            pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name)
            Image.fromarray(pixels[::-1]).save(folder / f"depth_{name}")
        turns = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": answer}]
        depth = [f"depth_{name}" for name in names]
        rows.append({"id": f"sample-{index}", "image": names, "depth": depth, "conversations": turns})
    (folder / "t1.json").write_text(json.dumps(rows))
    (folder / "t1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SimpleNamespace(folder=folder, json=folder / "t1.json", jsonl=folder / "t1.jsonl", rows=rows)


@pytest.fixture(scope="session")
def train(checkpoint, data):
    """Train the tiny checkpoint through `python -m roborefer_spatial.train`; return what was printed."""

    def start(root, output_dir, *words, status=0, processes=1, batch=2, source=None):
        return run(
            root, "-m", "roborefer_spatial.train", "--model_name_or_path", checkpoint,
            *(source or ("--data", data.jsonl)), "--output_dir", output_dir, "--cpu", "--dtype", "fp32",
            "--gpus", processes, "--per_device_train_batch_size", batch, "--gradient_accumulation_steps", 1,
            "--learning_rate", "3e-3", "--lr_scheduler_type", "linear",
            "--warmup_ratio", 0, "--dataloader_num_workers", 0, *words, status=status,
        )  # fmt: skip

    return start


@pytest.fixture(scope="session")
def run_python():
    """`run`, for tests."""
    return run


@pytest.fixture(scope="session")
def command():
    """Run `roborefer-spatial` on a host."""
    start = "import sys; from roborefer_spatial.cli import main; sys.exit(main())"
    return lambda root, *words, status=0: run(root, "-c", start, *words, status=status)


@pytest.fixture(scope="session")
def host(published):
    """The published host, repaired and imported in this process."""
    os.environ.update(environment(published))
    from roborefer_spatial.host.locate import find_host
    from roborefer_spatial.host.options import LaunchOptions
    from roborefer_spatial.host.prepare import prepare

    found = find_host(published)
    prepare(found, LaunchOptions(without=frozenset({"spatial-dataset"})))  # the host's own class is an oracle
    return found
