"""ScanNet++'s layout: DSLR or iPhone frames, and a mesh whose segments are annotated.

Names and conventions are those of the data set's own tools: `<id>/scans/` has `mesh_aligned_0.05.ply`, `segments.json`
and `segments_anno.json`; `<id>/dslr/` has `resized_images/` and `colmap/`; `<id>/iphone/` has `rgb/frame_000000.jpg`,
`depth/frame_000000.png` (millimetres), `colmap/` and `pose_intrinsic_imu.json`. COLMAP's text files have the poses in
the mesh's frame, world to camera (OpenCV's axes), and the lens: DSLR frames are fisheye, and are straightened as the
tools do it (OpenCV's fisheye, balance 0). `nerfstudio/transforms.json` has OpenGL poses in a turned world: it is not
read. Without depth pictures the depth comes from the mesh.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from roborefer_spatial import files
from roborefer_spatial.importing.lenses import BENT, Lens, scaled, straight_k
from roborefer_spatial.importing.ply import read_faces, read_vertices
from roborefer_spatial.importing.recording import Floats, Frame, Recording
from roborefer_spatial.importing.surface import Surface

KINDS = {"scannetpp-dslr": ("dslr", "resized_images"), "scannetpp-iphone": ("iphone", "rgb")}
MESH, SEGMENTS, ANNOTATION = "mesh_aligned_0.05.ply", "segments.json", "segments_anno.json"
_DEPTH = ("depth", "render_depth")


def kinds_of(folder: Path) -> list[tuple[Path, str]]:
    """Return (scene folder, layout) of the recordings of a ScanNet++ scene, or of its `dslr` or `iphone` folder."""
    if folder.name in ("dslr", "iphone") and (folder.parent / "scans" / MESH).is_file():
        wanted = f"scannetpp-{folder.name}"
        return [found for found in kinds_of(folder.parent) if found[1] == wanted]
    if not (folder / "scans" / MESH).is_file():
        return []
    return [(folder, layout) for layout, (device, pictures) in KINDS.items() if (folder / device / pictures).is_dir()]


def load(folder: Path, layout: str, instances: str) -> Recording:
    """Return the recording of one device of a scene folder.

    Raises
    ------
    ValueError
        Poses, lens or annotation cannot be read.
    """
    device, pictures = KINDS[layout]
    place = folder / device
    shots = list(_colmap_shots(place) if (place / "colmap" / "images.txt").is_file() else _arkit_shots(place))
    there = [(shot, path) for shot in shots if (path := place / pictures / shot.name).is_file()]
    if not there:
        raise ValueError(f"{place / pictures}: no picture of those that have poses ({len(shots)})")
    with Image.open(there[0][1]) as picture:
        size_wh = picture.size
    k = np.median([scaled(shot.k_straight, shot.size_wh, size_wh) for shot, _ in there], axis=0)
    depth_wh, frames = size_wh, []
    for shot, path in sorted(there, key=lambda found: found[0].number):
        depth = next((one for name in _DEPTH if (one := place / name / f"{path.stem}.png").is_file()), None)
        lens = Lens(shot.model, size_wh, scaled(shot.k, shot.size_wh, size_wh), k, shot.bend)
        frames.append(Frame(f"{shot.number:06d}", path, depth, shot.pose, lens=lens))
    with_depth = [frame for frame in frames if frame.depth is not None]
    if with_depth:  # one grid for all: frames without depth are left out
        frames = with_depth
        with Image.open(frames[0].depth) as picture:  # type: ignore[arg-type]
            depth_wh = picture.size
    surface = _surface(folder / "scans", labelled=instances in ("auto", "mesh"))
    return Recording(f"{folder.name}_{device}", folder.name, tuple(frames), k, scaled(k, size_wh, depth_wh),
                     surface=surface)  # fmt: skip


@dataclass(frozen=True)
class _Shot:
    """A frame's name and number, T_world_cam, and its camera for pictures of `size_wh`."""

    name: str
    number: int
    pose: Floats
    model: str
    size_wh: tuple[int, int]
    k: Floats
    k_straight: Floats
    bend: tuple[float, ...]


