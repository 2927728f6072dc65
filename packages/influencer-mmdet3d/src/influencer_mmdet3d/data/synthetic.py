"""Write synthetic rooms in the on-disk formats that OneFormer3D's S3DIS and ScanNet datasets read.

Both are mmdet3d 1.x layouts: raw little-endian ``.bin`` files (float32 points of six columns,
int64 masks) in one folder per kind, and pickled infos ``{'metainfo': ..., 'data_list': [...]}``
that name the files. Every room has a random generator of its own, seeded from (seed, area or
split, number), so a room stays the same whatever else is written.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.rooms import CLASSES, Room, make_room
from influencer_mmdet3d.files import filling, is_unfinished, write_whole
from influencer_mmdet3d.terminal import DONE, progress

__all__ = ["CLASSES", "SCANNET_IDS", "Room", "make_room", "write_s3dis", "write_scannet"]

FURNITURE = ("table", "chair", "sofa", "bookcase", "board")
"""Classes that the infos list as boxes; in training the host drops a room without any box."""

SCANNET_IDS = {
    "ceiling": 22, "floor": 2, "wall": 1, "beam": 38, "column": 38, "window": 9, "door": 8,
    "table": 7, "chair": 5, "sofa": 6, "bookcase": 10, "board": 11, "clutter": 39,
}  # fmt: skip
"""NYU40 id of each room class; 22 and 38 are outside ScanNet's 20 classes, the host ignores them."""


def write_s3dis(
    root: Path,
    *,
    areas: Sequence[int],
    rooms_per_area: int,
    seed: int,
    points_per_room: int = 60_000,
    objects: tuple[int, int] = (10, 60),
    layout: str = "spread",
    quiet: bool = False,
) -> list[Path]:
    """Write rooms as ``points/``, ``instance_mask/``, ``semantic_mask/`` and one infos file per area.

    Parameters
    ----------
    root : Path
        Folder to write into; made if absent.
    areas : sequence of int
        Area numbers, 1 to 6 in S3DIS.
    rooms_per_area : int
        Number of rooms in every area.
    seed : int
        Seed of the whole set; a room depends on (seed, area, its number) only.
    points_per_room, objects, layout
        See `make_room`.
    quiet : bool
        Show no progress.

    Returns
    -------
    list of Path
        The infos files ``s3dis_infos_Area_<area>.pkl``, in the order of `areas`.

    Raises
    ------
    ValueError
        If `areas` is empty or repeats an area, `rooms_per_area` is not positive, or `make_room` refuses.
    """
    if not areas or len(set(areas)) != len(areas):
        raise ValueError(f"areas must name at least one area and none twice, got {list(areas)}")
    if rooms_per_area < 1:
        raise ValueError(f"rooms_per_area must be at least 1, got {rooms_per_area}")
    written = []
    with progress(description="synthetic rooms", unit="room", total=len(areas) * rooms_per_area, quiet=quiet) as bar:
        for area in areas:
            data_list = []
            for number in range(rooms_per_area):
                rng = _generator(seed, 0, area, number)
                room = make_room(rng, points=points_per_room, objects=objects, layout=layout)
                name = f"Area_{area}_room_{number + 1}.bin"
                _write_room(root, name, room, room.semantic, room.instance)
                data_list.append({"sample_idx": number, **_info(name, room, FURNITURE)})
                bar.update()
            written.append(_write_infos(root / f"s3dis_infos_Area_{area}.pkl", "s3dis", FURNITURE, data_list))
    return written


