"""The launcher trains, saves, resumes and refuses on the real host, through every experiment."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from mapanything_opv2v import __version__
from mapanything_opv2v.checkpoints import storage
from mapanything_opv2v.checkpoints.record import KEY
from runs import log_of, text_of

CHECKPOINTS = ("checkpoint-last.pth", "checkpoint-best.pth", "checkpoint-final.pth")
RATES = {"stage1": 5e-5, "stage2": 3e-5, "stage3": 2e-5, "cylindrical": 5e-6}
STARTS_FROM = {"stage1": None, "stage2": "stage1", "stage3": "stage2", "cylindrical": "stage2"}


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    """Return a function that trains a stage, and the stages before it, once; it returns the run's folder."""
    folder = tmp_path_factory.mktemp("experiments")

    def get(stage):
        run_dir = folder / "opv2v" / stage
        if not run_dir.exists():
            if STARTS_FROM[stage]:
                get(STARTS_FROM[stage])
            done = launch(stage, folder)
            assert done.returncode == 0, text_of(done, run_dir)[-4000:]
        return run_dir

    return get


@pytest.fixture
def copied(trained, tmp_path):
    """Return a function that copies a trained run into a folder that a test may use up."""

    def copy(stage):
        shutil.copytree(trained(stage), tmp_path / "opv2v" / stage)
        return tmp_path, tmp_path / "opv2v" / stage

    return copy


@pytest.mark.parametrize("stage", STARTS_FROM)
def test_a_stage_starts_leaves_its_warm_up_and_finishes(trained, stage):
    run_dir = trained(stage)
    log = log_of(run_dir)
    assert [line["epoch"] for line in log] == [0, 1, 2]
    assert 0 < log[1]["train_lr"] < RATES[stage] and log[2]["train_lr"] < RATES[stage]
    for line in log[1:]:
        values = torch.tensor([value for key, value in line.items() if "loss" in key], dtype=torch.float64)
        assert torch.isfinite(values).all() and any(key.endswith("_validate_loss_avg") for key in line)
    assert {path.name for path in run_dir.glob("*.pth")} == set(CHECKPOINTS)
    assert not list(run_dir.glob(".*.part"))
    text = (run_dir / "train.log").read_text()
    assert text.count("train sampler: 2 steps an epoch on any number of GPUs (here 1)") == 1
    rates = f"default 0.000e+00 to {RATES[stage]:.3e}, encoder 0.000e+00 to {RATES[stage] / 20:.3e}"
    assert f"epoch 0: learning rate {rates}, over 2 steps" in text
    source = STARTS_FROM[stage]
    assert source is None or f"opv2v/{source}/checkpoint-best.pth\n" in text


def test_checkpoints_load_safely_and_say_where_they_come_from(trained, host_root):
    run_dir = trained("stage1")
    for name in CHECKPOINTS:
        checkpoint = torch.load(run_dir / name, weights_only=True)  # nothing allowed but tensors and plain values
        record = checkpoint[KEY]
        assert record["global_step"] == 2 * (record["epoch"] + 1) and record["steps_per_epoch"] == 2
        assert record["plugin_version"] == __version__ and len(record["host_commit"].split("+")[0]) == 40
        assert record["dataset_length"] == 15 and record["world_size"] == 1 and record["steps_fixed"]
        assert record["config"]["train_params"]["epochs"] == 2
        assert record["config"]["output_dir"] == str(run_dir)
        assert isinstance(checkpoint["args"], dict) and checkpoint["args"]["dataset"]["num_views"] == 4
    assert torch.load(run_dir / "checkpoint-final.pth", weights_only=True)[KEY]["epoch"] == 1
    (path,) = run_dir.glob("provenance-*.json")
    story = json.loads(path.read_text())
    assert story["host"]["root"] == str(host_root) and story["resumed_from"] is None
    assert story["deviations"]["left_out"] == [] and "atomic_checkpoints" in story["deviations"]["in_force"]


