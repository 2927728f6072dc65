import os
import sys
from pathlib import Path

import pytest
import torch
from fake_host import called, checkpoint, write_host, write_infos
from influencer_mmdet3d import cli
from influencer_mmdet3d.host import launch
from influencer_mmdet3d.host.checkpoint import save


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The double with its data and weights, as the working environment; the current folder is another."""
    root = write_host(tmp_path / "host")
    write_infos(root / "data" / "s3dis")
    save(checkpoint(), root / "work_dirs" / "tmp" / "start.pth")
    monkeypatch.setenv("ONEFORMER3D_ROOT", str(root))
    monkeypatch.setenv("FAKE_RECORD", str(tmp_path / "record.json"))
    for name in ("GPUS", "SLURM_JOB_ID", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return root


def plan(*words: str) -> launch.Job:
    args = cli.build_parser().parse_args([*words])
    return (launch.plan_train if words[0] == "train" else launch.plan_evaluate)(args, os.environ)


def options(job: launch.Job) -> dict[str, str]:
    words = job.command[job.command.index("--cfg-options") + 1 :]
    return dict(word.split("=", 1) for word in words)


def after(job: launch.Job, word: str) -> str:
    return job.command[job.command.index(word) + 1]


def test_train_runs_the_hosts_tool(host, tmp_path):
    assert (
        cli.main(["train", "s3dis", "influencer", "--amp", "--cfg-options", "randomness.seed=1", "resume=False"]) == 0
    )
    call = called(tmp_path / "record.json")
    assert call["argv"][0] == str(host / "tools" / "train.py")
    assert Path(call["argv"][1]).name == "s3dis_area5_influencer.py" and Path(call["argv"][1]).is_file()
    assert "--amp" in call["argv"] and "--resume" not in call["argv"]
    assert call["argv"][call["argv"].index("--launcher") + 1] == "none"
    assert call["PYTHONPATH"].split(os.pathsep)[0] == call["ONEFORMER3D_ROOT"] == str(host)
    assert call["cwd"] == str(tmp_path / "here"), "relative paths of the user stay what they are"
    words = call["argv"][call["argv"].index("--cfg-options") + 1 :]
    assert words[:2] == ["randomness.seed=1", "resume=False"]
    assert f"load_from={host}/work_dirs/tmp/start.pth" in words
    for key in ("train_dataloader.dataset.datasets.0", "train_dataloader.dataset.datasets.1", "val_dataloader.dataset"):
        assert f"{key}.data_root={host}/data/s3dis/" in words
    (log,) = (tmp_path / "here" / "work_dirs" / "s3dis_area5_influencer").glob("train_*.log")
    assert set(log.read_text().splitlines()) == {"the host speaks", "and complains"}


def test_eval_runs_the_hosts_tool(host, tmp_path):
    save(checkpoint(), tmp_path / "epoch_1.pth")
    code = cli.main(["eval", "s3dis", "baseline", str(tmp_path / "epoch_1.pth"), "--work-dir", str(tmp_path / "run")])
    assert code == 0
    argv = called(tmp_path / "record.json")["argv"]
    assert argv[0] == str(host / "tools" / "test.py")
    assert Path(argv[1]).name == "s3dis_area5_baseline.py" and argv[2] == str(tmp_path / "epoch_1.pth")
    assert argv[argv.index("--work-dir") + 1] == str(tmp_path / "run")
    assert argv[-1] == f"test_dataloader.dataset.data_root={host}/data/s3dis/"


@pytest.mark.parametrize("code", [1, 3])
def test_exit_code_is_the_hosts(host, code, monkeypatch):
    monkeypatch.setenv("FAKE_EXIT", str(code))
    assert cli.main(["train", "s3dis", "baseline"]) == code


def test_dry_run_starts_nothing(host, tmp_path, capsys):
    assert cli.main(["train", "s3dis", "influencer", "--dry-run"]) == 0
    assert "running:" in capsys.readouterr().out
    assert not (tmp_path / "record.json").exists() and not list((tmp_path / "here").iterdir())


def test_data_here_comes_before_the_hosts(host, tmp_path):
    write_infos(tmp_path / "here" / "data" / "s3dis")
    job = plan("train", "s3dis", "influencer")
    assert options(job)["val_dataloader.dataset.data_root"] == f"{tmp_path}/here/data/s3dis/"


def test_data_root_option_comes_before_all(host, tmp_path):
    write_infos(tmp_path / "mine")
    job = plan("train", "s3dis", "influencer", "--data-root", str(tmp_path / "mine"))
    assert options(job)["train_dataloader.dataset.datasets.1.data_root"] == f"{tmp_path}/mine/"


def test_missing_data_says_which_and_how(host):
    (host / "data" / "s3dis" / "s3dis_infos_Area_2.pkl").unlink()
    with pytest.raises(
        ValueError, match=r"missing \S+Area_2\.pkl\. Prepare it with .*create_data.*influencer-mmdet3d check DIR"
    ):
        plan("train", "s3dis", "influencer")


def test_missing_start_weights_say_how_to_do_without(host):
    (host / "work_dirs" / "tmp" / "start.pth").unlink()
    with pytest.raises(ValueError, match=r"start\.pth .*--cfg-options load_from=None"):
        plan("train", "s3dis", "influencer")
    job = plan("train", "s3dis", "influencer", "--cfg-options", "load_from=None")
    assert options(job)["load_from"] == "None"
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in job.env, "no checkpoint, no reason"


def test_weights_only_is_explained(host, monkeypatch):
    job = plan("train", "s3dis", "influencer")
    assert job.env["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    (note,) = [note for note in job.notes if "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1" in note]
    assert "checked before" in note and "start.pth" in note
    assert "NOT checked" in " ".join(plan("train", "s3dis", "influencer", "--trust-checkpoint").notes)
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in plan("train", "s3dis", "influencer").env
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ValueError, match="TORCH_FORCE_WEIGHTS_ONLY_LOAD is set"):
        plan("train", "s3dis", "influencer")


def test_kernels_that_would_not_load_stop_it(host, tmp_path):
    save(checkpoint(permuted=True), tmp_path / "fixed.pth")
    with pytest.raises(ValueError, match=r"silently stay random.*influencer-mmdet3d fix-checkpoint \S+fixed\.pth \S+"):
        plan("eval", "s3dis", "influencer", str(tmp_path / "fixed.pth"))
    with pytest.raises(ValueError, match="does not exist"):
        plan("eval", "s3dis", "influencer", str(tmp_path / "absent.pth"))


def test_resume(host, tmp_path):
    work_dir = tmp_path / "run"
    words = ("train", "s3dis", "influencer", "--work-dir", str(work_dir))
    first = plan(*words, "--resume")
    assert "--resume" not in first.command and "load_from" in options(first), "mmengine would drop load_from"
    assert any("starting from the beginning" in note for note in first.notes)
    save(checkpoint(), work_dir / "epoch_16.pth")
    (work_dir / "last_checkpoint").write_text("/where/it/was/written/epoch_16.pth")
    again = plan(*words, "--resume")
    assert after(again, "--resume") == str(work_dir / "epoch_16.pth"), "the folder may have moved"
    assert "load_from" not in options(again)
    with pytest.raises(ValueError, match="holds an earlier run: add --resume"):
        plan(*words)
    save(checkpoint(), tmp_path / "other.pth")
    assert after(plan(*words, "--resume", str(tmp_path / "other.pth")), "--resume") == str(tmp_path / "other.pth")
    (work_dir / "epoch_16.pth").rename(work_dir / "best.pth")
    with pytest.raises(ValueError, match=r"epoch_16\.pth', which is gone.*--resume CHECKPOINT; there: \S+best\.pth"):
        plan(*words, "--resume")
    for damaged in (b"a\xff.pth", b"x" * 5000, b"a\0.pth"):
        (work_dir / "last_checkpoint").write_bytes(damaged)
        with pytest.raises(ValueError, match="last_checkpoint names .*, which is gone"):
            plan(*words, "--resume")


def test_processes(host, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("GPUS", "2")
    job = plan("train", "s3dis", "influencer")
    assert job.command[:3] == (sys.executable, "-m", "torch.distributed.run") and after(job, "--launcher") == "pytorch"
    assert any("2 processes x batch 2 = 4 scenes" in note and "0.0001" in note for note in job.notes)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert after(plan("train", "s3dis", "influencer"), "--launcher") == "slurm"
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert plan("train", "s3dis", "influencer").log is None, "one log, from the first task"


def test_torchrun_starts_the_tool_in_each_process(host, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("GPUS", "2")
    assert cli.main(["train", "s3dis", "influencer"]) == 0
    assert called(tmp_path / "record.json")["WORLD_SIZE"] == "2"


def test_srun_is_called_with_the_tasks(host, tmp_path, monkeypatch):
    """A double of srun that starts its command once."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\necho "$1 $2" > "$FAKE_RECORD.srun"\nshift 2\nexec "$@"\n')
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("FAKE_EXIT", "9")
    assert cli.main(["train", "s3dis", "influencer"]) == 9
    assert (tmp_path / "record.json.srun").read_text() == "--ntasks=2 --kill-on-bad-exit=1\n"
    assert "slurm" in called(tmp_path / "record.json")["argv"]


