"""Command line flags made from a frozen dataclass of options: its fields, their types, defaults and documentation.

So a flag's help text and default have one home, the dataclass.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from collections.abc import Collection
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def add_fields(group: argparse._ArgumentGroup, options: type, skip: Collection[str] = ()) -> None:
    """Add one flag per field of the dataclass, except those of `skip`; a flag that is not given sets nothing.

    A `Literal` becomes choices, a bool a pair `--name` and `--no-name`; `None` in a union means "not given". The
    help is what the docstring's section "Attributes" says of the field, and its default.

    Raises
    ------
    TypeError
        A field without a description, or of a type that no flag can give.
    """
    hints, said = get_type_hints(options), described(options)
    for field in dataclasses.fields(options):
        if field.name in skip:
            continue
        if field.name not in said:
            raise TypeError(f"{options.__qualname__}.{field.name} is not described under 'Attributes'")
        default = "" if field.default in (None, dataclasses.MISSING) else f" (default: {field.default})"
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            default=argparse.SUPPRESS,
            help=(said[field.name] + default).replace("%", "%%"),
            **_kind(options, field.name, hints[field.name]),
        )


def described(options: type) -> dict[str, str]:
    """Return what the section "Attributes" of a numpy docstring says of each name, on one line."""
    section = inspect.getdoc(options) or ""
    _, _, section = section.partition("Attributes\n----------\n")
    section = re.split(r"\n\n?\S.*\n---", section)[0]
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(",")]
            found.update({name: [] for name in names})
        for name in names if line.startswith(" ") else ():
            found[name].append(line.strip())
    return {name: " ".join(lines).rstrip(".") for name, lines in found.items()}


def _kind(options: type, name: str, hint: Any) -> dict[str, Any]:
    if get_origin(hint) in (Union, UnionType):
        one = [part for part in get_args(hint) if part is not NoneType]
        hint = one[0] if len(one) == 1 else hint
    if get_origin(hint) is Literal:
        values = get_args(hint)
        return {"choices": values, "type": type(values[0])}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(hint, type) and get_origin(hint) is None:
        return {"type": hint, "metavar": hint.__name__.upper()}
    raise TypeError(f"{options.__qualname__}.{name} is of type {hint}, which no flag can give")
