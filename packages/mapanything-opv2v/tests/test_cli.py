"""What all commands of the command line share: spelling, exit statuses, aliases."""

from __future__ import annotations

import argparse
import importlib

import pytest
from mapanything_opv2v import cli
from mapanything_opv2v.commands import options
from mapanything_opv2v.evaluation.options import CloudOptions
from mapanything_opv2v.panorama import PanoramaOptions


def test_doctor_names_the_missing_root(monkeypatch, capsys):
    monkeypatch.delenv("MAPANYTHING_ROOT", raising=False)
    assert cli.main(["doctor"]) == 1
    assert "MAPANYTHING_ROOT is not set" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--depth-root", "--depth_root"])
def test_both_spellings_of_an_option(flag):
    args = cli.build_parser().parse_args(["tree", "x", flag, "y", "--max_scenes=3"])
    assert str(args.depth_root) == "y" and args.max_scenes == 3


def test_help_shows_hyphens():
    (commands,) = [action for action in cli.build_parser()._actions if action.dest == "command"]
    for parser in commands.choices.values():
        for action in parser._actions:
            assert not [flag for flag in action.option_strings if "_" in flag]


@pytest.mark.parametrize(("alias", "verb"), [("infer", "predict"), ("eval", "evaluate"), ("town", "synthetic")])
def test_old_spellings_do_the_same(alias, verb):
    (commands,) = [action for action in cli.build_parser()._actions if action.dest == "command"]
    assert commands.choices[alias] is commands.choices[verb]


def test_bad_arguments_are_refused_with_two():
    with pytest.raises(SystemExit) as stop:
        cli.main(["check"])
    assert stop.value.code == 2


def test_a_missing_package_is_refused_in_one_line(monkeypatch, capsys):
    def fail(args):
        raise ImportError("no host; install it")

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=fail, command="x")
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert cli.main([]) == 2
    assert capsys.readouterr().err == "mapanything-opv2v x: no host; install it\n"


DEFAULTS = {
    "check": ("x", "checks:CheckOptions", ["cameras"]),
    "depth": ("x --out y", "depth:DepthOptions", ["sweeps", "hide_px"]),
    "bev": ("x --out y", "views.bev:BevOptions", ["reach_m", "cell_m", "max_height_m"]),
    "predict": ("--predictions x --out y", "exports:ExportOptions", ["max_range_m"]),
}


@pytest.mark.parametrize("command", DEFAULTS)
def test_defaults_are_those_of_the_options(command):
    words, home, names = DEFAULTS[command]
    args = cli.build_parser().parse_args([command, *words.split()])
    module, _, name = home.partition(":")
    defaults = getattr(importlib.import_module(f"mapanything_opv2v.{module}"), name)()
    assert [getattr(args, name) for name in names] == [getattr(defaults, name) for name in names]


def test_flags_from_fields_give_the_options_back():
    for cls, command in ((PanoramaOptions, ["prebuild", "x", "--cache", "y"]),
                         (CloudOptions, ["evaluate", "--predictions", "x", "--out", "y"])):  # fmt: skip
        assert options.from_fields(cls, cli.build_parser().parse_args(command)) == cls()
