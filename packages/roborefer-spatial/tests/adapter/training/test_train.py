import json
import logging
from pathlib import Path

import pytest
from roborefer_spatial.host.options import flag_value
from roborefer_spatial.training import plan as planning
from roborefer_spatial.training import train


@pytest.fixture
def words(checkout, make, tmp_path, monkeypatch):
    """A complete command line for one process, by name."""
    monkeypatch.setenv("ROBOREFER_ROOT", str(checkout.root))
    data = make.rows(tmp_path / "data", list("ABCDEFGH"), name="t1.jsonl")
    given = {
        "--model_name_or_path": make.model_folder(tmp_path / "m", enable_depth=False, use_depth_tower=False),
        "--data": data, "--output_dir": tmp_path / "out", "--max_steps": 2, "--gpus": 1, "--dtype": "fp32",
    }  # fmt: skip

    def line(*extra, without=(), **changes):
        named = {**given, **{f"--{name}": value for name, value in changes.items()}}
        pairs = [[name, str(value)] for name, value in named.items() if name not in without]
        return [word for pair in pairs for word in pair] + [str(word) for word in extra]

    return line


def plan(words):
    args, extra = train.build_parser().parse_known_args(words)
    return planning.make_plan(args, extra)


def host_flags(words):
    return lambda flag: flag_value(plan(words).command, flag)


def test_the_notes_defaults(words):
    flag = host_flags(words())
    assert flag("--tune_vision_tower") == "False"
    assert flag("--tune_language_model") == flag("--tune_mm_projector") == "True"
    assert flag("--image_aspect_ratio") == "resize"
    assert flag("--model_max_length") == "8192"
    assert flag("--data_mixture") == ""
    assert flag("--data_path").endswith("t1.jsonl")
    assert flag("--model_dtype") == "torch.float32"
    assert flag("--deepspeed") is None


def test_vision_and_depth_towers_thaw_together(words, make, tmp_path):
    folder = make.model_folder(tmp_path / "depth", enable_depth=True, use_depth_tower=True)
    flag = host_flags(words("--no-freeze_vision", model_name_or_path=folder))
    assert flag("--tune_vision_tower") == flag("--tune_depth_tower") == flag("--tune_depth_projector") == "True"
    flag = host_flags(words(model_name_or_path=folder))
    assert (flag("--tune_depth_tower"), flag("--tune_depth_projector")) == ("False", "True")


def test_several_gpus_use_zero3_with_the_shipped_file(words):
    command = plan(words("--nnodes", 2, gpus=4, gradient_accumulation_steps=1)).command
    assert flag_value(command, "--nproc_per_node") == "4"
    assert flag_value(command, "--nnodes") == "2"
    config = json.loads(Path(flag_value(command, "--deepspeed")).read_text())
    assert config["zero_optimization"]["stage"] == 3


def test_one_node_uses_a_free_port(words):
    assert "--standalone" in plan(words()).command


@pytest.mark.parametrize(("name", "stage"), [("zero2", 2), ("zero3", 3)])
def test_shipped_deepspeed_files(name, stage):
    config = json.loads(planning.deepspeed_config(name, 1, False).read_text())
    assert config["zero_optimization"]["stage"] == stage
    assert config["train_batch_size"] == config["gradient_accumulation_steps"] == "auto"


def test_accelerate_starts_the_same_module(words):
    command = plan(words("--launcher", "accelerate", gpus=2, gradient_accumulation_steps=1)).command
    assert command[1:4] == ("-m", "accelerate.commands.launch", "--multi_gpu")
    assert command[command.index("-m", 3) + 1] == "roborefer_spatial.launch"
    assert flag_value(command, "--num_processes") == "2"


def test_other_flags_go_to_the_host_and_come_last(words):
    command = plan(words("--warmup_ratio", "0.5")).command
    assert flag_value(command, "--warmup_ratio") == "0.5"


def test_a_curriculum_goes_to_the_launcher(words, tmp_path, make):
    (tmp_path / "c.yaml").write_text(json.dumps({"stages": [{"name": "a", "data": "t1.jsonl", "max_steps": 3}]}))
    line = words(
        "--curriculum",
        tmp_path / "c.yaml",
        "--data_root",
        tmp_path / "data",
        without=("--data", "--max_steps"),
    )
    made = plan(line)
    assert made.steps == 3
    assert flag_value(made.command, "--x3-curriculum") == str(tmp_path / "c.yaml")
    assert flag_value(made.command, "--x3-data-root") == str(tmp_path / "data")
    with pytest.raises(ValueError, match=r"--max-steps 9: .*c.yaml ends at 3"):
        plan([*line, "--max_steps", "9"])


