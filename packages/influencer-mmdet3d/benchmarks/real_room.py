"""A real scanned room with instances: as labelled .ply for `prepare`, and the score of what `predict` found in it.

    python benchmarks/real_room.py ply room.npz scans
    python benchmarks/real_room.py score room.npz predictions/room/instances.npz

The room is a .npz with `xyz` (N, 3), `rgb` (N, 3) and `instance` (N,), -1 for points of no instance. Classes do not
count: label 0 is "object", 255 means no class. The score needs mmdet3d, whose evaluator it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from influencer_mmdet3d import read_predictions, superpoints

NAMES = ("object", "other")
LEAST = 10
"""Points of the smallest instance that counts; the smallest of the room has 23."""


def write_plys(room: dict[str, np.ndarray], folder: Path) -> None:
    """Write the room twice: one to train on, one to evaluate on."""
    from plyfile import PlyData, PlyElement

    fields = [*((name, "f4") for name in "xyz"), *((name, "u1") for name in ("red", "green", "blue"))]
    table = np.empty(len(room["xyz"]), [*fields, ("label", "i4"), ("instance", "i4")])
    for axis, name in enumerate("xyz"):
        table[name] = room["xyz"][:, axis]
    for axis, name in enumerate(("red", "green", "blue")):
        table[name] = room["rgb"][:, axis]
    table["label"] = np.where(room["instance"] < 0, 255, 0)
    table["instance"] = room["instance"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.txt").write_text(NAMES[0] + "\n", encoding="utf-8")
    for name in ("room", "room_again"):
        PlyData([PlyElement.describe(table, "vertex")]).write(str(folder / f"{name}.ply"))


def score(instance: np.ndarray, masks: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Return AP, AP50 and AP25 of the objects, and how many of them some mask meets with an IoU above 0.5."""
    from influencer_mmdet3d.demo.metric import average_precision

    objects = labels == 0
    truth = np.where(instance >= 0, instance, instance.max() + 1).astype(np.int64)
    found = SimpleNamespace(
        masks=torch.from_numpy(masks[objects]),
        labels=torch.from_numpy(labels[objects].astype(np.int64)),
        scores=torch.from_numpy(scores[objects]),
    )
    semantic = torch.from_numpy(np.where(instance >= 0, 0, 1))
    room = {"semantic": semantic, "instance": torch.from_numpy(truth), "found": found}
    result = average_precision([room], NAMES, LEAST)
    own = np.stack([instance == k for k in range(instance.max() + 1)]).astype(np.float32)
    both = masks[objects].astype(np.float32) @ own.T
    iou = both / (masks[objects].sum(1)[:, None] + own.sum(1) - both)
    met = int((iou.max(0, initial=0) > 0.5).sum())
    return {"AP50": round(result["ap50/object"], 3), "met": met, "of": len(own)}


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["ply", "score"])
    parser.add_argument("room", type=Path)
    parser.add_argument("other", type=Path, help="folder to write; or instances.npz")
    args = parser.parse_args()
    with np.load(args.room) as arrays:
        room = dict(arrays)
    if args.command == "ply":
        write_plys(room, args.other)
        return
    instance = room["instance"].astype(np.int64)
    found = read_predictions(args.other)
    print("predict:", score(instance, found.masks, found.labels, found.scores))
    pieces = superpoints(room["xyz"].astype(np.float64) - room["xyz"].min(0))
    masks = pieces == np.arange(pieces.max() + 1)[:, None]
    sizes = masks.sum(1).astype(np.float32)
    print("superpoints as instances, the largest first:", score(instance, masks, 0 * masks[:, 0], sizes / sizes.max()))
    shares = np.stack([np.bincount(pieces, instance == k) for k in range(-1, instance.max() + 1)], 1)
    best = shares.argmax(1) - 1
    united = np.stack([best[pieces] == k for k in range(instance.max() + 1)])
    print(
        "superpoints, united by the truth:", score(instance, united, 0 * united[:, 0], np.ones(len(united), np.float32))
    )


if __name__ == "__main__":
    main()
