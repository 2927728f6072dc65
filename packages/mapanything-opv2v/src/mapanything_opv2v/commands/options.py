"""Options that several subcommands share, and what is done with them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mapanything_opv2v.geometry import Cylinder
    from mapanything_opv2v.panorama import PanoramaOptions
    from mapanything_opv2v.rawdata import TreeIndex

Commands = argparse._SubParsersAction
Run = Callable[[argparse.Namespace], int]


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
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_tree_options(parser: argparse.ArgumentParser) -> None:
    """Add what names a tree and the part of it to work on; `tree_index` reads it."""
    parser.add_argument("root", type=Path, help="folder that holds train, validate, test, test_culvercity")
    parser.add_argument("--depth-root", type=Path, help="tree of depth maps, if not in ROOT itself")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="splits to look at (default: all there are)")
    parser.add_argument("--index-cache", type=Path, help="folder to keep the index of file names in")
    add_exclude(parser)


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
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_panorama_options(parser: argparse.ArgumentParser) -> None:
    """Add how panoramas are made; `cylinder` and `panorama_options` read it."""
    group = parser.add_argument_group("panorama")
    group.add_argument(
        "--panorama-resolution",
        nargs=2,
        type=int,
        default=(1008, 252),
        metavar=("WIDTH", "HEIGHT"),
        help="pixels",
    )
    group.add_argument("--panorama-vertical-fov-deg", type=float, default=90.0, help="between top and bottom edge")
    group.add_argument("--panorama-elevation-center-deg", type=float, default=0.0, help="elevation of the middle row")
    group.add_argument("--camera-ids", nargs="+", type=int, metavar="ID", help="cameras to use (default: all)")
    group.add_argument(
        "--projection-radius-m",
        type=float,
        default=20.0,
        help="distance at which colours stand in the right place; inf looks up directions only",
    )
    group.add_argument("--ground-height-m", type=float, help="height of the centre above flat ground (OPV2V: 1.9)")
    group.add_argument("--feather-deg", type=float, default=2.0, help="width of the blend between two cameras")
    group.add_argument("--no-antialias", action="store_true", help="do not reduce images before looking colours up")
    group.add_argument("--no-refine", action="store_true", help="ranges of the nearest samples, not of surfaces")
    group.add_argument("--fill-radius-px", type=int, default=0, help="fill holes in range up to so many pixels")
    group.add_argument("--no-depth", action="store_true", help="colour only; do not read depth maps")


def tree_index(args: argparse.Namespace) -> TreeIndex:
    """Return the index of the tree that the options name."""
    from mapanything_opv2v.rawdata import index_tree

    index = index_tree(
        args.root, depth_root=args.depth_root, splits=args.splits, cache_dir=args.index_cache, exclude=args.exclude
    )
    for left in index.excluded:
        print(left)
    return index


def cylinder(args: argparse.Namespace) -> Cylinder:
    """Return the pixels of the panoramas that the options describe."""
    from mapanything_opv2v.geometry import Cylinder

    return Cylinder.from_size(
        args.panorama_resolution, args.panorama_vertical_fov_deg, args.panorama_elevation_center_deg
    )


def panorama_options(args: argparse.Namespace) -> PanoramaOptions:
    """Return how panoramas are made."""
    from mapanything_opv2v.panorama import PanoramaOptions

    return PanoramaOptions(
        projection_radius_m=args.projection_radius_m,
        ground_height_m=args.ground_height_m,
        feather_deg=args.feather_deg,
        antialias=not args.no_antialias,
        refine_range=not args.no_refine,
        fill_radius_px=args.fill_radius_px,
    )


def positive(value: int | None, name: str) -> int | None:
    """Return a number that must be at least 1 if it is given."""
    if value is not None and value < 1:
        raise ValueError(f"{name} {value}: expected at least 1")
    return value


def print_failed(failed: dict[str, str]) -> None:
    """Print where something failed, and why."""
    for where, message in failed.items():
        print(f"{where}: {message}")