def test_a_run_goes_on_where_it_was(launch, copied):
    folder, run_dir = copied("stage1")
    for name in CHECKPOINTS[1:]:
        (run_dir / name).unlink()
    (run_dir / f".checkpoint-last.pth.{'0' * 16}.part").write_text("of a killed run")
    done = launch("stage1", folder, "train_params.epochs=3")
    text = text_of(done, run_dir)
    assert done.returncode == 0, text[-4000:]
    assert "removed what a killed run left half written" in text and not list(run_dir.glob(".*.part"))
    assert "train_params.epochs is 3, was 2: the learning rate jumps to the new course" in text
    assert [line["epoch"] for line in log_of(run_dir)] == [0, 1, 2, 2, 3]
    record = storage.load(run_dir / "checkpoint-last.pth")[KEY]
    assert record["epoch"] == 2 and record["global_step"] == 6
    stories = [json.loads(path.read_text()) for path in sorted(run_dir.glob("provenance-*.json"))]
    assert [story["resumed_from"] for story in stories] == [None, str(run_dir / "checkpoint-last.pth")]


def test_another_epoch_is_refused_unless_accepted(launch, copied):
    folder, run_dir = copied("stage1")
    changes = ("dataset.max_sets_per_epoch=6", "dataset.opv2v.train.max_scenes=10", "train_params.epochs=3")
    done = launch("stage1", folder, *changes)
    text = text_of(done, run_dir)
    assert done.returncode == 1, text[-4000:]
    assert "the training set has 10 scenes, the checkpoint's had 15" in text
    assert "an epoch has 3 steps, the checkpoint's had 2" in text and "--accept-changes" in text
    assert [line["epoch"] for line in log_of(run_dir)] == [0, 1, 2]
    done = launch("stage1", folder, *changes, options=["--accept-changes"])
    assert done.returncode == 0, text_of(done, run_dir)[-4000:]
    record = storage.load(run_dir / "checkpoint-final.pth")[KEY]
    assert record["global_step"] == 2 + 2 + 3 and record["steps_per_epoch"] == 3


def test_two_processes_train_and_one_goes_on(launch, tmp_path):
    """The host's DDP, with gloo in NCCL's place."""
    run_dir = tmp_path / "opv2v" / "stage1"
    done = launch("stage1", tmp_path, processes=2, TORCH_DIST_TIMEOUT="300")
    text = text_of(done, run_dir)
    assert done.returncode == 0, text[-4000:]
    assert text.count("train sampler: 2 steps an epoch on any number of GPUs (here 2)") == 2  # console and file
    assert "processes wait 0:05:00 for each other" in text
    record = storage.load(run_dir / "checkpoint-last.pth")[KEY]
    assert (record["world_size"], record["global_step"], record["steps_per_epoch"]) == (2, 4, 2)
    assert len(list(run_dir.glob("provenance-*.json"))) == 1  # the first process's
    assert [line["epoch"] for line in log_of(run_dir)] == [0, 1, 2]
    both = log_of(run_dir)[-1]["OPV2VDataset_validate_loss_avg"]
    done = launch("stage1", tmp_path, "train_params.epochs=3")
    text = text_of(done, run_dir)
    assert done.returncode == 0, text[-4000:]
    # the same weights on the same two scenes: one process sees a batch of both, two see one each
    assert log_of(run_dir)[3]["OPV2VDataset_validate_loss_avg"] == pytest.approx(both, rel=0.2)
    assert "trained by 2 processes, this run has 1: a step draws 0.5 times as many sets" in text
    record = storage.load(run_dir / "checkpoint-last.pth")[KEY]
    assert (record["world_size"], record["global_step"], record["steps_per_epoch"]) == (1, 6, 2)


def test_two_processes_refuse_alike(launch, copied):
    folder, run_dir = copied("stage1")
    done = launch("stage1", folder, "dataset.max_sets_per_epoch=6", "train_params.epochs=3", processes=2)
    assert done.returncode != 0
    told = text_of(done, run_dir).count("an epoch has 3 steps, the checkpoint's had 2")
    assert told in (2, 4)  # each process, on the console and in the file
    assert [line["epoch"] for line in log_of(run_dir)] == [0, 1, 2]


