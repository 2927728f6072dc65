import argparse
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
def test_errors_of_users_are_one_line_and_status_1(monkeypatch, capsys, error, message):
    def fail(args):
        raise error

    parser = build_parser()
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    monkeypatch.setattr(parser, "parse_args", lambda argv: argparse.Namespace(command="x", run=fail))
    assert main(["x"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("roborefer-spatial x: error: ")
    assert message in printed
    assert printed.count("\n") == 1


def test_a_bug_is_not_hidden(monkeypatch):
    parser = build_parser()
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    monkeypatch.setattr(parser, "parse_args", lambda argv: argparse.Namespace(command="x", run=lambda args: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        main(["x"])


def test_wrong_usage_is_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["build", "--data_root", "x"])
    assert stopped.value.code == 2
    assert "--out_dir" in capsys.readouterr().err
