"""The console script `mapanything-opv2v`: options here, work in `commands` (imported only when it runs)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mapanything_opv2v import __version__, cli_eval, cli_views


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="mapanything-opv2v",
        description="OPV2V and V2XSet for MapAnything: check a download, make depth maps and panoramas, look.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_doctor(commands)
    _add_tree(commands)
    _add_check(commands)
    _add_depth(commands)
    _add_panorama(commands)
    _add_prebuild(commands)
    _add_town(commands)
    _add_demo(commands)
    cli_eval.add(commands)
    cli_views.add(commands, _command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status (0 good, 1 problems found, 2 bad input)."""
    args = build_parser().parse_args(argv)
    if args.command == "doctor":
        from mapanything_opv2v import doctor

        return doctor.main(args)
    from mapanything_opv2v import commands

    try:
        return commands.run(args)
    except (ValueError, OSError) as error:
        print(f"mapanything-opv2v {args.command}: {error}", file=sys.stderr)
        return 2


def _command(commands: argparse._SubParsersAction, name: str, text: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example: mapanything-opv2v {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def _add_tree_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=Path, help="folder that holds train, validate, test, test_culvercity")
    parser.add_argument("--depth_root", type=Path, help="tree of depth maps, if not in ROOT itself")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="splits to look at (default: all there are)")
    parser.add_argument("--index_cache", type=Path, help="folder to keep the index of file names in")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=1, help="processes of this machine")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="run on this Dask cluster instead, such as tcp://node1:8786"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_panorama_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("panorama")
    group.add_argument(
        "--panorama_resolution",
        nargs=2,
        type=int,
        default=(1008, 252),
        metavar=("WIDTH", "HEIGHT"),
        help="pixels",
    )
    group.add_argument("--panorama_vertical_fov_deg", type=float, default=90.0, help="between top and bottom edge")
    group.add_argument("--panorama_elevation_center_deg", type=float, default=0.0, help="elevation of the middle row")
    group.add_argument("--camera_ids", nargs="+", type=int, metavar="ID", help="cameras to use (default: all)")
    group.add_argument(
        "--projection_radius_m",
        type=float,
        default=20.0,
        help="distance at which colours stand in the right place; inf looks up directions only",
    )
    group.add_argument("--ground_height_m", type=float, help="height of the centre above flat ground (OPV2V: 1.9)")
    group.add_argument("--feather_deg", type=float, default=2.0, help="width of the blend between two cameras")
    group.add_argument("--no_antialias", action="store_true", help="do not reduce images before looking colours up")
    group.add_argument("--no_refine", action="store_true", help="ranges of the nearest samples, not of surfaces")
    group.add_argument("--fill_radius_px", type=int, default=0, help="fill holes in range up to so many pixels")
    group.add_argument("--no_depth", action="store_true", help="colour only; do not read depth maps")


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    commands.add_parser(
        "doctor",
        help="say whether the host is there, at its pin, and knows our datasets",
        description="Say whether MapAnything is there, at its pin, importable, and knows our datasets.",
        epilog="Example: MAPANYTHING_ROOT=~/map-anything PYTHONPATH=~/map-anything mapanything-opv2v doctor",
    )


def _add_tree(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "tree", "say what a tree holds, by file names only", "tree ~/OPV2V --max_scenes 1")
    _add_tree_options(parser)
    parser.add_argument("--max_scenes", type=int, help="count only so many frames")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the counts there")


def _add_check(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "check",
        "read every file and list all that is missing, damaged or inconsistent; exit status 1 if anything is",
        "check ~/OPV2V --depth_root ~/OPV2V_depth --workers 8 --json report.json",
    )
    _add_tree_options(parser)
    _add_workers(parser)
    parser.add_argument("--max_scenes", type=int, help="check only so many frames")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole report there")
    parser.add_argument("--show", type=int, default=50, help="problems to print; the JSON report has all")
    parser.add_argument("--cameras", type=int, default=4, help="cameras that every agent must have")
    parser.add_argument("--need_depth", action="store_true", help="every image must have a depth map")
    parser.add_argument("--no_lidar", action="store_true", help="agents need not have a LiDAR sweep")


def _add_depth(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "depth",
        "project LiDAR sweeps into the cameras and write depth maps where the datasets look for them; "
        "maps that are there are kept",
        "depth ~/OPV2V --out ~/OPV2V_depth --splits train validate --workers 8",
    )
    _add_tree_options(parser)
    _add_workers(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DEPTH_ROOT", help="tree to write into")
    parser.add_argument("--sweeps", choices=("own", "all"), default="own", help="own sweep, or every agent's")
    parser.add_argument(
        "--hide_px", type=int, default=3, help="drop samples hidden by a nearer one so close; 0 keeps all"
    )
    parser.add_argument("--format", choices=("npy", "png"), default="npy", help="float metres, or 16 bits of 1/64 m")
    parser.add_argument("--overwrite", action="store_true", help="make maps again that are there")


def _add_panorama(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "panorama",
        "build one agent's panorama and write page, picture, arrays and figures; or the page of a predictions file",
        "panorama ~/OPV2V/train/SEQUENCE/641/000069.yaml --out panorama_out",
    )
    parser.add_argument("yaml", type=Path, help="the agent's YAML, images beside it; or a file of predictions (.npz)")
    parser.add_argument("--depth_dir", type=Path, help="folder of its depth maps, if not beside it")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    _add_panorama_options(parser)


def _add_prebuild(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "prebuild",
        "build all panoramas once and keep them on disk; those that are there are kept",
        "prebuild ~/OPV2V --depth_root ~/OPV2V_depth --cache ~/OPV2V_panoramas --workers 8",
    )
    _add_tree_options(parser)
    _add_workers(parser)
    parser.add_argument("--cache", type=Path, required=True, help="folder to keep them in")
    _add_panorama_options(parser)


def _add_town(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "synthetic",
        "ray-cast a synthetic town in OPV2V's format, with dense depth",
        "synthetic --out town --sequences 1 --frames 2 --agents 3",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--depth_root", type=Path, help="tree for the depth maps, if not in OUT itself")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another town")
    parser.add_argument("--sequences", type=int, default=1, help="sequences in each split")
    parser.add_argument("--frames", type=int, default=2, help="frames in each sequence")
    parser.add_argument("--agents", type=int, default=2, help="vehicles with sensors")
    parser.add_argument("--infrastructure", type=int, default=0, help="masts with sensors (negative ids)")
    parser.add_argument("--splits", nargs="+", default=["train"], metavar="SPLIT", help="splits to write")
    parser.add_argument(
        "--image_size", nargs=2, type=int, default=(800, 600), metavar=("WIDTH", "HEIGHT"), help="pixels"
    )


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands,
        "demo",
        "make a town, check it, build panoramas and show them against the truth",
        "demo --out demo_out",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for index.html, overview.png, result.json",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the town")
    parser.add_argument("--real_frame", type=Path, metavar="YAML", help="also show this frame of the real data set")
