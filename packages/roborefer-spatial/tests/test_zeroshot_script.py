"""`tools/x3/run_zeroshot_x3.sh`, which is not part of the wheel: from a tree to the table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "x3" / "run_zeroshot_x3.sh"


@pytest.fixture
def script(x3_tree, tmp_path):
    x3_tree.uid(views=3, hidden=(3,), split="validation")
    x3_tree.uid(views=2, split="train", scene="s2")
    names = ("DATA_ROOT", "OUT_DIR", "EVAL_DIR", "MODEL")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= {"PYTHON": sys.executable, "OUT_DIR": str(tmp_path / "tasks"), "EVAL_DIR": str(tmp_path / "eval")}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*words, cwd=elsewhere, **more):
        command = ["bash", str(SCRIPT), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env | more)

    return run


def truth(tasks: Path, path: Path, leave_out: int = 0) -> Path:
    """Write the true answers of the four validation sets."""
    rows = [row for name in sorted(tasks.glob("*_val_*.json")) for row in json.loads(name.read_text())]
    lines = [json.dumps({"id": row["id"], "text": row["conversations"][1]["value"]}) for row in rows]
    path.write_text("\n".join(lines[: len(lines) - leave_out]))
    return path


def test_builds_once_answers_four_sets_and_scores_them(script, x3_tree, tmp_path):
    built = script("--backend", "file", "--answers", tmp_path / "theirs.jsonl", DATA_ROOT=str(x3_tree.root))
    assert built.returncode == 2  # sets are there, answers are not
    assert "theirs.jsonl" in built.stderr
    done = script("--backend", "file", "--answers", truth(tmp_path / "tasks", tmp_path / "theirs.jsonl"))
    assert done.returncode == 0, done.stderr
    assert "not built again" in done.stdout
    sets = ["t1_val_concat", "t1_val_multi", "t2a_val_multi", "t2b_val_multi"]
    assert sorted(path.stem for path in (tmp_path / "eval").glob("*.json") if "." not in path.stem) == sets
    for name in sets:
        metrics = json.loads((tmp_path / "eval" / f"{name}.json").read_text())["metrics"]
        assert metrics["overall_accuracy"] == 1
        assert f"{name}: " in done.stdout


def test_the_status_says_that_a_sample_has_no_answer(script, x3_tree, tmp_path):
    script("--backend", "file", "--answers", tmp_path / "theirs.jsonl", DATA_ROOT=str(x3_tree.root))
    some = truth(tmp_path / "tasks", tmp_path / "theirs.jsonl", leave_out=1)
    done = script("--backend", "file", "--answers", some)
    assert done.returncode == 1
    assert "1 sample(s) failed" in done.stderr


def test_without_sets_and_without_a_tree_it_says_what_to_set(script):
    done = script("--backend", "file")
    assert done.returncode == 2
    assert "has no task sets and DATA_ROOT is not set" in done.stderr


def test_a_tree_named_x3_in_the_working_folder_is_taken(script, x3_tree):
    done = script("--backend", "file", cwd=x3_tree.root.parent)
    assert x3_tree.root.name == "x3"
    assert done.returncode == 2
    assert "backend file needs --answers" in done.stderr