def test_depth_of_a_registered_set_is_its_own(words):
    line = words("--data_mixture", "x3", "--depth_path", ".", without=("--data",))
    with pytest.raises(ValueError, match="a registered set names its own"):
        plan(line)


@pytest.mark.parametrize(
    ("extra", "changes", "message"),
    [
        ((), {"gpus": 0}, "--gpus must be at least 1, got 0"),
        ((), {"model_name_or_path": "none"}, "none: no such folder"),
        ((), {"data": "none.json"}, "none.json: no such training file"),
        (
            (),
            {"gradient_accumulation_steps": 9},
            r"\(8 rows\): RoboRefer's sampler drops every row, because one step takes 9",
        ),
        (("--data_root", "."), {}, "--data-root is for --curriculum only"),
        (
            ("--deepspeed", "zero9"),
            {},
            "--deepspeed must be one of none, zero2, zero3 or a file, got 'zero9'",
        ),
        (("--launcher", "accelerate"), {}, "--launcher accelerate needs two GPUs or more"),
        (("--cpu",), {"dtype": "bf16"}, "--cpu with --dtype bf16"),
        (("--without", "paking"), {}, "no repair paking"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_start(words, caplog, extra, changes, message):
    import re

    assert train.main(words(*extra, **changes)) == 2
    assert re.search(message, caplog.text)


def test_no_gpu_is_said(words, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="no GPU is visible to torch; --cpu --dtype fp32"):
        plan(words(without=("--gpus",)))


def test_a_run_trains_once_and_then_says_that_it_is_finished(words, tmp_path, capfd, caplog):
    line = words("--cpu", gradient_accumulation_steps=1)
    assert train.main(line) == 0
    assert "train: finished at step 2" in capfd.readouterr().out
    assert "launch: RoboRefer at" in (tmp_path / "out/train.log").read_text()
    rows = (tmp_path / "out/log.jsonl").read_text()
    with caplog.at_level(logging.WARNING):
        assert train.main(line) == 0
    assert "is finished (step 2): nothing to train" in caplog.text
    assert (tmp_path / "out/log.jsonl").read_text() == rows


def test_a_failing_run_has_the_hosts_status(words, tmp_path, caplog):
    (tmp_path / "data/t1_0_0.png").unlink()
    assert train.main(words("--cpu", gradient_accumulation_steps=1)) == 1
    assert "training failed with exit status 1; the log is" in caplog.text
    assert "t1_0_0.png cannot be read" in (tmp_path / "out/train.log").read_text()


def test_status_0_without_a_finished_run_is_a_failure(words, monkeypatch, caplog):
    monkeypatch.setattr(train, "run_logged", lambda command, log_file: 0)
    assert train.main(words()) == 1
    assert "ended with status 0 but left no finished run" in caplog.text


def test_only_the_first_node_looks_for_the_model(words, monkeypatch, tmp_path):
    logs = []
    monkeypatch.setattr(train, "run_logged", lambda command, log_file: logs.append(log_file) or 0)
    assert train.main(words("--nnodes", 2, "--node_rank", 1, gradient_accumulation_steps=1)) == 0
    assert logs == [tmp_path / "out/train-node1.log"]


def test_a_dry_run_starts_nothing(words, tmp_path, capsys):
    assert train.main(words("--dry_run")) == 0
    assert "torch.distributed.run" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_resuming_is_said_and_an_unfinished_end_is_found(words, make, tmp_path):
    make.checkpoint(tmp_path / "out", 1)
    assert plan(words()).note.startswith(f"resuming from {tmp_path}/out/checkpoint-1 (step 1): 1 process")
    (tmp_path / "out/config.json").write_text("{}")
    (tmp_path / "out/trainer_state.json").write_text('{"global_step": 1}')
    assert "checkpoint-1" in plan(words()).note  # finished at 1, asked for 2
    with pytest.raises(ValueError, match="left no finished run"):
        planning.check_result(tmp_path / "out", 2)
    planning.check_result(tmp_path / "out", 1)


def test_the_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--help"])
    assert stopped.value.code == 0
    assert "example:" in capsys.readouterr().out