def test_own_config(host, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "_base_ = ['{{$ONEFORMER3D_ROOT:}}/configs/oneformer3d_1xb2_s3dis-area-5.py']\n"
        "custom_imports = dict(imports=['oneformer3d', 'influencer_mmdet3d'])\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=dict(\n"
        "    type='S3DISSegDataset_', data_root='data/s3dis', ann_file='s3dis_infos_Area_1.pkl')))\n"
    )
    job = plan("train", "s3dis", str(own))
    assert str(own) in job.command and Path(after(job, "--work-dir")).name == "own"
    assert "train_dataloader.dataset.dataset.data_root" in options(job)


def test_config_without_data(host, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("custom_imports = dict(imports=['oneformer3d', 'influencer_mmdet3d'])\n")
    with pytest.raises(ValueError, match=r"own\.py has no train_dataloader\.dataset"):
        plan("train", "s3dis", str(own))


@pytest.mark.parametrize("name", ["wrong", "absent.py"])
def test_wrong_name(host, name):
    with pytest.raises(ValueError, match=f"{name}' is neither one of"):
        plan("train", "s3dis", name)


def test_wrong_options(host, tmp_path):
    with pytest.raises(ValueError, match="KEY=VALUE, got 'resume'"):
        plan("train", "s3dis", "influencer", "--cfg-options", "a=1", "resume")
    write_infos(tmp_path / "with space")
    with pytest.raises(ValueError, match="mmengine cannot pass on the path"):
        plan("train", "s3dis", "influencer", "--data-root", str(tmp_path / "with space"))


def test_no_host(host, monkeypatch, capsys):
    monkeypatch.delenv("ONEFORMER3D_ROOT")
    assert cli.main(["train", "s3dis", "influencer"]) == 2
    assert "ONEFORMER3D_ROOT is not set" in capsys.readouterr().err
    assert "ONEFORMER3D_ROOT" not in os.environ


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("influencerformer", "s3dis_area5_influencer.py"),
        ("influencerformer_1xb4_s3dis-area-5", "s3dis_area5_influencer.py"),
        ("influencerformer_1xb4_s3dis-area-5.py", "s3dis_area5_influencer.py"),
        ("oneformer3d_1xb2_s3dis-area-5.py", "s3dis_area5_baseline.py"),
    ],
)
def test_names_of_the_research_notes_and_of_the_host(host, name, config):
    job = plan("train", "s3dis", name)
    assert any(word.endswith(f"/{config}") for word in job.command)


