"""What is killed and what is fed here: the long jobs and the readers of this package."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fuzz
import mutate
import numpy as np
import torch
from influencer_mmdet3d import cli
from influencer_mmdet3d.data.check import check_dataset
from influencer_mmdet3d.data.formats import FORMATS
from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet
from influencer_mmdet3d.host import checkpoint, launch
from kills import Job, apart
from mmengine.logging import HistoryBuffer

torch.set_num_threads(1)
ROOM = ("--points", "400", "--objects", "2", "3", "--rooms", "3", "--quiet")


def jobs(scratch: Path) -> list[Job]:
    """Return every long job, small enough that it ends within a second."""
    data = scratch / "data"
    if not data.exists():
        apart(
            lambda: write_s3dis(data, areas=range(1, 7), rooms_per_area=4, seed=0, points_per_room=400, objects=(2, 3))
        )
        checkpoint.save(weights(permuted=True), scratch / "permuted.pth")
    return [
        Job("synthetic-s3dis", lambda to: cli.main(["synthetic", str(to / "set"), *ROOM]), (".unfinished.json",)),
        Job(
            "synthetic-scannet",
            lambda to: cli.main(["synthetic", str(to / "set"), "--format", "scannet", *ROOM]),
            (".unfinished.json",),
        ),
        Job(
            "check",
            lambda to: cli.main(["check", str(data), "--format", "s3dis", "--json", str(to / "found.json")]) // 2,
        ),
        Job(
            "fix-checkpoint", lambda to: cli.main(["fix-checkpoint", str(scratch / "permuted.pth"), str(to / "a.pth")])
        ),
        Job("save", _save, normal=_epoch),
    ]


def _save(folder: Path) -> int:
    """Write one checkpoint over the other, as training does."""
    for epoch in range(1, 9):
        checkpoint.save({"state_dict": {"a": torch.full((60_000,), float(epoch))}, "epoch": epoch}, folder / "last.pth")
    (folder / "done").touch()
    return 0


def _epoch(name: str, data: bytes) -> bytes:
    """Return "whole" for a whole checkpoint of any epoch."""
    if name == "done":
        return data
    found = torch.load(io.BytesIO(data), weights_only=True)
    return b"whole" if bool((found["state_dict"]["a"] == found["epoch"]).all()) else b"torn"


def weights(permuted: bool = False) -> dict[str, Any]:
    """Return a checkpoint like mmengine's."""
    shape = (3, 3, 3, 4, 2) if permuted else (2, 3, 3, 3, 4)
    state: Any = OrderedDict({"unet.a.weight": torch.arange(216.0).view(shape), "decoder.weight": torch.ones(2, 2)})
    state._metadata = OrderedDict({"": {"version": 1}, "unet.a": {"version": 2}})
    logs = {"log_scalars": {"train/loss": HistoryBuffer([1.0, 2.0], [1, 1])}}
    return {"state_dict": state, "message_hub": logs, "meta": {"epoch": 2, "dtype": torch.float16}}


def readers(scratch: Path) -> list[fuzz.Reader]:
    """Return every reader with valid files."""
    s3dis, scannet = scratch / "seed-s3dis", scratch / "seed-scannet"
    apart(lambda: write_s3dis(s3dis, areas=[1, 2], rooms_per_area=1, seed=0, points_per_room=400, objects=(2, 3)))
    apart(lambda: write_scannet(scannet, scenes={"train": 1}, seed=0, points_per_scene=400, objects=(2, 3)))
    infos = [(s3dis / f"s3dis_infos_Area_{area}.pkl").read_bytes() for area in (1, 2)]
    mask = "scannet/{}/scene0000_00.bin"
    raw = [
        fuzz.Reader(
            name, mask.format(kind), [_file(scannet, kind)], _check("scannet"), mutate.any_bytes, _copied(scannet)
        )
        for name, kind in (
            ("points", "points"),
            ("semantic", "semantic_mask"),
            ("instance", "instance_mask"),
            ("superpoints", "super_points"),
        )
    ]
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save(weights(), zipped)
    torch.save(weights(permuted=True), legacy, _use_new_zipfile_serialization=False)
    pth = [zipped.getvalue(), legacy.getvalue()]
    return [
        fuzz.Reader(
            "infos",
            "s3dis/s3dis_infos_Area_1.pkl",
            infos,
            _check("s3dis"),
            mutate.any_tree(pickle.loads, _dumped),
            _copied(s3dis),
        ),
        *raw,
        fuzz.Reader("checkpoint", "a.pth", pth, _checkpoint, _pth),
        fuzz.Reader("last_checkpoint", "last_checkpoint", [b"/runs/epoch_2.pth\n"], _resume, mutate.any_text, _epochs),
    ]


def _file(root: Path, kind: str) -> bytes:
    return (root / kind / "scene0000_00.bin").read_bytes()


def _copied(root: Path) -> Callable[[Path], None]:
    """Return what puts a data set beside the broken file."""

    def prepare(folder: Path) -> None:
        for path in root.rglob("*"):
            if path.is_file():
                target = folder / FORMATS_OF[root.name] / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())

    return prepare


FORMATS_OF = {"seed-s3dis": "s3dis", "seed-scannet": "scannet"}


def _check(name: str) -> Callable[[Path], Any]:
    """Return a reader of a whole data set, which reports instead of raising."""

    def read(path: Path) -> Any:
        root = next(parent for parent in path.parents if parent.name == name)
        infos = ["s3dis_infos_Area_1.pkl"] if name == "s3dis" else ["scannet_oneformer3d_infos_train.pkl"]
        found = check_dataset(root, FORMATS[name], infos=infos, workers=1).all_findings()
        return fuzz.Refused() if any(finding.severity == "error" for finding in found) else None

    return read


def _dumped(tree: Any) -> bytes:
    """Pickle a value beside the numpy values that an infos file may hold, in a protocol that follows from it."""
    tree = {"matrix": np.eye(4), "one": np.float32(1), **tree} if isinstance(tree, dict) else tree
    return pickle.dumps(tree, protocol=len(repr(tree)) % 5)


def _pth(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Break a checkpoint as a whole, or one file inside its archive."""
    data = rng.choice(seeds)
    if rng.random() < 0.3 or not data.startswith(b"PK"):
        return mutate.any_bytes(rng, seeds)
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as archive:
        names = source.namelist()
        chosen = rng.choice([names[0], names[0], rng.choice(names)])
        for name in names:
            content = source.read(name)
            archive.writestr(name, mutate.any_bytes(rng, [content]) if name == chosen else content)
    return target.getvalue()


def _checkpoint(path: Path) -> Any:
    found = checkpoint.read_checkpoint(path)
    if not checkpoint.kernels_fit(found, path):
        checkpoint.repair(found)


def _epochs(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "epoch_2.pth").write_bytes(b"")


def _resume(path: Path) -> Any:
    return launch._resume_from(path.parent, "auto")
