"""Published layouts of recordings: ScanNet's, 7-Scenes' plain folder, and ScanNet++'s (`scannetpp`).

Names follow the data sets' own code and documents: ScanNet's SensReader writes `color/ depth/ pose/ intrinsic/`, its
annotations are `*.aggregation.json` over `*.segs.json` on the vertices of `*_vh_clean_2.ply`, or pictures in
`instance-filt/` whose value is the object's id plus 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roborefer_spatial import files
from roborefer_spatial.importing import scannetpp
from roborefer_spatial.importing.ply import read_vertices
from roborefer_spatial.importing.recording import Floats, Frame, LabelledPoints, Recording

LAYOUTS = ("scannet", "7scenes", *scannetpp.KINDS)
INSTANCES = ("auto", "frames", "mesh", "none")
_PLAIN = re.compile(r"frame-(\d+)\.pose\.txt")
_SCAN = re.compile(r"(scene\d{4})_\d{2}")
_PICTURE = (".png", ".jpg", ".jpeg")


def find(source: Path) -> list[tuple[Path, str]]:
    """Return (folder, layout) of every recording at or one or two levels below a folder.

    Raises
    ------
    ValueError
        No folder there is a recording.
    """
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder; --source is a recording, or the folder of several")
    folders = [source, *sorted(source.glob("*/")), *sorted(source.glob("*/*/"))]
    found: list[tuple[Path, str]] = []
    for folder in folders:
        layout = layout_of(folder)
        here = scannetpp.kinds_of(folder) if layout is None else [(folder, layout)]
        found += [one for one in here if one not in found]
    if not found:
        raise ValueError(
            f"{source}: no recording at or below it. Expected ScanNet's color/, depth/, pose/ and intrinsic/, "
            "7-Scenes' frame-000000.color.png, .depth.png and .pose.txt, or ScanNet++'s scans/mesh_aligned_0.05.ply "
            "beside dslr/resized_images/ or iphone/rgb/"
        )
    return found


def layout_of(folder: Path) -> str | None:
    """Return the layout of a recording's folder, or None if it is none."""
    if all((folder / name).is_dir() for name in ("color", "depth", "pose", "intrinsic")):
        return "scannet"
    return "7scenes" if next(folder.glob("frame-*.pose.txt"), None) is not None else None


def load(folder: Path, layout: str, instances: str, top: Path) -> Recording:
    """Return a recording.

    Parameters
    ----------
    folder, layout
        As `find` has them.
    instances
        Where labels come from: "frames" (a picture for each frame), "mesh", "none", or "auto" (the first there is).
    top
        The folder that was searched: names of scenes start below it.
    """
    if layout in scannetpp.KINDS:
        found = scannetpp.load(folder, layout, instances)
    else:
        found = _scannet(folder, instances) if layout == "scannet" else _plain(folder, instances, top)
    if not found.frames:
        raise ValueError(f"{folder}: no frame with colour, depth and a finite pose")
    if instances in ("frames", "mesh") and not found.has_instances:
        what = "instance-filt/N.png or frame-N.instance.png" if instances == "frames" else "a labelled mesh"
        raise ValueError(f"{folder}: --instances {instances} needs {what}; --instances none makes regions of its own")
    return found


def _scannet(folder: Path, instances: str) -> Recording:
    name = folder.name
    scan = _SCAN.fullmatch(name)
    frames = []
    for pose_file in sorted((folder / "pose").glob("*.txt"), key=lambda path: int(path.stem)):
        stem = pose_file.stem
        color, depth = _picture(folder / "color", stem), _picture(folder / "depth", stem)
        pose = read_matrix(pose_file, (4, 4))
        labels = _picture(folder / "instance-filt", stem) if instances in ("auto", "frames") else None
        if color and depth and np.isfinite(pose).all():
            frames.append(Frame(f"{int(stem):06d}", color, depth, pose, labels))
    mesh = None
    if instances == "mesh" or (instances == "auto" and not any(frame.labels for frame in frames)):
        mesh = _scannet_mesh(folder)
    k_color, k_depth = (
        read_matrix(folder / "intrinsic" / f"intrinsic_{kind}.txt", (4, 4))[:3, :3] for kind in ("color", "depth")
    )
    return Recording(name, scan.group(1) if scan else name, tuple(frames), k_color, k_depth, mesh=mesh)


def _scannet_mesh(folder: Path) -> LabelledPoints | None:
    """Return labelled vertices, from the files of ScanNet's annotation; None where they are not there."""
    found = [next(iter(sorted(folder.glob(pattern))), None)
             for pattern in ("*.aggregation.json", "*vh_clean_2*.segs.json", "*_vh_clean_2.ply")]  # fmt: skip
    aggregation, segments, ply = found
    if aggregation is None or segments is None or ply is None:
        return None
    segment_of = np.asarray(files.read_json_object(segments)["segIndices"], np.int64)
    xyz = read_vertices(ply)
    if len(xyz) != len(segment_of):
        raise ValueError(f"{segments}: {len(segment_of)} vertices, {ply.name} has {len(xyz)}")
    label = np.zeros(int(segment_of.max()) + 1, np.int64)
    for group in files.read_json_object(aggregation)["segGroups"]:
        label[np.asarray(group["segments"], np.int64)] = int(group["objectId"]) + 1
    kept = label[segment_of] > 0
    return LabelledPoints(xyz[kept], label[segment_of][kept])


def _plain(folder: Path, instances: str, top: Path) -> Recording:
    frames = []
    for pose_file in sorted(folder.glob("frame-*.pose.txt")):
        match = _PLAIN.fullmatch(pose_file.name)
        if match is None:
            continue
        stem = f"frame-{match.group(1)}"
        color, depth = _picture(folder, f"{stem}.color"), _picture(folder, f"{stem}.depth")
        pose = read_matrix(pose_file, (4, 4))
        labels = _picture(folder, f"{stem}.instance") if instances in ("auto", "frames") else None
        if color and depth and np.isfinite(pose).all():
            frames.append(Frame(match.group(1), color, depth, pose, labels))
    named = (place / "camera-intrinsics.txt" for place in (folder, folder.parent))
    camera = next((path for path in named if path.is_file()), None)
    # without a file: the constants that 7-Scenes' page gives
    k = read_matrix(camera, (3, 3)) if camera else np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
    parts = folder.relative_to(top).parts if folder != top else (folder.name,)
    room = parts[0] if len(parts) > 1 else (folder.parent.name if folder.name.startswith("seq-") else folder.name)
    return Recording("_".join(parts), room, tuple(frames), k, k)


def _picture(folder: Path, stem: str) -> Path | None:
    return next((folder / f"{stem}{suffix}" for suffix in _PICTURE if (folder / f"{stem}{suffix}").is_file()), None)


def read_matrix(path: Path, shape: tuple[int, int]) -> Floats:
    """Read a matrix of numbers from a text file; ValueError, naming the file, for anything else."""
    try:
        values = np.array(
            [[float(word) for word in line.split()] for line in path.read_text().splitlines() if line.split()]
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a matrix of {shape[0]}x{shape[1]} numbers: {error}") from error
    if values.shape != shape:
        raise ValueError(f"{path}: expected a matrix of {shape[0]}x{shape[1]} numbers, got {_times(values.shape)}")
    return values


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
