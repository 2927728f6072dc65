"""Synthetic rooms of boxes written as ScanNet++ releases its scenes, from the same generator as the x3 tree of them."""

import hashlib
import json

import numpy as np
import scannet_rooms
from PIL import Image
from roborefer_spatial.synthetic import tree
from roborefer_spatial.synthetic.rooms import shoot
from scannet_rooms import OBJECTS, SIZE_WH, VIEWS

BOXES = ("table", "chair", "sofa", "shelf", "boxes")
"""Furniture whose parts are boxes: a mesh of triangles is exactly it."""
_SIGNS = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
_SIDES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


def export(root, *, split, number, seed, device="iphone", depth=False):
    """Write one scene; return its folder. Labels are on the mesh only; depth pictures come with `depth`."""
    rng = np.random.default_rng(list(hashlib.sha256(f"{seed}/{split}/{number}".encode()).digest()))
    room, seats, chosen = tree._scene(rng, VIEWS, SIZE_WH, OBJECTS)
    folder = root / f"room_{split}_{number:03d}"
    pictures = folder / device / ("rgb" if device == "iphone" else "resized_images")
    for path in (pictures, folder / device / "colmap", folder / "scans", folder / device / "depth"):
        path.mkdir(parents=True)
    shots = []
    for seat in seats:
        shot = shoot(room, seat)
        rgb, shown = shot.compose()
        noise = rng.normal(0, 2.0, (2, *rgb.shape)).astype(np.float32)
        shots.append((tree._to_bytes(rgb, noise[0]), scannet_rooms.depth_mm(room, seat, shot, shown)))
    frames = np.cumsum(rng.integers(10, 400, len(seats)))
    lines = ["# two lines an image"]
    for index, (frame, seat, (rgb, far)) in enumerate(zip(frames, seats, shots), 1):
        name = f"frame_{frame:06d}"
        Image.fromarray(rgb).save(pictures / f"{name}.png")
        if depth:
            Image.fromarray(far).save(folder / device / f"depth/{name}.png")
        turn = seat.rotation.T.astype(float)
        where = -turn @ np.array(seat.position)
        lines += [" ".join(map(str, [index, *quaternion(turn), *where, 1, f"video/{name}.png"])), "1.0 2.0 -1"]
    (folder / device / "colmap/images.txt").write_text("\n".join(lines) + "\n")
    focal = seats[0].focal_px
    camera = ["1 PINHOLE", *map(str, (*SIZE_WH, focal, focal, SIZE_WH[0] / 2, SIZE_WH[1] / 2))]
    (folder / device / "colmap/cameras.txt").write_text("# one line a camera\n" + " ".join(camera) + "\n")
    write_mesh(folder / "scans", room, chosen)
    return folder


def quaternion(turn):
    """Return w, x, y, z of a rotation by the axis that it leaves as it is: the eigenvector of 1."""
    values, vectors = np.linalg.eig(turn)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
    sign = axis @ (turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1])
    return np.cos(angle / 2), *(np.sin(angle / 2) * (axis if sign >= 0 else -axis))


def box(center, half, yaw=0.0):
    """Return the corners (8, 3) and triangles (12, 3) of a box."""
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    triangles = [corner for a, b, c, d in _SIDES for corner in ((a, b, c), (a, c, d))]
    return (_SIGNS * half) @ turn.T + center, np.array(triangles)


def write_mesh(folder, room, chosen):
    """Write the shell and the things as triangles, a segment for each thing, and the objects that are asked about."""
    half = np.array(room.size) / 2
    parts = [(0, *box(half, half))]
    for index, thing in enumerate(room.things):
        parts += [(index + 1, *box(solid.center, solid.half, solid.yaw)) for solid in thing.solids]
    starts = np.cumsum([0, *(len(xyz) for _, xyz, _ in parts)])
    xyz = np.concatenate([xyz for _, xyz, _ in parts])
    faces = np.concatenate([faces + start for (_, _, faces), start in zip(parts, starts)])
    segment = np.concatenate([np.full(len(xyz), number) for number, xyz, _ in parts])
    write_ply(folder / "mesh_aligned_0.05.ply", xyz, faces)
    (folder / "segments.json").write_text(json.dumps({"sceneId": "room", "segIndices": segment.tolist()}))
    groups = [{"id": int(n) + 1, "objectId": int(n) + 1, "segments": [int(n) + 1], "label": "thing"} for n in chosen]
    (folder / "segments_anno.json").write_text(json.dumps({"segGroups": groups}))


def write_ply(path, xyz, faces):
    """Write a binary PLY as ScanNet++'s meshes are: doubles, colours, lists of an uchar and ints."""
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(xyz)}\n"
    head += "".join(f"property double {axis}\n" for axis in "xyz") + "property uchar red\n"
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    points = np.zeros(len(xyz), [*((axis, "<f8") for axis in "xyz"), ("red", "u1")])
    for column, axis in enumerate("xyz"):
        points[axis] = xyz[:, column]
    rows = np.zeros(len(faces), [("size", "u1"), ("corners", "<i4", 3)])
    rows["size"], rows["corners"] = 3, faces
    path.write_bytes(head.encode() + points.tobytes() + rows.tobytes())
