import argparse
import re
import subprocess
import sys

import pytest
from roborefer_spatial import __version__, cli
from roborefer_spatial.cli import COMMANDS, build_parser, main

NAMES = [command.name for command in COMMANDS]


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "example" in printed
    assert f"roborefer-spatial {name}" in printed.split("example", 1)[1]


def test_the_parser_needs_neither_torch_nor_a_host():
    heavy = {"torch", "transformers", "llava", "datasets", "matplotlib", "distributed", "accelerate"}
    code = (
        "import sys; from roborefer_spatial.cli import build_parser; build_parser();"
        f"sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_the_module_is_the_script():
    done = subprocess.run([sys.executable, "-m", "roborefer_spatial", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"roborefer-spatial {__version__}")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("wrong: x"), "wrong: x"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_errors_of_users_are_one_line_and_status_2(monkeypatch, capsys, error, message):
    def fail(args):
        raise error

    parser = build_parser()
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    monkeypatch.setattr(parser, "parse_known_args", lambda argv: (argparse.Namespace(command="x", run=fail), []))
    assert main(["x"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("roborefer-spatial x: error: ")
    assert message in printed
    assert printed.count("\n") == 1


def test_a_bug_is_not_hidden(monkeypatch):
    parser = build_parser()
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    args = argparse.Namespace(command="x", run=lambda args: 1 / 0)
    monkeypatch.setattr(parser, "parse_known_args", lambda argv: (args, []))
    with pytest.raises(ZeroDivisionError):
        main(["x"])


def test_wrong_usage_is_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["build", "--data-root", "x"])
    assert stopped.value.code == 2
    assert "--out-dir" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new"), [("score", "evaluate"), ("check-data", "check")])
def test_old_names_are_aliases(old, new, capsys):
    shown = []
    for name in (old, new):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        shown.append(capsys.readouterr().out)
    assert shown[0].replace(f"roborefer-spatial {old}", f"roborefer-spatial {new}", 1).split() == shown[1].split()


def test_underscores_are_taken_for_hyphens():
    args = build_parser().parse_args(["build", "--data_root", "x", "--out_dir=y", "--no-use_dilated_mask"])
    assert (str(args.data_root), str(args.out_dir), args.use_dilated_mask) == ("x", "y", False)


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_hyphens(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    host = {"--warmup_ratio", "--report_to", "--num_processes", "--include_path", "--data_mixture"}
    assert set(re.findall(r"--[a-z0-9-]+_[a-z0-9_-]*", capsys.readouterr().out)) <= host


def test_unknown_flags_are_refused_except_by_train(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--warmup_ratio", "0.1"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --warmup_ratio 0.1" in capsys.readouterr().err
    words = ["train", "--model-name-or-path", "m", "--data", "d", "--output-dir", "o", "--warmup_ratio", "0.1"]
    assert build_parser().parse_known_args(words)[1] == ["--warmup_ratio", "0.1"]