def test_a_hostile_checkpoint_runs_nothing(launch, copied):
    folder, run_dir = copied("stage1")
    torch.save({"model": {}, "args": _Touch(folder / "ran")}, run_dir / "checkpoint-last.pth")
    done = launch("stage1", folder, "train_params.epochs=3")
    text = text_of(done, run_dir)
    assert done.returncode == 1 and "checkpoint-last.pth: not loaded" in text, text[-4000:]
    assert not (folder / "ran").exists()


class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


def test_without_deviations_it_is_the_hosts_training(launch, tmp_path):
    from mapanything_opv2v.host.training.deviations import NAMES

    done = launch("stage1", tmp_path, options=["--without", ",".join(NAMES)])
    run_dir = tmp_path / "opv2v" / "stage1"
    assert done.returncode == 0, text_of(done, run_dir)[-4000:]
    checkpoint = storage.load(run_dir / "checkpoint-last.pth")
    assert KEY not in checkpoint and type(checkpoint["args"]).__name__ == "DictConfig"
    assert not list(run_dir.glob("provenance-*"))
    # the launcher goes on from what the host wrote
    done = launch("stage1", tmp_path, "train_params.epochs=3")
    text = text_of(done, run_dir)
    assert done.returncode == 0 and "has no record of its run" in text, text[-4000:]
    assert storage.load(run_dir / "checkpoint-final.pth")[KEY]["global_step"] == 6


def test_a_missing_stage_is_told_before_anything_is_built(launch, tmp_path):
    done = launch("stage2", tmp_path)
    assert done.returncode == 1
    assert f"model.pretrained={tmp_path}/opv2v/stage1/checkpoint-best.pth is not there: train the stage" in done.stderr


def test_gradient_checkpointing_reaches_the_model(trained):
    config = storage.load(trained("stage3") / "checkpoint-best.pth")[KEY]["config"]
    text = (trained("stage3") / "train.log").read_text()
    assert config["model"]["info_sharing"]["module_args"]["gradient_checkpointing"] is True
    assert "'gradient_checkpointing': True" in text and "'checkpoint_gradient': True" in text


def test_the_schedule_is_printed_without_training(launch, tmp_path):
    done = launch("stage1", tmp_path, options=["--print-lr"])
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["epoch", "default", "encoder"]
    assert [float(row[1]) for row in rows[1:]] == [0.0, 5e-5, pytest.approx(3.7625e-5), pytest.approx(1.2875e-5), 5e-7]
    assert not (tmp_path / "opv2v").exists()


def test_a_wrong_checkout_is_refused(launch, tmp_path):
    done = launch("stage1", tmp_path, MAPANYTHING_ROOT=str(tmp_path))
    assert done.returncode == 2
    assert f"not from MAPANYTHING_ROOT={tmp_path}: another checkout or an installed copy" in done.stderr


def test_a_submitit_job_trains(launch, tmp_path):
    done = launch("stage1", tmp_path, "+cluster=opv2v_local", "train_params.epochs=1")
    run_dir = tmp_path / "opv2v" / "stage1"
    assert done.returncode == 0, text_of(done, run_dir)[-4000:] + str(list(run_dir.rglob("*")))
    assert (run_dir / "checkpoint-final.pth").exists() and (run_dir / ".hydra" / "config.yaml").exists()


def test_a_slurm_job_asks_for_a_task_on_each_gpu(launch, tmp_path):
    """With an `sbatch` that keeps the script and refuses the job."""
    (tmp_path / "bin").mkdir()
    for name, text in {"sbatch": f"cp $1 {tmp_path}/job.sh; exit 1", "srun": "exit 1"}.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    overrides = ("+cluster=opv2v_slurm", "hydra.launcher.gpus_per_node=8", "hydra.launcher.partition=gpu")
    launch("stage1", tmp_path, *overrides, PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    script = (tmp_path / "job.sh").read_text()
    for line in ("--nodes=1", "--ntasks-per-node=8", "--gpus-per-node=8", "--partition=gpu", "--job-name=stage1"):
        assert f"#SBATCH {line}\n" in script, script
    assert "srun " in script and "submitit.core._submit" in script
