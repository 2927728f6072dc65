"""Synthetic rooms written as ScanNet writes its scans, from the same generator as the x3 tree of them."""

import hashlib
import json

import numpy as np
from PIL import Image
from roborefer_spatial.synthetic import tree
from roborefer_spatial.synthetic.rooms import shoot

SIZE_WH, VIEWS, OBJECTS = (160, 120), 5, 3


def export(root, *, split, number, seed, mesh=False):
    """Write one scene; return its folder. Colour, depth, poses and numbers of the things that the tree asks about.

    With `mesh` the numbers are not in pictures but on points of a mesh, as ScanNet annotates.
    """
    rng = np.random.default_rng(list(hashlib.sha256(f"{seed}/{split}/{number}".encode()).digest()))
    room, seats, chosen = tree._scene(rng, VIEWS, SIZE_WH, OBJECTS)
    folder = root / f"room_{split}_{number:03d}"
    for name in ("color", "depth", "pose", "intrinsic", "instance-filt"):
        (folder / name).mkdir(parents=True)
    pictures, points, labels = [], [], []
    for seat in seats:
        shot = shoot(room, seat)
        rgb, shown = shot.compose()
        noise = rng.normal(0, 2.0, (2, *rgb.shape)).astype(np.float32)
        pictures.append((tree._to_bytes(rgb, noise[0]), shown, depth_mm(room, seat, shot, shown)))
    frames = np.cumsum(rng.integers(10, 400, len(seats)))
    assert len({seat.focal_px for seat in seats}) == 1, "one intrinsics file serves all frames"
    for frame, seat, (rgb, shown, depth) in zip(frames, seats, pictures):
        Image.fromarray(rgb).save(folder / f"color/{frame}.png")
        Image.fromarray(depth).save(folder / f"depth/{frame}.png")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = seat.rotation, seat.position
        np.savetxt(folder / f"pose/{frame}.txt", pose)
        kept = np.where(np.isin(shown, chosen), shown + 1, 0)
        Image.fromarray(kept.astype(np.uint8)).save(folder / f"instance-filt/{frame}.png")
        rays = seat.rays() @ seat.rotation
        xyz = (rays / rays[..., 2:] * (depth[..., None] / 1000.0)) @ seat.rotation.T + seat.position
        points.append(xyz[depth > 0])
        labels.append(kept[depth > 0])
    k = np.eye(4)
    k[0, 0] = k[1, 1] = seats[0].focal_px
    k[0, 2], k[1, 2] = SIZE_WH[0] / 2, SIZE_WH[1] / 2
    for kind in ("color", "depth"):
        np.savetxt(folder / f"intrinsic/intrinsic_{kind}.txt", k)
    if mesh:
        write_mesh(folder, np.concatenate(points), np.concatenate(labels))
    return folder


def depth_mm(room, seat, shot, shown):
    """Return z in whole millimetres: of the thing that a pixel shows, or of the room's shell."""
    rays = seat.rays()
    size = np.asarray(room.size, np.float32)
    with np.errstate(divide="ignore"):
        along = ((np.where(rays > 0, size, 0) - np.asarray(seat.position, np.float32)) / rays).min(axis=-1)
    for index, layer in enumerate(shot.layers):
        if layer.window is not None:
            mine = shown[layer.window] == index
            along[layer.window][mine] = layer.depth[mine]
    z = along * (rays @ seat.rotation[:, 2])
    return np.rint(z * 1000).astype(np.uint16)


def write_mesh(folder, xyz, labels):
    """Write ScanNet's annotation: vertices, their segments (one for each object, 0 for the rest), and the objects."""
    for name in (folder / "instance-filt").iterdir():
        name.unlink()
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(xyz)}\n" + "".join(
        f"property {kind} {name}\n"
        for kind, name in (
            *(("float", axis) for axis in "xyz"),
            *(("uchar", c) for c in ("red", "green", "blue", "alpha")),
        )
    )
    table = np.zeros(len(xyz), [*((axis, "<f4") for axis in "xyz"), *((c, "u1") for c in "rgba")])
    for column, axis in enumerate("xyz"):
        table[axis] = xyz[:, column]
    header = head + "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
    (folder / f"{folder.name}_vh_clean_2.ply").write_bytes(header.encode() + table.tobytes())
    name = folder / f"{folder.name}_vh_clean_2.0.010000.segs.json"
    name.write_text(json.dumps({"sceneId": folder.name, "segIndices": labels.tolist()}))
    groups = [{"objectId": int(n) - 1, "segments": [int(n)], "label": "thing"} for n in np.unique(labels[labels > 0])]
    (folder / f"{folder.name}.aggregation.json").write_text(json.dumps({"segGroups": groups}))
