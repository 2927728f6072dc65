"""`prepare`: labelled scans become a data folder in the host's S3DIS or ScanNet format, with its own classes.

Shape letters: ``N`` points.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.cloud_files import read_las
from influencer_mmdet3d.data.formats import CLASS_FILE, read_classes
from influencer_mmdet3d.files import foreign_content, read_record, write_whole
from influencer_mmdet3d.predict.superpoints import superpoints
from influencer_mmdet3d.terminal import DONE, progress

OTHER = "other"
GREY = 128
INFOS = "infos_{}.pkl"
SUPERPOINTS = "super_points"
SPLITS = ("train", "val")
EXAMPLE = "example: influencer-mmdet3d prepare scans/*.ply --classes names.txt --val scan_9 --out data/mine"


Rows = npt.NDArray[np.bool_]
GRAPH = "graph"
"""`--superpoints`: from the points alone, instead of a field or a folder."""


@dataclass(frozen=True)
class Scan:
    """A labelled scan as its file holds it."""

    xyz: npt.NDArray[np.float64]  # (N, 3)
    colour: npt.NDArray[np.float64] | None  # (N, 3), 0 to 255
    label: npt.NDArray[np.int64]  # (N,)
    instance: npt.NDArray[np.int64]  # (N,)
    superpoint: npt.NDArray[np.int64] | None = None  # (N,), of the field that was asked for


def read_scan(path: Path, label: str = "label", instance: str = "instance", superpoint: str | None = None) -> Scan:
    """Read a labelled .ply, .las, .laz or .npz.

    Parameters
    ----------
    path : Path
        A .ply whose vertices have x, y, z, perhaps red, green, blue, and two more properties; a .las or .laz with two
        more fields, its own (`classification`, ...) or extra ones; or a .npz with `points` (N, 3 or 6) and two more
        arrays.
    label, instance : str
        Names of these two.
    superpoint : str, optional
        Name of a third one.

    Raises
    ------
    ValueError
        If something is missing, of another length, or no such file.
    """
    reader = {".ply": _ply, ".npz": _npz, ".las": _las, ".laz": _las}.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: a scan is a .ply, .las, .laz or .npz with labels, got {path.suffix or 'no suffix'}")
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    if (foreign := foreign_content(path)) is not None:
        raise ValueError(f"{path} is {foreign}")
    columns = reader(path)
    fields = [label, instance, *filter(None, [superpoint])]
    missing = [name for name in ("points", *fields) if name not in columns]
    if missing:
        raise ValueError(
            f"{path} has no {' and no '.join(missing)}, it has {sorted(columns)}; --label and --instance name the "
            "fields that hold the class and the instance of each point"
        )
    points = np.asarray(columns["points"], np.float64)
    if points.ndim != 2 or points.shape[1] not in (3, 6) or not len(points):
        raise ValueError(f"{path}: points must be (N, 3) or (N, 6) with colours, got {points.shape}")
    ids = [_whole(path, name, columns[name], len(points)) for name in fields]
    if not np.isfinite(points).all():
        raise ValueError(f"{path}: {int((~np.isfinite(points)).any(1).sum())} points have values that are not finite")
    colour = points[:, 3:] if points.shape[1] == 6 else None
    if colour is not None and colour.max() <= 1 and colour.min() >= 0 and colour.any():
        colour = colour * 255
    if colour is not None and (colour.min() < 0 or colour.max() > 255):
        raise ValueError(
            f"{path}: colours lie between {colour.min():g} and {colour.max():g}, expected 0 to 255 or 0 to 1"
        )
    return Scan(points[:, :3], colour, *ids)


def _whole(path: Path, name: str, values: Any, count: int) -> npt.NDArray[np.int64]:
    values = np.asarray(values)
    if values.shape != (count,):
        raise ValueError(f"{path}: {name} must have shape ({count},), one for each point, got {values.shape}")
    whole = values.astype(np.int64)
    if not (whole == values).all():
        raise ValueError(f"{path}: {name} must hold whole numbers, got e.g. {values[whole != values][0]}")
    return whole


def _ply(path: Path) -> dict[str, Any]:
    try:
        from plyfile import PlyData, PlyParseError
    except ImportError as error:
        raise ValueError(
            f"reading {path.name} needs plyfile: pip install plyfile, or this package with its extra [scans]"
        ) from error
    try:
        vertex = PlyData.read(str(path))["vertex"]
    except (PlyParseError, KeyError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no readable .ply with vertices: {error}") from error
    columns = {name: np.asarray(vertex[name]) for name in vertex.data.dtype.names}
    names = ["x", "y", "z", *(("red", "green", "blue") if "red" in columns else ())]
    if all(name in columns for name in names):
        columns["points"] = np.stack([columns[name].astype(np.float64) for name in names], 1)
    return columns


def _las(path: Path) -> dict[str, Any]:
    read = read_las(path)
    columns: dict[str, Any] = dict(read.fields)
    xyz, colour = np.asarray(read.xyz, np.float64), read.colour
    if colour is not None and colour.any():  # files without colours have zeros
        colour = colour / 257 if colour.max() > 255 else colour  # two bytes, as the format says, or one as some write
        xyz = np.concatenate([xyz, colour], 1)
    columns["points"] = xyz
    return columns


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no readable .npz of plain arrays: {error}") from error


def to_scenes(
    scan: Scan, name: str, classes: int, unlabelled: Sequence[int], tile: float | None
) -> Iterator[tuple[str, npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64], Rows, list[float]]]:
    """Yield name, points (N, 6), labels, instances, rows and the offset that was subtracted, for each tile of a scan.

    Parameters
    ----------
    scan : Scan
        As read.
    name : str
        Of the scan, for names and messages.
    classes : int
        Number of classes; labels from 0. `unlabelled` values become the last one.
    unlabelled : sequence of int
        Labels of points that have no class.
    tile : float, optional
        Side of square tiles in metres; None for the whole scan in one.

    Raises
    ------
    ValueError
        If a label is neither that of a class nor unlabelled.
    """
    label = np.where(np.isin(scan.label, list(unlabelled)), classes - 1, scan.label) if unlabelled else scan.label
    wrong, counts = np.unique(label[(label < 0) | (label >= classes)], return_counts=True)
    if len(wrong):
        shown = ", ".join(f"{value} ({count} points)" for value, count in zip(wrong[:5], counts[:5]))
        raise ValueError(
            f"{name}: labels outside 0 to {classes - 1}: {shown}. The first class has label 0; points without a class "
            f"are named by --unlabelled, e.g. --unlabelled {wrong[0]}, and go to the class '{OTHER}'"
        )
    colour = np.full(scan.xyz.shape, GREY) if scan.colour is None else scan.colour
    cell = np.zeros((len(label), 2), np.int64)
    if tile is not None:
        cell = np.floor((scan.xyz[:, :2] - scan.xyz[:, :2].min(0)) / tile).astype(np.int64)
    for key in np.unique(cell, axis=0):
        rows = (cell == key).all(1)
        xyz = scan.xyz[rows]
        offset = np.floor([*((xyz[:, :2].min(0) + xyz[:, :2].max(0)) / 2), xyz[:, 2].min()])  # in float64
        points = np.concatenate([xyz - offset, colour[rows]], 1).astype(np.float32)
        # an instance has one class: points of another one, and those without an instance, are their own
        instance = np.unique(np.stack([scan.instance[rows], label[rows]]), axis=1, return_inverse=True)[1].reshape(-1)
        yield (
            (name if tile is None else f"{name}_{key[0]}_{key[1]}"),
            points,
            label[rows],
            instance,
            rows,
            offset.tolist(),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prepare``."""
    parser.epilog = EXAMPLE
    parser.add_argument("scans", nargs="+", type=Path, metavar="SCAN", help="labelled .ply, .las, .laz or .npz")
    parser.add_argument(
        "--classes", type=Path, required=True, metavar="FILE", help="names, one a line; the first has label 0"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="data folder to write")
    parser.add_argument("--val", nargs="+", required=True, metavar="NAME", help="scans to evaluate on, without suffix")
    parser.add_argument("--label", default="label", metavar="FIELD", help="field with the class (default: label)")
    parser.add_argument(
        "--instance", default="instance", metavar="FIELD", help="field with the instance (default: instance)"
    )
    parser.add_argument(
        "--unlabelled", nargs="+", type=int, default=[], metavar="LABEL",
        help=f"labels of points without a class; they go to a class '{OTHER}' at the end",
    )  # fmt: skip
    parser.add_argument(
        "--superpoints", metavar="WHAT",
        help="for models like ScanNet's: a field with the superpoint of each point, a folder that `superpoints` wrote, "
        f"or '{GRAPH}' to make them from nearest neighbours",
    )  # fmt: skip
    parser.add_argument("--tile", type=float, metavar="METRES", help="cut scans into square tiles of this side")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the data folder; scans that were written by an earlier call with the same options are left."""
    classes = read_classes(args.classes)
    if args.unlabelled and OTHER not in classes:
        classes.append(OTHER)
    elif args.unlabelled and classes[-1] != OTHER:
        raise ValueError(f"{args.classes}: '{OTHER}' must be the last class, where points without a class go")
    if args.tile is not None and not args.tile > 0:
        raise ValueError(f"--tile must be > 0 metres, got {args.tile}")
    names = [path.stem for path in args.scans]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two scans are called {twice[0]}; names must differ")
    unknown = [name for name in args.val if name not in names]
    if unknown or set(args.val) == set(names):
        raise ValueError(f"--val must name some but not all of the scans {names}, got {args.val}")
    entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for path in progress(args.scans, description="preparing scans", unit="scan", quiet=args.quiet):
        entries["val" if path.stem in args.val else "train"] += _scenes_of(path, args, classes)
    for split in SPLITS:
        for number, entry in enumerate(entries[split]):
            entry["sample_idx"] = number
        infos = {"metainfo": {"categories": {}, "dataset": "own", "info_version": "1.1"}, "data_list": entries[split]}
        write_whole(args.out / INFOS.format(split), pickle.dumps(infos, protocol=4))
    write_whole(args.out / CLASS_FILE, "\n".join(classes) + "\n")
    if not args.quiet:
        counts = " and ".join(f"{len(entries[split])} scenes to {split} on" for split in SPLITS)
        print(f"wrote {args.out}: {len(classes)} classes, {counts.replace('val', 'evaluate')}")
    return DONE


def _scenes_of(path: Path, args: argparse.Namespace, classes: list[str]) -> list[dict[str, Any]]:
    """Write a scan's scenes, unless they are there, and return their entries of the infos file."""
    stat = path.stat() if path.is_file() else None
    key = [str(path.resolve()), stat and stat.st_size, stat and stat.st_mtime_ns, classes, args.label, args.instance,
           args.unlabelled, args.tile, args.superpoints]  # fmt: skip
    record = args.out / "scans" / f"{path.stem}.json"
    if record.is_file():
        known = read_record(record, ("key", "entries"))
        if known["key"] == key:
            return list(known["entries"])
    folder = Path(args.superpoints) if args.superpoints and Path(args.superpoints).is_dir() else None
    field = args.superpoints if folder is None and args.superpoints != GRAPH else None
    scan = read_scan(path, args.label, args.instance, field)
    whole = scan.superpoint if folder is None else _superpoints_of(folder / f"{path.stem}.bin", len(scan.label))
    if scan.colour is None and not args.quiet:
        print(f"note: {path} has no colours, grey is taken")
    entries, offsets = [], {}
    scenes = to_scenes(scan, path.stem, len(classes), args.unlabelled, args.tile)
    for name, points, label, instance, rows, offset in scenes:
        files = {"points": points.astype("<f4"), "semantic_mask": label.astype("<i8")}
        files["instance_mask"] = instance.astype("<i8")
        if args.superpoints:
            pieces = superpoints(points[:, :3]) if whole is None else np.unique(whole[rows], return_inverse=True)[1]
            files[SUPERPOINTS] = pieces.reshape(-1).astype("<i8")
        for kind, data in files.items():
            write_whole(args.out / kind / f"{name}.bin", data.tobytes())
        low, high = points[:, :3].min(0), points[:, :3].max(0)
        box = {"bbox_3d": [*((low + high) / 2).tolist(), *(high - low).tolist()], "bbox_label_3d": 0}
        entries.append(
            {
                "lidar_points": {"num_pts_feats": 6, "lidar_path": f"{name}.bin"},
                "pts_semantic_mask_path": f"{name}.bin",
                "pts_instance_mask_path": f"{name}.bin",
                "instances": [box],  # never trained on, but the host drops a scene that has no box at all
                **({"super_pts_path": f"{name}.bin"} if args.superpoints else {}),
            }
        )
        offsets[name] = offset
    write_whole(record, json.dumps({"key": key, "offsets": offsets, "entries": entries}, indent=1))
    return entries


def _superpoints_of(path: Path, points: int) -> npt.NDArray[np.int64]:
    """Read what the command `superpoints` wrote for a scan."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist: `influencer-mmdet3d superpoints SCAN --out {path.parent}` writes it")
    if path.stat().st_size != 8 * points:
        raise ValueError(
            f"{path} has {path.stat().st_size / 8:g} superpoints for the {points} points of its scan: it is of another"
        )
    return np.fromfile(path, "<i8")
