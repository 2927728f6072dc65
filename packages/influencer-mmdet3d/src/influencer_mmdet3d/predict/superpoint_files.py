"""`superpoints`: cut point clouds into superpoints and write them in the host's format."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from influencer_mmdet3d.data.clouds import UNITS, read_cloud
from influencer_mmdet3d.files import write_whole
from influencer_mmdet3d.predict.superpoints import LEAST, METHODS, K, superpoints
from influencer_mmdet3d.terminal import DONE, progress

DESCRIPTION = """Cut point clouds into superpoints, which ScanNet-like models need for training and prediction: by the
mesh where a cloud has faces, else by a graph of nearest neighbours. DIR gets NAME.bin for each cloud: int64, one number
a point in the order of the file, as the host's super_points folder holds it. Clouds that are done are left."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``superpoints``."""
    parser.description = DESCRIPTION
    parser.add_argument("clouds", nargs="+", type=Path, metavar="CLOUD", help="point clouds of any known format")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--method", choices=METHODS, default="auto", help="auto: mesh where there are faces, else graph (default)"
    )
    parser.add_argument("--k", type=float, default=K, help=f"the larger, the larger the superpoints (default {K:g})")
    parser.add_argument("--least", type=int, default=LEAST, help=f"points of the smallest superpoint (default {LEAST})")
    parser.add_argument("--unit", choices=["auto", *UNITS], default="auto", help="of the coordinates (default: auto)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write a file for each cloud that has none."""
    if args.k <= 0 or args.least < 1:
        raise ValueError(f"--k must be above 0 and --least at least 1, got {args.k:g} and {args.least}")
    names = [path.stem for path in args.clouds]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two clouds are called {twice[0]}; their names must differ")
    for path in progress(args.clouds, description="superpoints", unit="cloud", quiet=args.quiet):
        target = args.out / f"{path.stem}.bin"
        if target.is_file():
            if not args.quiet:
                print(f"{target}: there already, left")
            continue
        cloud = read_cloud(path, args.unit)
        if args.method == "mesh" and cloud.faces is None:
            raise ValueError(f"--method mesh: {path} has no faces; take --method graph")
        faces = None if args.method == "graph" else cloud.faces
        labels = superpoints(cloud.centred()[0][:, :3], faces, k=args.k, least=args.least)
        write_whole(target, labels.astype("<i8").tobytes())
        if not args.quiet:
            kind = "graph" if faces is None else "mesh"
            count, sizes = int(labels.max()) + 1, np.bincount(labels)
            print(
                f"{target}: {len(labels):,} points, {count:,} superpoints by {kind}, median {np.median(sizes):g} points"
            )
    return DONE
