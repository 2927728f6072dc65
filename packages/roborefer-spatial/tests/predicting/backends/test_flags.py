"""Flags made from dataclasses: the field is the one home of a flag's type, default and text."""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Something.

    Attributes
    ----------
    out_file
        Where it goes,
        at 100 %.
    size, width
        In pixels.
    mode
        Which one.
    slow
        Take care.

    Notes
    -----
    mode
        Not this text.
    """

    out_file: Path
    size: int = 3
    width: float | None = None
    mode: Literal["a", "b"] = "a"
    slow: bool = False


def parser(options: type, **keywords: list[str]) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    flags.add_fields(made.add_argument_group("x"), options, **keywords)
    return made


def test_types_choices_and_pairs_follow_the_fields() -> None:
    line = ["--out-file", "f.txt", "--size", "4", "--width", "2.5", "--mode", "b", "--no-slow"]
    assert vars(parser(Options).parse_args(line)) == {
        "out_file": Path("f.txt"), "size": 4, "width": 2.5, "mode": "b", "slow": False,
    }  # fmt: skip


def test_a_flag_that_is_not_given_sets_nothing_and_skipped_ones_are_not_there() -> None:
    assert vars(parser(Options).parse_args([])) == {}
    with pytest.raises(SystemExit):
        parser(Options, skip=["size"]).parse_args(["--size", "4"])


def test_help_is_the_docstring_with_the_default() -> None:
    assert flags.described(Options) == {
        "out_file": "Where it goes, at 100 %", "size": "In pixels", "width": "In pixels", "mode": "Which one",
        "slow": "Take care",
    }  # fmt: skip
    text = " ".join(parser(Options).format_help().split())
    assert "Where it goes, at 100 %" in text
    assert "In pixels (default: 3)" in text
    assert "Not this text" not in text


def test_a_field_that_cannot_be_a_flag_is_named() -> None:
    bare = dataclasses.make_dataclass("Bare", [("size", int, 3)])
    with pytest.raises(TypeError, match=r"Bare\.size is not described under 'Attributes'"):
        parser(bare)

    @dataclass
    class Odd:
        """Odd.

        Attributes
        ----------
        table
            Of names.
        """

        table: dict  # type: ignore[type-arg]

    Odd.__annotations__["table"] = dict[str, int]
    with pytest.raises(TypeError, match=r"Odd\.table is of type dict\[str, int\], which no flag can give"):
        parser(Odd)


@pytest.mark.parametrize("name", sorted(backends.MODULES))
def test_every_field_of_every_backend_has_a_flag(name: str) -> None:
    made = argparse.ArgumentParser()
    backends.add_arguments(made)
    known = {action.dest for action in made._actions}
    fields = {field.name for field in dataclasses.fields(backends._module(name).Options)}
    assert fields - known == set()
