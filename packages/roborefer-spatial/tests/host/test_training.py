"""Training on the real host through the launcher, and what it leaves behind."""

import json
import re

import pytest
import torch
import yaml
from safetensors.torch import load_file

HERE = __file__.rsplit("/", 1)[0]
PARTS = ("llm", "vision_tower", "mm_projector")


def weights(folder):
    return {f"{part}.{k}": v for part in PARTS for k, v in load_file(folder / part / "model.safetensors").items()}


def losses(printed):
    return [float(loss) for loss in re.findall(r"'loss': ([0-9.e-]+)", printed)]


def interrupted_at(source, step, folder):
    """Make an output folder that looks as if a run had been stopped right after a checkpoint."""
    import shutil

    shutil.copytree(source / f"checkpoint-{step}", folder / f"checkpoint-{step}")
    return folder


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_four_samples_are_memorised_and_said_again_to_the_letter(host_root, train, run_python, data, tmp_path):
    printed = train(host_root, tmp_path / "out", "--max_steps", 150, "--save_steps", 150, batch=4)
    assert losses(printed)[-1] < 0.05
    printed = run_python(host_root, f"{HERE}/answer.py", tmp_path / "out", data.json)
    (line,) = (line for line in printed.splitlines() if line.startswith("ANSWERS "))
    wanted = [row["conversations"][1]["value"] for row in data.rows]
    assert "NOT_VISIBLE" in wanted
    assert json.loads(line[8:]) == {"together": wanted, "alone": wanted}


def test_the_host_is_repaired_only_where_it_has_the_defect(published, corrected, train, tmp_path):
    for root, broken in ((published, True), (corrected, False)):
        printed = train(root, tmp_path / root.name, "--max_steps", 1)
        (line,) = (line for line in printed.splitlines() if line.startswith("launch: RoboRefer at"))
        assert ("mixture-syntax" in line) == broken
        assert "trainer-log" in line and "data-path" in line


def test_a_resumed_run_ends_as_an_uninterrupted_one(published, train, tmp_path):
    words = ("--max_steps", 6, "--save_steps", 3)
    whole = losses(train(published, tmp_path / "whole", *words))
    interrupted_at(tmp_path / "whole", 3, tmp_path / "again")
    printed = train(published, tmp_path / "again", *words)
    assert "resuming from" in printed and "checkpoint-3 (step 3)" in printed
    assert losses(printed) == whole[3:] and len(whole) == 6
    assert_same_weights(tmp_path / "whole", tmp_path / "again")

    printed = train(published, tmp_path / "whole", *words)
    assert "is finished (step 6): nothing to train" in printed and losses(printed) == []
    printed = train(published, tmp_path / "whole", "--max_steps", 8, "--save_steps", 3)
    assert "finished at step 6, going on to step 8" in printed and len(losses(printed)) == 2


def test_two_processes_train_as_one_with_twice_the_batch(host_root, train, data, tmp_path):
    path = tmp_path / "c.yaml"
    stages = [
        {"name": "one", "data": str(data.json), "max_steps": 1},
        {"name": "two", "data": str(data.jsonl), "max_steps": 3},
    ]
    path.write_text(yaml.safe_dump({"stages": stages}))
    source = ("--curriculum", path)
    one = losses(train(host_root, tmp_path / "one", source=source, batch=4))
    two = losses(train(host_root, tmp_path / "two", source=source, batch=2, processes=2))
    assert len(one) == len(two) == 3
    assert two == pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_vision_tower_trains_although_its_last_layers_take_no_part(
    published, checkpoint, train, tmp_path, processes
):
    printed = train(published, tmp_path / "out", "--max_steps", 3, "--no-freeze_vision", batch=1, processes=processes)
    assert len(losses(printed)) == 3 and "vision tower True" in printed
    before, after = weights(checkpoint), weights(tmp_path / "out")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("vision_tower") for name in moved)


def test_an_interrupted_curriculum_goes_on_where_it_was(published, train, data, tmp_path):
    path = tmp_path / "c.yaml"
    stages = [
        {"name": "one", "data": str(data.json), "max_steps": 2},
        {"name": "two", "data": str(data.jsonl), "max_steps": 5},
    ]
    path.write_text(yaml.safe_dump({"stages": stages}))
    source = ("--curriculum", path)
    whole = train(published, tmp_path / "whole", "--save_steps", 3, source=source)
    assert "stage two: to step 5, 4 rows, 1.50 passes" in whole
    interrupted_at(tmp_path / "whole", 3, tmp_path / "again")
    again = train(published, tmp_path / "again", "--save_steps", 3, source=source)
    assert losses(again) == losses(whole)[3:]
    assert_same_weights(tmp_path / "whole", tmp_path / "again")


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("trainer-log", "TypeError: LLaVATrainer.log() takes 2 positional arguments but 3 were given"),
        ("mixture-syntax", "datasets_mixture.py, line"),
        ("data-path", "Dataset '' is not found in the registries"),
        ("model-dtype", "RuntimeError"),
    ],
)
def test_without_a_repair_the_published_host_fails_and_so_does_the_status(published, train, tmp_path, without, message):
    printed = train(published, tmp_path / "out", "--max_steps", 2, "--without", without, status=1)
    assert message in printed
    assert "training failed with exit status 1" in printed


def test_without_the_resume_repair_a_resumed_run_fails(published, train, tmp_path):
    words = ("--max_steps", 4, "--save_steps", 2)
    train(published, tmp_path / "whole", *words)
    interrupted_at(tmp_path / "whole", 2, tmp_path / "again")
    printed = train(published, tmp_path / "again", *words, "--without", "resume", status=1)
    assert "Can't find a valid checkpoint" in printed


def test_a_set_can_be_named_in_vila_datasets(published, command, train, data, tmp_path, monkeypatch):
    out = tmp_path / "x3.yaml"
    command(published, "register", "--out", out, f"x3_t1={data.jsonl}")
    monkeypatch.setenv("VILA_DATASETS", f"default,{out}")
    printed = train(published, tmp_path / "out", "--max_steps", 2, source=("--data_mixture", "x3_t1"))
    assert "Using mixture 'x3_t1'" in printed and len(losses(printed)) == 2


def test_a_set_smaller_than_a_global_batch_is_refused_before_the_start(published, train, tmp_path):
    printed = train(published, tmp_path / "out", "--max_steps", 2, batch=5, status=2)
    assert "RoboRefer's sampler drops every row" in printed
    assert not (tmp_path / "out").exists()


def test_the_shell_script_trains_with_the_notes_names(published, checkpoint, data, tmp_path, monkeypatch):
    import os
    import subprocess
    import sys
    from pathlib import Path

    script = Path(HERE).parents[3] / "tools/x3/run_sft_t1_x3.sh"
    variables = {
        **os.environ, "PYTHON": sys.executable, "MODEL_PATH": str(checkpoint), "DATA_PATH": str(data.json),
        "OUTPUT_DIR": str(tmp_path / "out"), "FREEZE_VISION": "0", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [f"{HERE}/cpu_site", os.environ.get("PYTHONPATH")])),
    }  # fmt: skip
    words = "--cpu --dtype fp32 --max_steps 3 --gradient_accumulation_steps 2"
    done = subprocess.run(["bash", str(script), *words.split()], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "vision tower True" in (tmp_path / "out/train.log").read_text()
    done = subprocess.run(
        ["bash", str(script)], env={**variables, "FREEZE_VISION": "x"}, capture_output=True, text=True
    )
    assert done.returncode == 2 and "FREEZE_VISION must be 0 or 1" in done.stderr