def test_ties_of_the_sparse_matcher_are_said_to_baseline_users(host):
    path = host / "configs" / "oneformer3d_1xb2_s3dis-area-5.py"
    path.write_text(path.read_text().replace("HungarianMatcher", "SparseMatcher"))
    assert any("two cheapest queries tie" in note for note in plan("train", "s3dis", "baseline").notes)
    assert not any("tie" in note for note in plan("train", "s3dis", "influencer").notes)


def test_a_checkpoint_that_does_not_fit(host, tmp_path, capsys):
    other = checkpoint()
    other["state_dict"]["decoder.weight"] = torch.zeros(5, 4)
    save(other, tmp_path / "a.pth")
    assert cli.main(["evaluate", "s3dis", "baseline", str(tmp_path / "a.pth")]) == 2
    error = capsys.readouterr().err
    assert "1 of another shape: decoder.weight is (5, 4), the config's model has (4, 4)" in error
    save(other, host / "work_dirs" / "tmp" / "start.pth")
    assert cli.main(["train", "s3dis", "baseline", "--dry-run"]) == 0
    assert "the weights to start from fit in part" in capsys.readouterr().out
    assert cli.main(["train", "s3dis", "influencer", "--dry-run", "--cfg-options",
                     "model.criterion.inst_criterion.bg_weigth=0.3"]) == 2  # fmt: skip
    assert "model of the config does not build" in (error := capsys.readouterr().err) and "'bg_weight'" in error
