import re
import subprocess
import sys

import pytest
from influencer_mmdet3d import cli


def test_every_module_exists_and_has_its_functions():
    for command in cli.COMMANDS.values():
        module = __import__(f"influencer_mmdet3d.{command.module}", fromlist=["_"])
        assert callable(getattr(module, command.add_arguments))


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_has_an_example_that_parses(name, capsys):
    parser = cli.build_parser()
    with pytest.raises(SystemExit) as stop:
        parser.parse_args([name, "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and f"example: influencer-mmdet3d {cli.COMMANDS[name].example}" in out
    args = cli.build_parser().parse_args(cli.COMMANDS[name].example.split())
    assert callable(args.run)


@pytest.mark.parametrize(
    "words",
    [
        ["check-data", "data", "--format", "s3dis"],
        ["eval", "s3dis", "baseline", "a.pth", "--work_dir", "runs"],
        ["train", "s3dis", "baseline", "--data_root=data", "--cfg-options", "a_b=1"],
    ],
    ids=" ".join,
)
def test_old_spellings(words):
    args = cli.build_parser().parse_args(words)
    assert callable(args.run)
    if words[0] == "train":
        assert str(args.data_root) == "data" and args.cfg_options == ["a_b=1"]


def test_help_shows_no_underscores_and_aliases_only_in_brackets(capsys):
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.build_parser().parse_args([name, "--help"])
        assert not re.search(r"--\w*_", capsys.readouterr().out)


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args(["--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)


def test_errors_of_files_are_refusals(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.main(["synthetic", str(tmp_path / "file" / "below")]) == 2
    assert capsys.readouterr().err.startswith("influencer-mmdet3d: ")


@pytest.mark.parametrize("words", [[], ["no-such-command"], ["doctor", "extra"]])
def test_wrong_command_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.build_parser().parse_args(words)
    assert stop.value.code == 2 and capsys.readouterr().err


def test_users_errors_are_one_line(monkeypatch, capsys):
    def fail(args):
        raise ValueError("what was wrong")

    monkeypatch.setattr("influencer_mmdet3d.host.doctor.run", fail)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "influencer-mmdet3d: what was wrong\n"


def test_parsing_imports_no_host_and_no_plots():
    code = (
        "import sys; from influencer_mmdet3d import cli\n"
        f"for words in {[command.example.split() for command in cli.COMMANDS.values()]!r}:\n"
        "    cli.build_parser().parse_args(words)\n"
        "heavy = {'matplotlib', 'mmcv', 'mmdet', 'mmdet3d', 'spconv', 'oneformer3d'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