def write_scannet(
    root: Path,
    *,
    scenes: Mapping[str, int],
    seed: int,
    points_per_scene: int = 40_000,
    objects: tuple[int, int] = (10, 40),
    layout: str = "spread",
    unlabelled: float = 0.02,
    superpoint_size: float = 0.3,
    quiet: bool = False,
) -> list[Path]:
    """Write rooms with superpoints as ``points/``, ``super_points/``, two masks and one infos file per split.

    Parameters
    ----------
    root : Path
        Folder to write into; made if absent.
    scenes : mapping of str to int
        Number of scenes of each split, for instance ``{'train': 4, 'val': 2}``.
    seed : int
        Seed of the whole set; a scene depends on (seed, split, its number) only.
    points_per_scene, objects, layout, superpoint_size
        See `make_room`.
    unlabelled : float
        Share of superpoints that lose their label (semantic and instance 0), as in ScanNet.
    quiet : bool
        Show no progress.

    Returns
    -------
    list of Path
        The infos files ``scannet_oneformer3d_infos_<split>.pkl``, in the order of `scenes`.

    Raises
    ------
    ValueError
        If a split is not train or val, a number is not positive, or `make_room` refuses.
    """
    splits = ("train", "val")
    if not scenes:
        raise ValueError(f"scenes is empty: name at least one of {splits} with its number of scenes")
    for split, count in scenes.items():
        if split not in splits or count < 1:
            raise ValueError(f"scenes maps {splits} to a positive number of scenes, got {dict(scenes)}")
    if not 0 <= unlabelled < 1:
        raise ValueError(f"unlabelled is a share within 0 and 1, got {unlabelled}")
    ids = np.array([SCANNET_IDS[name] for name in CLASSES], dtype=np.int64)
    written = []
    with progress(description="synthetic scenes", unit="scene", total=sum(scenes.values()), quiet=quiet) as bar:
        for split, count in scenes.items():
            data_list = []
            for number in range(count):
                rng = _generator(seed, 1, splits.index(split), number)
                room = make_room(
                    rng, points=points_per_scene, objects=objects, layout=layout, superpoint_size=superpoint_size
                )
                keep = (rng.random(room.superpoint.max() + 1) >= unlabelled)[room.superpoint]
                name = f"scene{number:04d}_{splits.index(split):02d}.bin"
                semantic, instance = ids[room.semantic] * keep, room.instance * keep
                _write_room(root, name, room, semantic, instance, superpoints=True)
                extra = {"axis_align_matrix": np.eye(4).tolist(), "super_pts_path": name}
                data_list.append({**_info(name, room, ()), **extra})
                bar.update()
            path = root / f"scannet_oneformer3d_infos_{split}.pkl"
            written.append(_write_infos(path, "scannet", (), data_list))
    return written


def _write_infos(path: Path, dataset: str, boxed: Sequence[str], data_list: list[dict[str, Any]]) -> Path:
    """Write an infos file; `boxed` are the classes that `bbox_label_3d` counts."""
    metainfo = {
        "categories": {name: label for label, name in enumerate(boxed)},
        "dataset": dataset,
        "info_version": "1.1",
    }
    write_whole(path, pickle.dumps({"metainfo": metainfo, "data_list": data_list}, protocol=4))
    return path


def _generator(seed: int, kind: int, group: int, number: int) -> np.random.Generator:
    """Return the generator of one room; `kind` keeps S3DIS rooms and ScanNet scenes apart."""
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, group, number)))


def _info(name: str, room: Room, boxed: Sequence[str]) -> dict[str, Any]:
    """Return the infos entry of one room, with an axis-aligned box for every instance of `boxed` classes."""
    instances = []
    for instance in np.unique(room.instance):
        of_instance = room.instance == instance
        class_name = CLASSES[room.semantic[of_instance][0]]
        if class_name in boxed:
            xyz = room.points[of_instance, :3].astype(np.float64)
            low, high = xyz.min(0), xyz.max(0)
            corners = [*((low + high) / 2).tolist(), *(high - low).tolist()]
            instances.append({"bbox_3d": corners, "bbox_label_3d": boxed.index(class_name)})
    return {
        "lidar_points": {"num_pts_feats": 6, "lidar_path": name},
        "instances": instances,
        "pts_semantic_mask_path": name,
        "pts_instance_mask_path": name,
    }


def _write_room(
    root: Path,
    name: str,
    room: Room,
    semantic: npt.NDArray[np.int64],
    instance: npt.NDArray[np.int64],
    *,
    superpoints: bool = False,
) -> None:
    """Write the files of one room into their folders."""
    write_whole(root / "points" / name, room.points.astype("<f4").tobytes())
    write_whole(root / "semantic_mask" / name, semantic.astype("<i8").tobytes())
    write_whole(root / "instance_mask" / name, instance.astype("<i8").tobytes())
    if superpoints:
        write_whole(root / "super_points" / name, room.superpoint.astype("<i8").tobytes())


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
    parser.add_argument("--quiet", action="store_true", help="show no progress, print no file names")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the rooms and print the infos files."""
    root = args.root
    taken = root.exists() and (not root.is_dir() or any(root.iterdir()))
    if taken and not is_unfinished(root):
        raise ValueError(f"{root} exists and is not an empty folder: synthetic rooms never mix with other data")
    chosen = {name: getattr(args, name) for name in ("format", "rooms", "points", "objects", "layout", "seed")}
    with filling(root, chosen):  # a run that was killed goes on: every room is written again, as it was
        written = _write(args)
    if not args.quiet:
        print(*written, sep="\n")
    return DONE


def _write(args: argparse.Namespace) -> list[Path]:
    objects = (args.objects[0], args.objects[1])
    if args.format == "s3dis":
        return write_s3dis(
            args.root,
            areas=range(1, 7),
            rooms_per_area=args.rooms,
            seed=args.seed,
            points_per_room=args.points,
            objects=objects,
            layout=args.layout,
            quiet=args.quiet,
        )
    return write_scannet(
        args.root,
        scenes={"train": args.rooms, "val": args.rooms},
        seed=args.seed,
        points_per_scene=args.points,
        objects=objects,
        layout=args.layout,
        quiet=args.quiet,
    )
