"""Options that several subcommands share, and what is done with them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from mapanything_opv2v.kinds import ELEVATION_CENTER_DEG, PANORAMA_SIZE, VERTICAL_FOV_DEG
from mapanything_opv2v.panorama.options import PanoramaOptions

if TYPE_CHECKING:
    from mapanything_opv2v.geometry import Cylinder
    from mapanything_opv2v.rawdata import TreeIndex

Commands = argparse._SubParsersAction
Run = Callable[[argparse.Namespace], int]
T = TypeVar("T")
STDOUT = "-"


class _Help(argparse.HelpFormatter):
    """Help that ends each option with its default, where that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, True, False, argparse.SUPPRESS, [])
        return action.help if silent or not action.option_strings else f"{action.help} (default: %(default)s)"


def add_command(
    commands: Commands, name: str, text: str, example: str, run: Run, *, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Add a subcommand that calls `run`; the first sentence of `text` stands in the list of commands."""
    parser = commands.add_parser(
        name,
        aliases=aliases,
        help=text.partition(". ")[0],
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example: {example}",
        formatter_class=_Help,
    )
    parser.set_defaults(run=run)
    return parser


def add_tree_options(parser: argparse.ArgumentParser) -> None:
    """Add what names a tree and the part of it to work on; `tree_index` reads it."""
    parser.add_argument("root", type=Path, help="folder that holds train, validate, test, test_culvercity; or rig.yaml")
    parser.add_argument("--depth-root", type=Path, help="tree of depth maps, if not in ROOT itself")
    add_png_units(parser)
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="splits to look at (default: all there are)")
    parser.add_argument("--index-cache", type=Path, help="folder to keep the index of file names in")
    add_exclude(parser)


def add_png_units(parser: argparse._ActionsContainer) -> None:
    """Add the scale of depth PNGs; `commands` sets it before a command runs."""
    parser.add_argument(
        "--png-units-per-m", type=float, metavar="UNITS", help="of 16-bit depth PNGs that state no scale, such as 256"
    )


def add_exclude(parser: argparse._ActionsContainer) -> None:
    """Add what is left out of a tree by name."""
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=["known"],
        metavar="NAME",
        help="leave out: [SPLIT/]SEQUENCE[/FRAME][/agentID], files with a name a line, `known` (broken as published; "
        "name it beside others to keep it) or `none`",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add where a long job runs, and whether it shows its progress."""
    parser.add_argument("--workers", type=int, default=1, help="processes of this machine")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="run on this Dask cluster instead, such as tcp://node1:8786"
    )
    add_quiet(parser)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet`."""
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, which `put_json` reads."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="print the result as JSON instead of text, or write it to FILE beside the text",
    )


def put_json(args: argparse.Namespace, value: Any) -> bool:
    """Write a result as JSON where `--json` says; say whether that was in place of text."""
    from mapanything_opv2v.files import write_json

    if args.json == STDOUT:
        print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
        return True
    if args.json is not None:
        write_json(Path(args.json), value)
    return False


_PANORAMA_TEXTS = {
    "projection_radius_m": "distance at which colours stand in the right place; inf looks up directions only",
    "ground_height_m": "height of the centre above flat ground (OPV2V: 1.9)",
    "feather_deg": "width of the blend between two cameras",
    "antialias": "do not reduce images before looking colours up",
    "refine_range": "ranges of the nearest samples, not of surfaces",
    "fill_radius_px": "fill holes in range up to so many pixels",
    "match_exposure": "make neighbouring cameras equally bright where they overlap",
}


def add_panorama_options(parser: argparse.ArgumentParser) -> None:
    """Add how panoramas are made; `cylinder` and `panorama_options` read it."""
    group = parser.add_argument_group("panorama")
    group.add_argument(
        "--panorama-resolution", nargs=2, type=int, default=PANORAMA_SIZE, metavar=("WIDTH", "HEIGHT"), help="pixels"
    )
    group.add_argument(
        "--panorama-vertical-fov-deg", type=float, default=VERTICAL_FOV_DEG, help="between top and bottom edge"
    )
    group.add_argument(
        "--panorama-elevation-center-deg",
        type=float,
        default=ELEVATION_CENTER_DEG,
        help="elevation of the middle row",
    )
    group.add_argument("--camera-ids", nargs="+", type=int, metavar="ID", help="cameras to use (default: all)")
    add_fields(group, PanoramaOptions, _PANORAMA_TEXTS, aliases={"refine_range": ["--no-refine"]})
    group.add_argument("--no-depth", action="store_true", help="colour only; do not read depth maps")


def add_fields(
    group: argparse._ActionsContainer,
    cls: Any,
    texts: Mapping[str, str],
    *,
    aliases: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Add a flag for each field of a dataclass of options, with its default; one that is True gets `--no-FIELD`.

    Parameters
    ----------
    group : argparse group or parser
        Where to.
    cls : dataclass
        Its fields are numbers or booleans.
    texts : mapping of str to str
        Help by field; for a boolean that is True, what leaving it out means.
    aliases : mapping of str to sequence of str
        Further spellings by field.
    """
    for field in fields(cls):
        flag, more = field.name.replace("_", "-"), aliases.get(field.name, ())
        if field.default is True:
            group.add_argument(
                f"--no-{flag}",
                *more,
                dest=field.name,
                action="store_false",
                default=True,
                help=texts[field.name],
            )
        elif field.default is False:
            group.add_argument(f"--{flag}", *more, action="store_true", help=texts[field.name])
        else:
            kind = int if isinstance(field.default, int) else float
            group.add_argument(f"--{flag}", *more, type=kind, default=field.default, help=texts[field.name])


def from_fields(cls: Callable[..., T], args: argparse.Namespace) -> T:
    """Return the options that flags of `add_fields` give."""
    return cls(**{field.name: getattr(args, field.name) for field in fields(cls)})  # type: ignore[arg-type]


def tree_index(args: argparse.Namespace) -> TreeIndex:
    """Return the index of the tree that the options name."""
    from mapanything_opv2v.rawdata import index_tree

    index = index_tree(
        args.root, depth_root=args.depth_root, splits=args.splits, cache_dir=args.index_cache, exclude=args.exclude
    )
    for left in index.excluded:
        print(left, file=sys.stderr)
    return index


def cylinder(args: argparse.Namespace) -> Cylinder:
    """Return the pixels of the panoramas that the options describe."""
    from mapanything_opv2v.geometry import Cylinder

    return Cylinder.from_size(
        args.panorama_resolution, args.panorama_vertical_fov_deg, args.panorama_elevation_center_deg
    )


def panorama_options(args: argparse.Namespace) -> PanoramaOptions:
    """Return how panoramas are made."""
    return from_fields(PanoramaOptions, args)


def positive(value: int | None, name: str) -> int | None:
    """Return a number that must be at least 1 if it is given."""
    if value is not None and value < 1:
        raise ValueError(f"{name} {value}: expected at least 1")
    return value


def print_failed(failed: dict[str, str]) -> None:
    """Print where something failed, and why."""
    for where, message in failed.items():
        print(f"{where}: {message}")
