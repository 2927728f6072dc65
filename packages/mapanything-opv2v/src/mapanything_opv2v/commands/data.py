"""`tree`, `check`, `depth`, `synthetic`: what a data set holds, whether it is sound, what it lacks."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mapanything_opv2v.commands import options
from mapanything_opv2v.terminal import DONE, FAILED

if TYPE_CHECKING:
    from mapanything_opv2v.checks import CheckReport


def add(commands: options.Commands) -> None:
    """Add the commands."""
    _add_tree(commands)
    _add_check(commands)
    _add_depth(commands)
    _add_synthetic(commands)


def _add_tree(commands: options.Commands) -> None:
    parser = options.add_command(
        commands,
        "tree",
        "say what a tree holds, by file names only",
        "mapanything-opv2v tree ~/OPV2V --max-scenes 1",
        run_tree,
    )
    options.add_tree_options(parser)
    parser.add_argument("--max-scenes", type=int, help="count only so many frames")
    options.add_json(parser)


def run_tree(args: argparse.Namespace) -> int:
    """Print what a tree holds."""
    from mapanything_opv2v.rawdata import summarise

    rows = summarise(options.tree_index(args), options.positive(args.max_scenes, "--max-scenes"))
    if options.put_json(args, rows):
        return DONE
    for row in rows:
        agents = ", ".join(f"{count} frames with {number}" for number, count in row["agents"].items()) or "none"
        print(
            f"{row['split']}: {row['sequences']} sequences, {row['scenes']} frames, {row['images']} images, "
            f"{row['sweeps']} sweeps, {row['depth_maps']} depth maps; agents: {agents}"
        )
    print(f"{sum(row['scenes'] for row in rows)} scenes")
    return DONE


def _add_check(commands: options.Commands) -> None:
    parser = options.add_command(
        commands,
        "check",
        "read every file and list all that is missing, damaged or inconsistent; exit status 1 if anything is",
        "mapanything-opv2v check ~/OPV2V --depth-root ~/OPV2V_depth --workers 8 --json report.json",
        run_check,
    )
    options.add_tree_options(parser)
    options.add_workers(parser)
    parser.add_argument("--max-scenes", type=int, help="check only so many frames")
    options.add_json(parser)
    parser.add_argument("--show", type=int, default=50, help="problems to print; the JSON report has all")
    parser.add_argument("--cameras", type=int, default=4, help="cameras that every agent must have")
    parser.add_argument("--need-depth", action="store_true", help="every image must have a depth map")
    parser.add_argument("--no-lidar", action="store_true", help="agents need not have a LiDAR sweep")


def run_check(args: argparse.Namespace) -> int:
    """Check a tree; 1 if anything is wrong."""
    from mapanything_opv2v import checks, jobs
    from mapanything_opv2v.rawdata import exclude

    rules, args.exclude = exclude.parse(args.exclude), []  # a check reads everything, and says what is known
    index = options.tree_index(args)
    rig = bool(index.rig_cameras)  # a rig has the cameras that it states, no sweeps, and its origin where it likes
    wanted = checks.CheckOptions(
        need_depth=args.need_depth, need_lidar=not (args.no_lidar or rig), cameras=0 if rig else args.cameras
    )
    if rig:
        wanted = replace(wanted, lidar_height_m=None)
    with jobs.place(args.workers, args.scheduler) as place:
        report = checks.check_tree(
            index,
            wanted,
            max_scenes=options.positive(args.max_scenes, "--max-scenes"),
            workers=place.workers,
            executor=place.executor,
            progress=not args.quiet,
            rules=rules,
        )
    if not options.put_json(args, report.to_json()):
        _print_report(report, args.show)
    return FAILED if report.problems else DONE


def _print_report(report: CheckReport, show: int) -> None:
    for problem in report.problems[:show]:
        print(f"{problem} ({problem.file})")
    if len(report.problems) > show:
        print(f"... and {len(report.problems) - show} more; --json FILE has all of them")
    for split, agents in report.agents_per_frame.items():
        counts = ", ".join(f"{count} x {number}" for number, count in agents.items())
        views = ", ".join(f"{count} x {number}" for number, count in report.cameras_per_frame[split].items())
        print(f"{split}: frames x agents {counts}; frames x views {views}")
    for split, seen in report.depth_coverage.items():
        print(
            f"{split}: depth on {seen['mean']:.1%} of the pixels "
            f"({seen['lowest']:.1%} to {seen['highest']:.1%}, {seen['maps']:.0f} maps)"
        )
    for split, pairs in report.overlap_agreement.items():
        text = ", ".join(f"{pair}: {value:.2f}" for pair, value in pairs.items())
        print(f"{split}: median correlation of cameras where they overlap {text}")
    for split, turns in report.camera_turn_deg.items():
        text = ", ".join(f"camera{camera}: {turn:+.1f}" for camera, turn in turns.items())
        print(f"{split}: median turn of cameras against their stated poses, degrees, by their overlaps {text}")
    for factor, number in report.image_scales.items():
        print(f"{number} images are {factor} times the size that their calibration is for; intrinsics are scaled")
    if report.max_position_error_m is not None:
        print(
            f"camera against LiDAR by the files' own extrinsic: at most {report.max_position_error_m:.4f} m, "
            f"{report.max_angle_error_deg:.4f} degrees"
        )
    for reason, number in Counter(problem.message.partition(" (known: ")[2][:-1] for problem in report.known).items():
        print(f"known, left out by default: {number} problems of {reason}")
    print(f"{report.scenes} scenes, {report.files} files read, {len(report.problems)} problems")


def _add_depth(commands: options.Commands) -> None:
    parser = options.add_command(
        commands,
        "depth",
        "project LiDAR sweeps into the cameras and write depth maps where the datasets look for them; "
        "maps that are there are kept",
        "mapanything-opv2v depth ~/OPV2V --out ~/OPV2V_depth --workers 8",
        run_depth,
    )
    options.add_tree_options(parser)
    options.add_workers(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DEPTH_ROOT", help="tree to write into")
    parser.add_argument("--sweeps", choices=("own", "all"), default="own", help="own sweep, or every agent's")
    parser.add_argument(
        "--hide-px", type=int, default=3, help="drop samples hidden by a nearer one so close; 0 keeps all"
    )
    parser.add_argument("--format", choices=("npy", "png"), default="npy", help="float metres, or 16 bits of 1/64 m")
    parser.add_argument("--overwrite", action="store_true", help="make maps again that are there")


def run_depth(args: argparse.Namespace) -> int:
    """Write depth maps from LiDAR; 1 if some could not be made."""
    from mapanything_opv2v import depth, jobs

    wanted = depth.DepthOptions(sweeps=args.sweeps, hide_px=args.hide_px, suffix=f".{args.format}")
    with jobs.place(args.workers, args.scheduler) as place:
        summary = depth.write_depths(
            options.tree_index(args),
            args.out,
            wanted,
            overwrite=args.overwrite,
            workers=place.workers,
            executor=place.executor,
            progress=not args.quiet,
        )
    options.print_failed(summary.failed)
    print(
        f"{summary.written} depth maps written ({summary.coverage:.2%} of their pixels known), "
        f"{summary.skipped} were there, {len(summary.failed)} agents failed"
    )
    return FAILED if summary.failed else DONE


def _add_synthetic(commands: options.Commands) -> None:
    parser = options.add_command(
        commands,
        "synthetic",
        "ray-cast synthetic towns in OPV2V's format, with dense depth",
        "mapanything-opv2v synthetic --out town --sequences 1 --frames 2 --agents 3 --statistics",
        run_synthetic,
        aliases=("town",),
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--depth-root", type=Path, help="tree for the depth maps, if not in OUT itself")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another town")
    parser.add_argument("--sequences", type=int, default=1, help="sequences in each split, a town each")
    parser.add_argument("--frames", type=int, default=2, help="frames in each sequence")
    parser.add_argument("--agents", type=int, default=2, help="vehicles with sensors")
    parser.add_argument("--infrastructure", type=int, default=0, help="masts with sensors (negative ids)")
    parser.add_argument(
        "--layout",
        choices=("streets", "crossing"),
        default="streets",
        help="streets: every town is drawn anew; crossing: always the same two streets, vehicles along them",
    )
    parser.add_argument(
        "--fewest-agents", type=int, metavar="N", help="each town has N to --agents vehicles with sensors"
    )
    parser.add_argument("--frame-seconds", type=float, default=0.1, help="between two frames")
    parser.add_argument(
        "--statistics",
        action="store_true",
        help="print distances, headings and overlap of the written agents, beside OPV2V's where these are known",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes of this machine")
    options.add_quiet(parser)
    parser.add_argument("--splits", nargs="+", default=["train"], metavar="SPLIT", help="splits to write")
    parser.add_argument(
        "--image-size", nargs=2, type=int, default=(800, 600), metavar=("WIDTH", "HEIGHT"), help="pixels"
    )


def run_synthetic(args: argparse.Namespace) -> int:
    """Write a synthetic town."""
    from mapanything_opv2v import rawdata, synthetic

    truth = synthetic.write_town(
        args.out,
        seed=args.seed,
        sequences=args.sequences,
        frames=args.frames,
        agents=args.agents,
        infrastructure=args.infrastructure,
        splits=args.splits,
        depth_root=args.depth_root,
        image_size=tuple(args.image_size),
        layout=args.layout,
        fewest_agents=args.fewest_agents,
        frame_seconds=args.frame_seconds,
        workers=args.workers,
        progress=not args.quiet,
    )
    print(f"{truth.root}: {', '.join(truth.splits)}, agents {', '.join(map(str, truth.agents))}")
    if args.statistics:
        from mapanything_opv2v.synthetic import statistics

        index = rawdata.index_tree(truth.root, depth_root=truth.depth_root)
        for line in statistics.lines(statistics.of_tree(index, workers=args.workers, progress=not args.quiet)):
            print(line)
    return DONE
