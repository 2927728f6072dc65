"""Defects of a prepared dataset, each made from good files; shared by the tests with and without the real host."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet


@dataclass
class Scene:
    """The one scene of a dataset, open for damage."""

    root: Path
    infos: Any
    points: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray
    superpoint: np.ndarray | None

    @property
    def info(self) -> dict[str, Any]:
        return self.infos["data_list"][0]


def write(root: Path, kind: str, damage: Callable[[Scene], None]) -> Path:
    """Write a dataset of one scene, damaged; return its infos file."""
    size = {"seed": 0, "objects": (10, 11)}
    if kind == "s3dis":
        (path,) = write_s3dis(root, areas=[1], rooms_per_area=1, points_per_room=3_000, **size)
    else:
        (path,) = write_scannet(root, scenes={"train": 1}, points_per_scene=3_000, **size)
        pickled = path.read_bytes()
        path.with_name("scannet_oneformer3d_infos_val.pkl").write_bytes(pickled)
    infos = pickle.loads(path.read_bytes())
    name = infos["data_list"][0]["lidar_points"]["lidar_path"]
    files = {folder: root / folder / name for folder in ("points", "semantic_mask", "instance_mask", "super_points")}
    scene = Scene(
        root,
        infos,
        np.fromfile(files["points"], np.float32).reshape(-1, 6),
        np.fromfile(files["semantic_mask"], np.int64),
        np.fromfile(files["instance_mask"], np.int64),
        np.fromfile(files["super_points"], np.int64) if kind == "scannet" else None,
    )
    damage(scene)
    path.write_bytes(pickle.dumps(scene.infos, protocol=4))
    arrays = [scene.points, scene.semantic, scene.instance, scene.superpoint]
    for file, array in zip(files.values(), arrays):
        if array is not None:
            array.tofile(file)
    return path


def _set(name: str, change: Callable[[np.ndarray, Scene], Any]) -> Callable[[Scene], None]:
    def damage(scene: Scene) -> None:
        setattr(scene, name, change(getattr(scene, name).copy(), scene))

    return damage


def _where(name: str, rows: Callable[[Scene], Any], value: int) -> Callable[[Scene], None]:
    def change(values: np.ndarray, scene: Scene) -> np.ndarray:
        values[rows(scene)] = value
        return values

    return _set(name, change)


def _info(change: Callable[[dict[str, Any]], Any]) -> Callable[[Scene], None]:
    return lambda scene: change(scene.info) and None


def _smallest(scene: Scene) -> np.ndarray:
    """The points of the smallest object that every form of the dataset calls a chair or a table."""
    ids = np.unique(scene.instance[np.isin(scene.semantic, [5, 7, 8])])
    return scene.instance == min(ids[ids > 0], key=lambda name: (scene.instance == name).sum())


def _swallowed(ids: np.ndarray, scene: Scene) -> np.ndarray:
    """All walls become one superpoint, which takes the smallest object too."""
    rows = _smallest(scene) | (scene.semantic == 1)
    return np.unique(np.where(rows, ids.max() + 1, ids), return_inverse=True)[1]


def _truncated(name: str) -> Callable[[Scene], None]:
    return _set(name, lambda values, _: values[:-10])


def _nan(points: np.ndarray, _: Scene) -> np.ndarray:
    points[5, 0] = np.nan
    return points


def _empty(scene: Scene) -> None:
    scene.points, scene.semantic, scene.instance = scene.points[:0], scene.semantic[:0], scene.instance[:0]


def _both_int32(scene: Scene) -> None:
    scene.semantic, scene.instance = scene.semantic.astype(np.int32), scene.instance.astype(np.int32)


FIRST = slice(0, 50)
STOPS = "stops"  # training or evaluation raises
DROPS = "drops"  # training never sees the scene
TRAINS = "trains"  # nothing raises, the result is worse

S3DIS: dict[str, tuple[Callable[[Scene], None], str, str, str]] = {
    # name: damage, code of the finding, what its message says, what the host does
    "label 13": (_where("semantic", _smallest, 13), "label-range", r"outside 0 to 12: 13 \(\d+ points\)", STOPS),
    "label 14": (_where("semantic", _smallest, 14), "label-range", "outside 0 to 12: 14", STOPS),
    "label -1": (_where("semantic", _smallest, -1), "label-range", "outside 0 to 12: -1", STOPS),
    "id -1 on two classes": (_where("instance", lambda _: FIRST, -1), "mixed-classes", "id -1: ", STOPS),
    "id -7": (_where("instance", _smallest, -7), "instance-id", r"id -7 \(\d+ points\)", TRAINS),
    "id 1e11": (_where("instance", _smallest, 10**11), "instance-id", "id 100000000000: the host allocates", STOPS),
    "mixed instance": (
        _where("semantic", lambda _: FIRST, 8), "mixed-classes", r"instances have points of several classes \(id ",
        STOPS,
    ),
    "3000 instances": (
        _set("instance", lambda values, _: np.arange(len(values))), "too-many-instances", "3000 instances", STOPS,
    ),
    "instance of one point": (
        _where("instance", lambda _: slice(0, 1), 99), "one-point-instance", r"1 instances of one point \(ids 99\)",
        TRAINS,
    ),
    "no boxes": (_info(lambda info: info.update(instances=[])), "no-boxes", "drops the scene silently", DROPS),
    "no instances": (_info(lambda info: info.pop("instances")), "info-key", "no list 'instances'", STOPS),
    "no features": (
        _info(lambda info: info["lidar_points"].pop("num_pts_feats")), "info-key", "no lidar_points.num_pts_feats",
        STOPS,
    ),
    "no mask path": (
        _info(lambda info: info.pop("pts_semantic_mask_path")), "info-key", "has no pts_semantic_mask_path", STOPS,
    ),
    "box label": (
        _info(lambda info: info["instances"][0].update(bbox_label_3d=20)), "box-label",
        r"instances\[0\].bbox_label_3d is 20, expected a whole number -1 to 12", STOPS,
    ),
    "box shape": (
        _info(lambda info: info["instances"][0].update(bbox_3d=[1.0, 2.0])), "box-shape",
        r"instances\[0\].bbox_3d is not six finite numbers", STOPS,
    ),
    "no scenes": (lambda scene: scene.infos.update(data_list=[]), "infos-empty", "names no scene", STOPS),
    "no metainfo": (lambda scene: scene.infos.pop("metainfo") and None, "infos-keys", "no dict 'metainfo'", STOPS),
    "old infos": (
        lambda scene: setattr(scene, "infos", {"data_list": scene.infos["data_list"]}["data_list"]), "infos-old",
        "is a list, the format of mmdet3d 0.x", STOPS,
    ),
    "box size": (
        _info(lambda info: info["instances"][0].update(bbox_3d=[10**400] * 6)), "box-shape",
        r"instances\[0\].bbox_3d is not six finite numbers", STOPS,
    ),
    "too long a name": (
        _info(lambda info: info["lidar_points"].update(lidar_path="x" * 5000)), "missing-file",
        r"points/x* does not exist", STOPS,
    ),
    "missing points": (
        _info(lambda info: info["lidar_points"].update(lidar_path="absent.bin")), "missing-file",
        "points/absent.bin does not exist", STOPS,
    ),
    "path with its folder": (
        _info(lambda info: info["lidar_points"].update(lidar_path="points/Area_1_room_1.bin")), "missing-file",
        "store the bare file name", STOPS,
    ),
    "nan": (_set("points", _nan), "not-finite", "1 points .* first at row 5", TRAINS),
    "no points": (_empty, "empty-file", "is empty; a scene needs points", STOPS),
    "short semantic mask": (
        _truncated("semantic"), "file-size", r"semantic_mask/\S+ has 23920 bytes; expected 24000", STOPS,
    ),
    "short instance mask": (_truncated("instance"), "file-size", r"instance_mask/\S+ has 23920 bytes", STOPS),
    "int32 instance mask": (
        _set("instance", lambda values, _: values.astype(np.int32)), "file-size",
        "instance_mask/.* looks like int32; expected 24000: 3000 int64 values", STOPS,
    ),
    "int32 masks": (_both_int32, "file-size", "has 12000 bytes, which looks like int32", STOPS),
    "float64 points": (
        _set("points", lambda points, _: points.astype(np.float64)), "file-size", "points/.* looks like float64",
        STOPS,
    ),
    "points without colour": (
        _set("points", lambda points, _: points[:, :3].copy()), "file-size", "looks like x y z without colour", TRAINS,
    ),
    "seven columns": (
        _set("points", lambda points, _: np.column_stack([points, points[:, :1]])), "file-size",
        "looks like seven columns", STOPS,
    ),
    "colours 0 to 1": (
        _set("points", lambda points, _: points / np.float32([1, 1, 1, 255, 255, 255])), "colour-range",
        "the host would see black only", TRAINS,
    ),
    "colours -1 to 1": (
        _set("points", lambda points, _: points / np.float32([1, 1, 1, 127.5, 127.5, 127.5]) - np.float32(
            [0, 0, 0, 1, 1, 1])), "colour-range", r"colours lie between -[01]\S* and \S+; expected 0 to 255$", TRAINS,
    ),
    "millimetres": (
        _set("points", lambda points, _: points * np.float32([1000, 1000, 1000, 1, 1, 1])), "extent",
        "are these millimetres", TRAINS,
    ),
}  # fmt: skip

SCANNET: dict[str, tuple[Callable[[Scene], None], str, str, str]] = {
    "label 42": (_where("semantic", _smallest, 42), "label-range", "outside -1 to 40: 42", STOPS),
    "label -2": (_where("semantic", _smallest, -2), "label-range", "outside -1 to 40: -2", TRAINS),
    "only things": (
        lambda scene: setattr(scene, "semantic", np.full_like(scene.semantic, 5)), "no-stuff",
        "no wall, floor or unlabelled point", STOPS,
    ),
    "only walls": (
        lambda scene: setattr(scene, "semantic", np.full_like(scene.semantic, 1)), "no-instances",
        "no point of an instance class", TRAINS,
    ),
    "id -7": (_where("instance", _smallest, -7), "instance-id", "id -7", STOPS),
    "mixed instance": (
        _where("semantic", lambda scene: np.flatnonzero(_smallest(scene))[:5], 9), "mixed-classes",
        r"1 instances have points of several classes \(id ", STOPS,
    ),
    "no superpoint path": (_info(lambda info: info.pop("super_pts_path")), "info-key", "has no super_pts_path", STOPS),
    "short superpoints": (_truncated("superpoint"), "file-size", r"super_points/\S+ has 23920 bytes", STOPS),
    "superpoints from -1": (_set("superpoint", lambda ids, _: ids - 1), "superpoint-id", "id -1: the host", STOPS),
    "superpoints from 1": (_set("superpoint", lambda ids, _: ids + 1), "superpoint-gaps", "expected 0 to", TRAINS),
    "superpoint gaps": (_set("superpoint", lambda ids, _: ids * 3), "superpoint-gaps", "expected 0 to", TRAINS),
    "superpoints of another scene": (
        _set("superpoint", lambda ids, _: np.random.default_rng(0).permutation(ids // 50)), "superpoint-mismatch",
        "of the points lie in a superpoint of mostly their own instance", TRAINS,
    ),
    "instance without superpoint": (
        _set("superpoint", _swallowed),
        "lost-instance", "are the majority of no superpoint", TRAINS,
    ),
}  # fmt: skip

ALL = [(kind, name) for kind, table in (("s3dis", S3DIS), ("scannet", SCANNET)) for name in table]
TABLES = {"s3dis": S3DIS, "scannet": SCANNET}