def _number(name: str) -> int:
    digits = re.findall(r"\d+", Path(name).stem)
    if not digits:
        raise ValueError(f"frame {name!r} has no number in its name")
    return int(digits[-1])


def _colmap_shots(place: Path) -> Iterator[_Shot]:
    """Read COLMAP's `cameras.txt` and `images.txt`."""
    cameras = {}
    path = place / "colmap" / "cameras.txt"
    for words in _rows(path):
        model, size_wh, numbers = words[1], (int(words[2]), int(words[3])), [float(word) for word in words[4:]]
        if model not in BENT:
            raise ValueError(f"{path}: camera model {model}, expected one of {', '.join(BENT)}")
        simple = model == "SIMPLE_PINHOLE"
        fx, fy, cx, cy = (numbers[0], numbers[0], *numbers[1:3]) if simple else numbers[:4]
        k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        bend = tuple(numbers[4 : 4 + BENT[model]])
        cameras[words[0]] = (model, size_wh, k, straight_k(model, k, bend, size_wh), bend)
    path = place / "colmap" / "images.txt"
    for words in _rows(path)[::2]:  # every second line has the points of the line before
        if len(words) < 10 or words[8] not in cameras:
            raise ValueError(f"{path}: {' '.join(words)[:60]!r} is no image with one of the cameras of cameras.txt")
        to_camera: Floats = np.eye(4)
        to_camera[:3, :3], to_camera[:3, 3] = _turn([float(word) for word in words[1:5]]), list(map(float, words[5:8]))
        name = Path(" ".join(words[9:])).name
        yield _Shot(name, _number(name), np.asarray(np.linalg.inv(to_camera), np.float64), *cameras[words[8]])


def _rows(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    return [line.split() for line in lines if not line.startswith("#")]


def _turn(quaternion: list[float]) -> Floats:
    """Return the rotation (3, 3) of a quaternion w, x, y, z."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _arkit_shots(place: Path) -> Iterator[_Shot]:
    """Read `pose_intrinsic_imu.json`: camera to world in the mesh's frame (`aligned_pose`), a camera for each frame."""
    path = place / "pose_intrinsic_imu.json"
    if not path.is_file():
        raise ValueError(
            f"{place}: no colmap/images.txt{'' if place.name == 'dslr' else ' and no pose_intrinsic_imu.json'}. "
            "nerfstudio/transforms.json is not read: its poses are not in the mesh's frame"
        )
    for name, row in files.read_json_object(path).items():
        try:
            pose, k = np.array(row["aligned_pose"], float), np.array(row["intrinsic"], float)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name} lacks a 4x4 aligned_pose or a 3x3 intrinsic") from error
        if pose.size == 16 and k.size == 9 and np.isfinite(pose).all():
            size_wh = (1920, 1440)  # of the video, which the numbers are for
            yield _Shot(f"{name}.jpg", _number(name), pose.reshape(4, 4), "PINHOLE", size_wh, k.reshape(3, 3),
                        k.reshape(3, 3), ())  # fmt: skip


def _surface(folder: Path, *, labelled: bool) -> Surface:
    """Return the mesh, with the objects of its annotation where that is there."""
    xyz, faces = read_vertices(folder / MESH), read_faces(folder / MESH)
    label = np.zeros(len(xyz), np.int64)
    if labelled and (folder / ANNOTATION).is_file() and (folder / SEGMENTS).is_file():
        segment_of = np.asarray(files.read_json_object(folder / SEGMENTS)["segIndices"], np.int64)
        if len(segment_of) != len(xyz):
            raise ValueError(f"{folder / SEGMENTS}: {len(segment_of)} vertices, {MESH} has {len(xyz)}")
        for group in files.read_json_object(folder / ANNOTATION)["segGroups"]:
            label[np.isin(segment_of, np.asarray(group["segments"], np.int64))] = int(group["objectId"])
    of_face = label[faces]
    # two corners of three decide; where all differ, the first
    return Surface(xyz, faces, np.where(of_face[:, 1] == of_face[:, 2], of_face[:, 1], of_face[:, 0]))
