"""Scans as other tools write them."""

import numpy as np
import plyfile


def ply(path, xyz, colour=None, kind="u1", faces=None, text=False, **fields):
    """Write a .ply with what is given of colours, faces and fields."""
    types = [(name, "f8") for name in "xyz"]
    types += [(name, kind) for name in ("red", "green", "blue")] if colour is not None else []
    table = np.empty(len(xyz), types + [(name, values.dtype) for name, values in fields.items()])
    for axis, name in enumerate("xyz"):
        table[name] = xyz[:, axis]
    if colour is not None:
        for axis, name in enumerate(("red", "green", "blue")):
            table[name] = colour[:, axis]
    for name, values in fields.items():
        table[name] = values
    elements = [plyfile.PlyElement.describe(table, "vertex")]
    if faces is not None:
        lists = np.empty(len(faces), [("vertex_indices", object)])
        lists["vertex_indices"] = [np.array(face, np.int32) for face in faces]
        elements.append(plyfile.PlyElement.describe(lists, "face", val_types={"vertex_indices": "i4"}))
    plyfile.PlyData(elements, text=text).write(str(path))
    return path
