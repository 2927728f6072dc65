"""Each deviation on a double of the host's training modules: what it changes, and that it can be left out."""

from __future__ import annotations

import importlib
import json
import logging
import pickle
import sys
from importlib.metadata import version
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import training_double
from mapanything_opv2v.checkpoints import storage
from mapanything_opv2v.checkpoints.record import KEY
from omegaconf import OmegaConf

HOST_TOOLS, HOST_TRAINING = "mapanything.utils.train_tools", "mapanything.train.training"


@pytest.fixture
def host(double_host, monkeypatch):
    """Return (train_tools, training) of the double."""
    for name, module in training_double.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("RANK", "WORLD_SIZE", "TORCH_DIST_TIMEOUT", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    return sys.modules[HOST_TOOLS], sys.modules[HOST_TRAINING]


@pytest.fixture
def deviations(host):
    return importlib.import_module("mapanything_opv2v.host.training.deviations")


@pytest.fixture
def state(host, tmp_path):
    """Return a function that makes the state of a run in `tmp_path`."""
    run_state = importlib.import_module("mapanything_opv2v.host.training.run_state")

    def make(**options):
        config = OmegaConf.create({**training_double.CONFIG, "folder": str(tmp_path)})
        return run_state.RunState(config, tmp_path / "host", "abc", **options)

    return make


@pytest.fixture
def only(deviations):
    """Return a function that applies the named deviations and no others."""
    return lambda state, *names: deviations.applied(state, set(deviations.NAMES) - set(names))


def arguments(path=None):
    """What the host's load_model takes."""
    params = SimpleNamespace(resume=True, resume_ckpt=None if path is None else str(path))
    return {"train_args": params, "model_without_ddp": torch.nn.Linear(1, 1), "optimizer": None, "loss_scaler": None}


def run(host, state, dataset=tuple(range(10)), epochs=(0, 1), path=None, save=None):
    """Do what the host's train() does with the functions that are replaced."""
    tools, training = host
    loader = training.build_dataset(dataset=list(dataset), num_workers=0, test=False, max_num_of_imgs_per_gpu=2)
    training.build_dataset(dataset=[1], num_workers=0, test=True, batch_size=1)
    tools.load_model(**arguments(path))
    for epoch in epochs:
        training.train_one_epoch(None, None, loader, None, "cpu", epoch, None, args=None)
    if save is not None:
        model = torch.nn.Linear(1, 1).state_dict()
        args = OmegaConf.create({"a": "${b}", "b": [1]})
        tools.save_on_master({"model": model, "epoch": 1, "best_so_far": np.float64(0.5), "args": args}, save)


def test_everything_is_put_back(host, deviations, state):
    tools, training = host
    before = {**vars(tools), **vars(training), "load": torch.load}
    made = state()
    with deviations.applied(made, {"lr_log"}):
        assert tools.save_on_master is not before["save_on_master"] and torch.load is not before["load"]
    assert {**vars(tools), **vars(training), "load": torch.load} == before
    assert made.left_out == ("lr_log",) and set(made.deviations) == set(deviations.NAMES) - {"lr_log"}


def test_names_are_checked(deviations):
    assert deviations.check_names(["lr_log"]) == {"lr_log"}
    with pytest.raises(ValueError, match="no deviation atomic; there are slurm_ranks, "):
        deviations.check_names(["atomic"])


def test_every_deviation_replaces_what_it_says_and_no_more(host, only, state, deviations, monkeypatch):
    monkeypatch.setenv("TORCH_DIST_TIMEOUT", "60")
    modules = [HOST_TOOLS, HOST_TRAINING, "torch"]
    before = {name: dict(vars(importlib.import_module(name))) for name in modules}
    for deviation in deviations.DEVIATIONS:
        with only(state(), deviation.name):
            changed = {
                f"{name}:{attribute}"
                for name in modules
                for attribute, value in vars(importlib.import_module(name)).items()
                if before[name].get(attribute) is not value
            }
        assert changed == set(deviation.where.split(", ")) - {"environment", "the run's folder"}, deviation.name
        assert deviation.host and deviation.ours


def test_atomic_checkpoints(host, only, state, tmp_path, monkeypatch, caplog):
    left = tmp_path / f".checkpoint-last.pth.{'a' * 16}.part"
    left.write_text("")
    wrote = []
    write = storage.write
    monkeypatch.setattr(storage, "write", lambda path, value: wrote.append(path) or write(path, value))
    with only(state(), "atomic_checkpoints"):
        host[0].save_on_master({"epoch": 1}, tmp_path / "checkpoint-last.pth")
    assert wrote == [tmp_path / "checkpoint-last.pth"] and storage.load(wrote[0]) == {"epoch": 1}
    assert not left.exists() and left.name in caplog.text
    with only(state()):
        host[0].save_on_master({"epoch": 2}, tmp_path / "checkpoint-last.pth")
    assert len(wrote) == 1


def test_plain_checkpoints(host, only, state, tmp_path):
    path = tmp_path / "checkpoint-last.pth"
    with only(state(), "plain_checkpoints"):
        run(host, state(), save=path)
    loaded = torch.load(path, weights_only=True)
    assert loaded["args"] == {"a": [1], "b": [1]} and type(loaded["best_so_far"]) is float
    with only(state()):
        run(host, state(), save=path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_safe_loading(host, only, state, tmp_path):
    path = tmp_path / "checkpoint-last.pth"
    torch.save({"model": {}, "epoch": 1, "args": _Evil(tmp_path / "ran")}, path)
    with only(state(), "safe_loading"), pytest.raises(ValueError, match=r"checkpoint-last\.pth: not loaded"):
        host[0].load_model(**arguments(path))
    assert not (tmp_path / "ran").exists()
    with only(state()):
        host[0].load_model(**arguments(path))
    assert (tmp_path / "ran").exists()  # what the host does
    with only(state(), "run_record", "resume_check"):  # who trusts it can go on from it
        run(host, state(), path=path)
    with (
        only(state(), "safe_loading", "resume_check"),
        pytest.raises(ValueError, match=r"--without safe_loading"),
    ):
        run(host, state(), path=path)


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


def test_run_record(host, only, state, tmp_path):
    made, path = state(), tmp_path / "checkpoint-last.pth"
    with only(made, "run_record", "plain_checkpoints"):
        run(host, made, save=path)
    record = torch.load(path, weights_only=True)[KEY]
    config = record.pop("config")
    assert record == {
        "epoch": 1,
        "global_step": 10,  # 2 epochs of 10 // 2 batches
        "steps_per_epoch": 5,
        "steps_fixed": False,
        "dataset_length": 10,
        "world_size": 1,
        "epochs": 3,
        "host_commit": "abc",
        "plugin_version": importlib.import_module("mapanything_opv2v").__version__,
    }
    assert config["output_dir"] == str(tmp_path)
    assert config["broken"] == "${not_there}" and config["missing"] == "???"  # kept as they stand
    again = state()
    with only(again, "run_record", "plain_checkpoints"):
        run(host, again, epochs=(2,), path=path)
    assert (again.epoch, again.global_step, again.resumed_from) == (2, 15, str(path))


def test_steps_are_counted_from_the_epoch_where_there_is_no_record(host, only, state, tmp_path):
    path, made = tmp_path / "checkpoint-last.pth", state()
    torch.save({"model": {}, "epoch": 1}, path)
    with only(made, "run_record"):
        run(host, made, epochs=(2,), path=path)
    assert made.global_step == 15


def test_resume_check(host, only, state, tmp_path, caplog):
    path, first = tmp_path / "checkpoint-last.pth", state()
    with only(first, "run_record", "plain_checkpoints"):
        run(host, first, save=path)
    both = ("run_record", "resume_check")
    with only(state(), *both) as _, pytest.raises(SystemExit) as stop:
        run(host, state(), dataset=range(12), path=path)
    text = str(stop.value)
    assert f"{path} is not the same run:" in text and "--accept-changes" in text
    assert "the training set has 12 scenes, the checkpoint's had 10" in text
    assert "an epoch has 6 steps, the checkpoint's had 5" in text
    accepted = state(accept_changes=True)
    with only(accepted, *both):
        run(host, accepted, dataset=range(12), epochs=(2,), path=path)
    assert accepted.global_step == 16 and "is not the same run, accepted" in caplog.text
    with only(state(), "run_record"):
        run(host, state(), dataset=range(12), path=path)  # switched off


def test_another_world_size_is_told(host, only, state, tmp_path, monkeypatch, caplog):
    path, first = tmp_path / "checkpoint-last.pth", state()
    with only(first, "run_record", "plain_checkpoints"):
        run(host, first, save=path)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with only(state(), "run_record", "resume_check"):
        run(host, state(), path=path)
    assert "trained by 1 processes, this run has 2: a step draws 2 times as many sets" in caplog.text


def test_one_process_validates_as_the_host_does(host, only, state):
    with only(state(), "whole_validation"):
        assert host[1].test_one_epoch(None, None, [3.0, 1.0], "cpu", 1, None) == {"loss_avg": 2.0, "loss_med": 1.0}


def test_batches_are_pooled_as_the_host_takes_mean_and_median(host):
    pooled = importlib.import_module("mapanything_opv2v.host.training.validation").pooled
    rng = np.random.default_rng(4)
    parts = [{"loss": rng.random(4).tolist(), "only_here": [2.0]}, {"loss": rng.random(6).tolist()}]
    together = torch.tensor(parts[0]["loss"] + parts[1]["loss"], dtype=torch.float64)
    expected = {"loss_avg": together.mean().item(), "loss_med": together.median().item()}
    assert pooled(parts) == pytest.approx({**expected, "only_here_avg": 2.0, "only_here_med": 2.0})


def test_lr_log(host, only, state, caplog):
    caplog.set_level(logging.INFO)
    with only(state(), "lr_log"):
        run(host, state())
    said = [record.getMessage() for record in caplog.records if "learning rate" in record.getMessage()]
    assert said == [
        # a fifth of an epoch before its end, the warm-up is at 0.8; then cos(pi * 0.4) = 0.309
        "epoch 0: learning rate default 0.000e+00 to 8.000e-02, encoder 0.000e+00 to 8.000e-03, over 5 steps",
        "epoch 1: learning rate default 1.000e-01 to 6.545e-02, encoder 1.000e-02 to 6.545e-03, over 5 steps",
    ]


def test_the_schedule_is_the_hosts(host):
    schedule = importlib.import_module("mapanything_opv2v.host.training.schedule")
    params = OmegaConf.create(training_double.CONFIG).train_params
    rows = [line.split() for line in schedule.table(params)]
    assert rows[0] == ["epoch", "default", "encoder"]  # frozen parts have no rate
    assert [row[0] for row in rows[1:]] == ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]
    # half of 0.1; the top; (1 + cos 45 degrees) / 2; the middle; the bottom
    assert [float(row[1]) for row in rows[1:]] == [0, 0.05, 0.1, 0.085355, 0.05, 0.014645, 0]
    assert [float(row[2]) for row in rows[1:]] == pytest.approx([0, 0.005, 0.01, 0.0085355, 0.005, 0.0014645, 0])


def test_provenance(host, only, state, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "+experiment=x"])
    monkeypatch.setenv("OPV2V_ROOT", "somewhere")
    made = state()
    with only(made, "run_record", "provenance"):
        run(host, made)
        run(host, made, epochs=())
    first, _ = sorted(tmp_path.glob("provenance-*.json"))  # one for each start
    story = json.loads(first.read_text())
    assert story["command"] == ["train.py", "+experiment=x"]
    assert story["host"] == {"root": str(tmp_path / "host"), "commit": "abc"}
    assert story["deviations"]["in_force"] == ["run_record", "provenance"]
    assert "safe_loading" in story["deviations"]["left_out"]
    assert story["environment"]["OPV2V_ROOT"] == "somewhere" and story["packages"]["torch"] == version("torch")
    assert (story["dataset_length"], story["steps_per_epoch"], story["world_size"]) == (10, 5, 1)
    assert story["config"]["model"]["ranges"] == [1.0, "inf"]


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", ""])
def test_a_timeout_that_is_none_is_told(host, monkeypatch, text):
    processes = importlib.import_module("mapanything_opv2v.host.training.processes")
    monkeypatch.setenv("TORCH_DIST_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"TORCH_DIST_TIMEOUT='{text}': expected a positive number of seconds"):
        processes.timeout_from_environment()


def test_the_timeout_reaches_the_process_group(host, only, state, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **options: calls.append(options))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    for seconds, names in ((None, ["process_group_timeout"]), ("90", ["process_group_timeout"]), ("90", [])):
        if seconds:
            monkeypatch.setenv("TORCH_DIST_TIMEOUT", seconds)
        with only(state(), *names):
            host[0].init_distributed_mode(SimpleNamespace())
    assert ["timeout" in options for options in calls] == [False, True, False]
    assert calls[1]["timeout"].total_seconds() == 90 and calls[1]["world_size"] == 1


def test_slurm_ranks(host, only, state, monkeypatch):
    import os

    submitit = pytest.importorskip("submitit")
    slurm = {
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "4",
        "SLURM_NNODES": "1",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "2",
        "SLURM_NODEID": "0",
        "SLURM_JOB_NODELIST": "node1",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    }
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(submitit.JobEnvironment, "hostnames", ["node1"])
    with only(state()):
        assert "RANK" not in os.environ
    with only(state(), "slurm_ranks"):
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"]) == ("2", "4", "2")
        assert os.environ["MASTER_ADDR"] == "node1" and os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    monkeypatch.setenv("RANK", "0")  # torchrun inside a job keeps its own
    with only(state(), "slurm_ranks"):
        assert os.environ["RANK"] == "0"


def test_job_signals_act_in_the_own_process_alone(host, only, state):
    import os
    import signal

    came = []
    before = {number: signal.signal(number, lambda n, f: came.append(n)) for number in (signal.SIGUSR2, signal.SIGTERM)}
    own = signal.getsignal(signal.SIGUSR2)
    try:
        with only(state(), "job_signals"):
            child = os.fork()
            if child == 0:  # a loader worker
                signal.raise_signal(signal.SIGUSR2)
                if came:
                    os._exit(3)
                signal.raise_signal(signal.SIGTERM)
                os._exit(4)  # not reached: it was told to end
            assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
            assert came == []
            signal.raise_signal(signal.SIGUSR2)
            assert came == [signal.SIGUSR2]
        assert signal.getsignal(signal.SIGUSR2) is own
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_constant_stands_beside_every_validation(host, only, state, deviations, monkeypatch, caplog):
    constants = importlib.import_module("mapanything_opv2v.host.training.constants")
    asked = []

    def loss_of_constant(test, call, training):
        asked.append((call.arguments["prefix"], len(training)))
        return {"loss_avg": 1.5}

    monkeypatch.setattr(constants, "_loss_of_constant", loss_of_constant)
    caplog.set_level(logging.INFO)
    with only(state(), "constant_baseline"):
        training = host[1]
        training.build_dataset(dataset=[1, 2], num_workers=0, test=False, max_num_of_imgs_per_gpu=2)
        training.build_dataset(dataset=[1], num_workers=0, test=True, batch_size=1)
        for epoch, losses in ((1, [2.0, 4.0]), (2, [2.0, 4.0]), (3, [1.0, 1.0])):
            found = training.test_one_epoch(None, None, losses, "cpu", epoch, None, prefix="validate")
            assert found["loss_avg"] == sum(losses) / 2  # nothing but the log is changed
    assert asked == [("validate", 1)]  # fitted once, on the training set
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said[0] == ("INFO", "validate after 1 epochs: loss 3, of a constant that sees no image 1.5")
    assert said[1][0] == "WARNING" and "the model has learned less than that so far" in said[1][1]
    assert said[2] == ("INFO", "validate after 3 epochs: loss 1, of a constant that sees no image 1.5")


def test_poses_at_the_constants_are_warned_of_though_the_sum_is_lower(host, caplog):
    constants = importlib.import_module("mapanything_opv2v.host.training.constants")
    constant = {"loss_avg": 20.0, "X_pose_trans_avg_avg": 10.0, "X_pose_quats_avg_avg": 4.0}
    found = {"loss_avg": 15.0, "X_pose_trans_avg_avg": 9.5, "X_pose_quats_avg_avg": 1.0, "X_pose_trans_view1_avg": 9.9}
    constants._tell_poses("validate", 1, found, constant)
    assert caplog.records == []  # too early
    constants._tell_poses("validate", 2, found, constant)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "loss of positions 9.5, of a constant that sees no image 10: the model has not" in record.getMessage()


def test_no_constant_is_said_and_stops_nothing(host, only, state, caplog):
    with only(state(), "constant_baseline"):
        training = host[1]
        training.build_dataset(dataset=[1, 2], num_workers=0, test=False, max_num_of_imgs_per_gpu=2)
        assert training.test_one_epoch(None, None, [2.0], "cpu", 1, None)["loss_avg"] == 2.0
    assert "no constant to compare the validation with: baselines: no samples to fit the constant on" in caplog.text


def test_the_constant_speaks_as_the_model_does(host, monkeypatch):
    image_module = ModuleType("mapanything.utils.image")
    image_module.rgb = None
    monkeypatch.setitem(sys.modules, "mapanything.utils.image", image_module)
    constants = importlib.import_module("mapanything_opv2v.host.training.constants")
    from mapanything_opv2v.evaluation.baselines import Constant

    moved = np.eye(4)
    moved[:3, 3] = 1, 2, 3
    rays = np.zeros((2, 1, 2, 3), np.float32)
    rays[..., 2] = 1
    constant = Constant(
        roles=((False, -1), (True, -1)),
        T_view0_view=np.stack([moved, np.eye(4)]),
        range_m=np.array([[[4.0, 8.0]], [[2.0, 2.0]]], np.float32),
        mask=np.array([[[True, False]], [[True, True]]]),
        rays=rays,
        samples=1,
    )
    image = torch.zeros(1, 3, 1, 2)
    views = [{"img": image, "instance": ["agent7/panorama"]}, {"img": image, "instance": ["agent9/panorama"]}]
    first, second = constants.ConstantModel(constant)(views)
    assert first["pts3d"].tolist() == [[[[0, 0, 2], [0, 0, 2]]]] and first["cam_trans"].tolist() == [[0, 0, 0]]
    assert second["pts3d"].tolist() == [[[[1, 2, 7], [1, 2, 11]]]]
    assert second["pts3d_cam"].tolist() == [[[[0, 0, 4], [0, 0, 8]]]]
    assert second["cam_quats"].tolist() == [[0, 0, 0, 1]] and second["metric_scaling_factor"].tolist() == [[4.0]]
    assert second["non_ambiguous_mask"].tolist() == [[[True, False]]]
