"""The scripts in tools/influencer, which are not part of the wheel."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_host import called, checkpoint, write_host, write_infos
from influencer_mmdet3d.host import launch
from influencer_mmdet3d.host.checkpoint import save

TOOLS = Path(__file__).parents[3] / "tools" / "influencer"
SCRIPTS = sorted(TOOLS.glob("*.sh"))
VERIFY = TOOLS / "register_criterion.py"


def run(script: Path, *words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess:
    unset = ("GPUS", "SLURM_JOB_ID", "ONEFORMER3D_ROOT")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"PYTHON": sys.executable, **environ}
    return subprocess.run(["bash", str(script), *words], capture_output=True, text=True, cwd=cwd, env=env)


@pytest.fixture
def host(tmp_path):
    root = write_host(tmp_path / "host")
    write_infos(root / "data" / "s3dis")
    save(checkpoint(), root / "work_dirs" / "tmp" / "start.pth")
    return root


def test_there_are_four():
    assert [path.name for path in SCRIPTS] == ["eval_s3dis.sh", "eval_scannet.sh", "train_s3dis.sh", "train_scannet.sh"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_needs_no_package_and_names_every_option(script, tmp_path):
    done = run(script, "--help", cwd=tmp_path, PYTHON="/absent")
    assert done.returncode == 0 and script.name in done.stdout and "#" not in done.stdout
    parser = argparse.ArgumentParser()
    add = {"train": launch.add_train_arguments, "eval": launch.add_evaluate_arguments}[script.stem.split("_")[0]]
    add(parser)
    known = set(re.findall(r"--[a-z-]+", parser.format_help())) - {"--help"}
    assert {"--cfg-options", "--work-dir", "--data-root"} <= known
    assert known == set(re.findall(r"--[a-z-]+", done.stdout))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_arguments(script, tmp_path):
    done = run(script, cwd=tmp_path, PYTHON="/absent")
    assert done.returncode == 2 and script.name in done.stdout


def test_wrong_arguments(tmp_path):
    done = run(TOOLS / "train_s3dis.sh", "influencer", "--no-such-option", cwd=tmp_path)
    assert done.returncode == 2 and "--no-such-option" in done.stderr


def test_package_missing(tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    done = run(TOOLS / "train_s3dis.sh", "influencer", cwd=tmp_path, PYTHON=str(bare))
    assert done.returncode == 2 and "pip install influencer-mmdet3d" in done.stderr


def test_from_a_copy_elsewhere_with_the_hosts_exit_code(host, tmp_path):
    """As sbatch runs it: a copy under another name, in another folder."""
    script = tmp_path / "slurm_script"
    script.write_text((TOOLS / "train_s3dis.sh").read_text())
    record = tmp_path / "record.json"
    done = run(
        script,
        *("influencer", "--work-dir", "run", "--cfg-options", "custom_hooks=[]"),
        cwd=tmp_path,
        ONEFORMER3D_ROOT=str(host),
        FAKE_RECORD=str(record),
        FAKE_EXIT="3",
    )
    assert done.returncode == 3, done.stderr
    call = called(record)
    assert "custom_hooks=[]" in call["argv"] and str(tmp_path / "run") in call["argv"]
    assert "the host speaks" in done.stdout
    (log,) = (tmp_path / "run").glob("train_*.log")
    assert "the host speaks" in log.read_text() and "and complains" in log.read_text()


def test_resume_and_eval(host, tmp_path):
    save(checkpoint(), tmp_path / "run" / "epoch_16.pth")
    (tmp_path / "run" / "last_checkpoint").write_text(str(tmp_path / "run" / "epoch_16.pth"))
    common = {"cwd": tmp_path, "ONEFORMER3D_ROOT": str(host), "FAKE_RECORD": str(tmp_path / "record.json")}
    assert run(TOOLS / "train_s3dis.sh", "influencer", "--resume", "--work-dir", "run", **common).returncode == 0
    argv = called(tmp_path / "record.json")["argv"]
    assert argv[argv.index("--resume") + 1] == str(tmp_path / "run" / "epoch_16.pth")
    assert run(TOOLS / "eval_s3dis.sh", "influencer", "run/epoch_16.pth", **common).returncode == 0
    assert called(tmp_path / "record.json")["argv"][2] == str(tmp_path / "run" / "epoch_16.pth")


def verify(*words: str, python: tuple[str, ...] = (sys.executable,), **environ: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "ONEFORMER3D_ROOT"} | environ
    return subprocess.run([*python, str(VERIFY), *words], capture_output=True, text=True, env=env)


def test_verify_without_the_package():
    done = verify("--verify", python=(sys.executable, "-I", "-S"))
    assert done.returncode == 1 and done.stdout.startswith("FAIL [package-missing]")


def test_verify_when_the_name_is_taken(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from mmengine.registry import MODELS\n\n\n@MODELS.register_module()\nclass InfluencerCriterion:\n    pass\n"
    )
    done = verify("--verify", PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert done.returncode == 1 and "FAIL [name-taken]" in done.stdout and "sitecustomize" in done.stdout


def test_verify_passes_its_config_on(tmp_path):
    done = verify("--verify", str(tmp_path / "my_config.py"))
    # mmdet3d may be absent or unusable here; in either case the reason is specific
    assert done.returncode == 1 and done.stdout.startswith("FAIL [")
    assert verify().returncode == 2
