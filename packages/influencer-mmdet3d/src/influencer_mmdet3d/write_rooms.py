"""`synthetic`: write synthetic rooms in the host's on-disk format, to try everything without a download."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `synthetic`."""
    parser.add_argument("root", type=Path, help="folder to write, e.g. data/s3dis; must be empty or absent")
    parser.add_argument("--format", choices=("s3dis", "scannet"), default="s3dis")
    parser.add_argument(
        "--rooms", type=int, default=2, help="rooms in each area, or scenes in each split (default: %(default)s)"
    )
    parser.add_argument("--points", type=int, default=60_000, help="points in each room (default: %(default)s)")
    parser.add_argument(
        "--objects",
        type=int,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=(10, 40),
        help="objects in each room beside floor, ceiling and walls (default: 10 40)",
    )
    parser.add_argument("--layout", choices=("spread", "crowded"), default="spread", help="crowded: touching chairs")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the rooms and print the infos files."""
    from influencer_mmdet3d.synthetic import write_s3dis, write_scannet

    if args.root.exists() and (not args.root.is_dir() or any(args.root.iterdir())):
        raise ValueError(f"{args.root} exists and is not an empty folder: synthetic rooms never mix with other data")
    objects = (args.objects[0], args.objects[1])
    if args.format == "s3dis":
        written = write_s3dis(
            args.root,
            areas=range(1, 7),
            rooms_per_area=args.rooms,
            seed=args.seed,
            points_per_room=args.points,
            objects=objects,
            layout=args.layout,
        )
    else:
        written = write_scannet(
            args.root,
            scenes={"train": args.rooms, "val": args.rooms},
            seed=args.seed,
            points_per_scene=args.points,
            objects=objects,
            layout=args.layout,
        )
    for path in written:
        print(path)
    return 0
