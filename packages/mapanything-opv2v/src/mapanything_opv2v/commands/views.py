"""`pointcloud`, `rig`, `bev`, `compare`, `rerun`: pages and pictures to look at; the work is in `views`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapanything_opv2v.commands import options
from mapanything_opv2v.terminal import DONE

if TYPE_CHECKING:
    from mapanything_opv2v.views.sources import RawOptions

_RAW_FLAGS = ("depth_root", "agents", "camera_ids", "layout")
_COMMAND = "mapanything-opv2v"
_YAML = "~/OPV2V/test/SEQUENCE/641/000069.yaml"


def add(commands: options.Commands) -> None:
    """Add the commands."""
    _add_pointcloud(commands)
    _add_rig(commands)
    _add_bev(commands)
    _add_compare(commands)
    _add_rerun(commands)


def _add_source(parser: argparse.ArgumentParser, *, out: str) -> None:
    parser.add_argument(
        "source",
        type=Path,
        help="a file of predictions (.npz), or an agent's .yaml: the whole raw frame, this agent first",
    )
    parser.add_argument("--out", type=Path, required=True, help=out)
    _add_raw_options(parser)
    _add_pose_source(parser)


def _add_raw_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("raw frames (not for files of predictions)")
    group.add_argument("--depth-root", type=Path, help="tree of depth maps, if not beside the images")
    options.add_png_units(group)
    group.add_argument("--agents", nargs="+", type=int, metavar="ID", help="agents to show, main agent first")
    group.add_argument("--camera-ids", nargs="+", type=int, metavar="ID", help="cameras to use (default: all)")
    group.add_argument("--layout", choices=("cameras", "panorama"), help="a view per image, or a panorama per agent")


def _add_pose_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--point-pose-source",
        choices=("pred", "gt"),
        help="whose camera poses place the points: pred, unless told; raw frames have only gt. The title says which",
    )


def _add_points(parser: argparse.ArgumentParser, count: int) -> None:
    parser.add_argument("--points", choices=("depth", "lidar"), default="depth", help="from depth maps or LiDAR sweeps")
    parser.add_argument("--max-points", type=int, default=count, help="points in all, drawn at random")


def _add_pointcloud(commands: options.Commands) -> None:
    text = "write a page with a frame's coloured cloud, cameras, boxes, predicted and true poses; figures of every view"
    parser = options.add_command(
        commands,
        "pointcloud",
        text,
        f"{_COMMAND} pointcloud {_YAML} --depth-root ~/OPV2V_depth --out cloud",
        _pointcloud,
    )
    _add_source(parser, out="folder for pointcloud.html, summary.json and views/")
    _add_points(parser, 200_000)


def _add_rig(commands: options.Commands) -> None:
    text = "write a page and a picture of camera poses and vehicle boxes"
    _add_source(
        options.add_command(commands, "rig", text, f"{_COMMAND} rig {_YAML} --out rig", _rig),
        out="folder for rig.html and rig.png",
    )


def _add_bev(commands: options.Commands) -> None:
    parser = options.add_command(
        commands,
        "bev",
        "write a page and a picture of a frame from above",
        f"{_COMMAND} bev {_YAML} --out bev --reach-m 70",
        _bev,
    )
    _add_source(parser, out="folder for bev.html, bev.png and bev.npz")
    parser.add_argument("--points", choices=("depth", "lidar"), default="depth", help="from depth maps or LiDAR sweeps")
    parser.add_argument("--reach-m", type=float, default=50.0, help="from the main agent to each edge")
    parser.add_argument("--cell-m", type=float, default=0.2, help="side of a cell")
    parser.add_argument("--max-height-m", type=float, default=4.0, help="leave out points higher above the ground")


def _add_compare(commands: options.Commands) -> None:
    text = "write a page with two clouds or two runs: side by side or one over the other, differences coloured"
    parser = options.add_command(
        commands, "compare", text, f"{_COMMAND} compare run_a/FRAME.npz run_b/FRAME.npz --out compare", _compare
    )
    for side in ("a", "b"):
        parser.add_argument(
            side, type=Path, help="predictions (.npz, or a run's folder), raw frame (.yaml), cloud (.pcd, .ply, .npy)"
        )
    parser.add_argument("--out", type=Path, required=True, help="folder for compare.html and compare.json")
    parser.add_argument("--frame", metavar="NAME", help="of two folders: split/sequence/frame_agentID (default: first)")
    _add_raw_options(parser)
    pair = parser.add_argument_group("for both, or one for A and one for B")
    for name, choices, default, text in (
        ("--points", ("depth", "lidar"), "depth", "of frames: from depth maps or LiDAR sweeps"),
        ("--point-pose-source", ("pred", "gt"), None, "of predictions: whose poses place the points (default: pred)"),
        ("--axes", ("opencv", "carla"), "opencv", "of clouds: x right, y down, z ahead; or x ahead, y right, z up"),
    ):
        pair.add_argument(name, nargs="+", choices=choices, default=[default], help=text)
    parser.add_argument("--max-points", type=int, default=100_000, help="points of each side, drawn at random")


def _add_rerun(commands: options.Commands) -> None:
    parser = options.add_command(
        commands, "rerun", "write a frame as a recording for rerun", f"{_COMMAND} rerun {_YAML} --out frame.rrd", _rerun
    )
    _add_source(parser, out="the .rrd file")
    _add_points(parser, 1_000_000)


def _raw_options(args: argparse.Namespace, source: Path, points: str = "depth") -> RawOptions:
    """Return what to read of a raw frame; flags that a file of predictions cannot heed are refused."""
    from mapanything_opv2v.views.sources import RawOptions

    given = {name: getattr(args, name) for name in _RAW_FLAGS if getattr(args, name) is not None}
    if given and source.suffix != ".yaml":
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{flags}: only for raw frames (.yaml); {source} holds what it holds")
    return RawOptions(**given, with_sweeps=points == "lidar")


def _frame(args: argparse.Namespace, points: str = "depth") -> Any:
    from mapanything_opv2v.views.sources import load_frame

    return load_frame(args.source, _raw_options(args, args.source, points))


def _pointcloud(args: argparse.Namespace) -> int:
    from mapanything_opv2v.views.figures import write_figures
    from mapanything_opv2v.views.pointcloud import write_pointcloud

    frame = _frame(args, args.points)
    source = frame.pose_source(args.point_pose_source)
    page = args.out / "pointcloud.html"
    count = write_pointcloud(page, frame, points=args.points, pose_source=source, max_points=args.max_points)
    summary = write_figures(args.out, frame, source)
    print(f"{page}: {count} points of {len(frame.views)} views, {'predicted' if source == 'pred' else 'true'} poses")
    print(f"{summary}: pose, scale and depth error of every view; pictures and arrays in {args.out / 'views'}")
    return DONE


def _rig(args: argparse.Namespace) -> int:
    from mapanything_opv2v.views.poses import write_rig

    frame = _frame(args)
    write_rig(args.out, frame, pose_source=args.point_pose_source)
    print(f"{args.out / 'rig.html'}, rig.png: {len(frame.views)} views, {len(frame.boxes)} boxes")
    return DONE


def _bev(args: argparse.Namespace) -> int:
    from mapanything_opv2v.views.bev import BevOptions, write_bev

    options = BevOptions(reach_m=args.reach_m, cell_m=args.cell_m, max_height_m=args.max_height_m)
    bev = write_bev(
        args.out, _frame(args, args.points), options, points=args.points, pose_source=args.point_pose_source
    )
    print(f"{args.out / 'bev.html'}, bev.png, bev.npz: {(bev.count > 0).mean():.1%} of the cells hold points")
    if bev.is_far():
        closer = f"--reach-m {args.reach_m / 10:g} --cell-m {args.cell_m / 10:g}"
        print(f"nearly all points lie in the middle tenth of the picture: {closer} looks closer")
    return DONE


def _compare(args: argparse.Namespace) -> int:
    from mapanything_opv2v.views.cloudfile import CLOUD_SUFFIXES
    from mapanything_opv2v.views.compare import common_frame, load_side, write_compare

    files = args.a, args.b
    if args.a.is_dir() and args.b.is_dir():
        files = common_frame(args.a, args.b, args.frame)
    elif args.frame is not None:
        raise ValueError(f"--frame {args.frame}: only where both sides are folders of predictions")
    sides = []
    pairs = (_pair(args.points, "--points"), _pair(args.point_pose_source, "--point-pose-source"))
    for path, points, pose_source, axes in zip(files, *pairs, _pair(args.axes, "--axes")):
        raw = None if path.suffix in CLOUD_SUFFIXES else _raw_options(args, path, points)
        sides.append(
            load_side(path, raw, points=points, pose_source=pose_source, max_points=args.max_points, axes=axes)
        )
    figures = write_compare(args.out, *sides)
    print(f"{args.out / 'compare.html'}, compare.json")
    for name, text in (("a_to_b", "A to B"), ("b_to_a", "B to A")):
        found = figures[name]
        print(f"{text}: mean {found['mean_m']:.3f} m, median {found['median_m']:.3f} m to the nearest point")
    return DONE


def _pair(values: Sequence[Any], flag: str) -> tuple[Any, Any]:
    if len(values) > 2:
        raise ValueError(f"{flag}: {len(values)} values, expected one for both or one for each side")
    return values[0], values[-1]


def _rerun(args: argparse.Namespace) -> int:
    from mapanything_opv2v.views.recording import write_recording

    frame = _frame(args, args.points)
    if args.out.suffix != ".rrd":
        raise ValueError(f"--out {args.out}: expected a file that ends in .rrd")
    write_recording(args.out, frame, points=args.points, pose_source=args.point_pose_source, max_points=args.max_points)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB; open it with: rerun {args.out}")
    return DONE
