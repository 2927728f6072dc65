import json

import pytest
from roborefer_spatial.training import launch

MODULE = "roborefer_spatial.launch"
RUN = ("--data_mixture", "", "--max_steps", "2")


def logged(folder):
    return [json.loads(line)["rows"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["published", "repaired"])
def test_training_runs_on_a_file(checkout, run_python, make, tmp_path, kind):
    if kind == "repaired":
        make.correct(checkout)
    path = make.rows(tmp_path, ["A", "B"], name="t.jsonl")
    done = run_python(
        MODULE, *RUN, "--data_path", path, "--output_dir", tmp_path / "out", "--model_dtype", "torch.float32"
    )
    assert done.returncode == 0, done.stderr
    assert logged(tmp_path / "out") == [[0], [1]]
    assert json.loads((tmp_path / "out/trainer_state.json").read_text())["model_dtype"] == "torch.float32"
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("launch: "))
    assert ("mixture-syntax" in line) == (kind == "published")
    assert "trainer-log" in line


def test_a_repair_left_out_lets_the_host_fail_as_it_does(run_python, make, tmp_path):
    path = make.rows(tmp_path, ["A", "B"])
    words = (*RUN, "--data_path", path, "--output_dir", tmp_path / "out", "--x3-without", "trainer-log")
    done = run_python(MODULE, *words)
    assert done.returncode == 1
    assert "TypeError" in done.stderr
    assert "repair trainer-log is switched off" in done.stderr


def test_a_finished_folder_ends_with_status_0_and_a_word(run_python, make, tmp_path):
    words = (*RUN, "--data_path", make.rows(tmp_path, ["A"]), "--output_dir", tmp_path / "out")
    assert run_python(MODULE, *words).returncode == 0
    again = run_python(MODULE, *words)
    assert again.returncode == 0
    assert "is finished (2 steps): nothing is trained" in again.stderr
    assert len(logged(tmp_path / "out")) == 2


def test_a_curriculum_decides_the_steps_and_the_rows(run_python, make, tmp_path):
    for name in ("easy", "hard"):
        make.rows(tmp_path, ["A", "B"], name=f"{name}.json")
    stages = [
        {"name": "one", "data": "easy.json", "max_steps": 1},
        {"name": "two", "data": "hard.json", "max_steps": 2},
    ]
    (tmp_path / "c.yaml").write_text(json.dumps({"stages": stages}))
    words = (
        "--x3-curriculum",
        tmp_path / "c.yaml",
        "--output_dir",
        tmp_path / "out",
        "--per_device_train_batch_size",
        2,
    )
    done = run_python(MODULE, *words)
    assert done.returncode == 0, done.stderr
    first, second = logged(tmp_path / "out")
    assert (sorted(first), sorted(second)) == ([0, 1], [2, 3])
    assert "stage two: to step 2, 2 rows, 1.00 passes" in done.stderr
    assert "sampler drops" not in done.stderr  # the host's sampler is not used


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--x3-without", "paking"), "no repair paking"),
        (("--x3-data-root", "."), "--x3-data-root is for --x3-curriculum only"),
        (("--x3-script", "none.py"), "--x3-script none.py: .*none.py does not exist"),
        (("--x3-depth-path", "."), "--x3-depth-path is for the files of --data_path or --x3-curriculum"),
        (
            ("--x3-script", "a.py", "--x3-depth-path", "."),
            "--x3-script runs another script than the training",
        ),
        (("--x3-curriculum", "none.yaml"), "none.yaml: cannot be read as a curriculum"),
    ],
)
def test_bad_options_end_with_a_message_before_the_host_starts(checkout, monkeypatch, caplog, words, message):
    monkeypatch.setenv("ROBOREFER_ROOT", str(checkout.root))
    import re

    assert launch.main(words) == 2
    assert re.search(message, caplog.text)


def test_a_missing_host_is_said(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("ROBOREFER_ROOT", str(tmp_path))
    assert launch.main(RUN) == 2
    assert "not a RoboRefer checkout; git clone https://github.com/Zhoues/RoboRefer" in caplog.text


def test_a_script_of_the_checkout_runs_with_its_words(checkout, run_python, tmp_path):
    (checkout.root / "API").mkdir()
    (checkout.root / "API/beside.py").write_text("WORD = 'beside'\n")
    lines = ["import sys", "import llava.model", "from beside import WORD"]
    lines += ["print(sys.argv[1:], WORD, __name__)", "raise SystemExit(3)"]
    (checkout.root / "API/api.py").write_text("\n".join(lines))
    done = run_python(MODULE, "--x3-script", "API/api.py", "--port", "1")
    assert done.returncode == 3
    assert "['--port', '1'] beside __main__" in done.stdout


def test_the_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        launch.main(["--help"])
    assert stopped.value.code == 0
    assert "example:" in capsys.readouterr().out
