"""What is killed and what is fed here: the long jobs and the readers of this package."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fuzz
import lzf
import mutate
import numpy as np
import torch
import yaml
from kills import Job, apart
from mapanything_opv2v import cli, depth, predictions, rawdata
from mapanything_opv2v.checkpoints import storage
from mapanything_opv2v.commands import frames
from mapanything_opv2v.evaluation import results
from mapanything_opv2v.exports import save_ply
from mapanything_opv2v.files import read_json
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama.cache import PanoramaCache
from mapanything_opv2v.rawdata import scan
from mapanything_opv2v.synthetic import write_town
from mapanything_opv2v.views.cloudfile import load_cloud

torch.set_num_threads(1)
CYLINDER = Cylinder(32, 8, 60.0)
SMALL = ("--frames", "2", "--agents", "1", "--image-size", "40", "30", "--seed", "1")
SIZE = ("--panorama-resolution", "64", "16")


def jobs(scratch: Path) -> list[Job]:
    """Return every long job, small enough that it ends within a second or two."""
    town, made = _town(scratch), _predicted(scratch)

    def job(name: str, line: Callable[[Path], tuple[object, ...]]) -> Job:
        return Job(name, lambda to: cli.main([str(word) for word in line(to)]), (".unfinished.json",))

    there = ("--predictions", made, "--quiet")
    return [
        job("synthetic", lambda to: ("synthetic", "--out", to / "town", *SMALL)),
        job("check", lambda to: ("check", town, "--quiet", "--json", to / "found.json")),
        job("depth", lambda to: ("depth", town, "--out", to / "depth", "--quiet")),
        job("depth-2-workers", lambda to: ("depth", town, "--out", to / "depth", "--quiet", "--workers", 2)),
        job("prebuild", lambda to: ("prebuild", town, "--cache", to / "cache", "--quiet", *SIZE)),
        Job("predict", partial(_predict, made)),
        job("export", lambda to: ("predict", *there, "--out", to / "out", "--export", "ply", "mask", "depth")),
        job("evaluate", lambda to: ("evaluate", *there, "--out", to / "out")),
        Job("checkpoint", _train, normal=_epoch),
    ]


def _town(scratch: Path) -> Path:
    town = scratch / "town"
    if not town.exists():
        apart(lambda: write_town(town, seed=1, frames=2, agents=2, image_size=(40, 30), lidar_size=(8, 64)))
    return town


def _predicted(scratch: Path) -> Path:
    """Return a folder with predictions of four frames, as a model would make them."""
    folder = scratch / "predictions"
    for number in range(4):
        rng, shape = np.random.default_rng(number), (2, CYLINDER.height, CYLINDER.width)
        meta = predictions.FrameMeta(
            split="test", sequence="town", frame=f"{number:06d}", layout="panorama", agents=(5, 6), cylinder=CYLINDER
        )
        poses, ranges = np.stack([np.eye(4)] * 2), rng.uniform(3, 30, shape).astype(np.float32)
        frame = predictions.FramePredictions(
            meta=meta,
            image=rng.integers(0, 255, (*shape, 3), dtype=np.uint8),
            range_m=ranges,
            rays=np.broadcast_to(CYLINDER.rays().astype(np.float32), (*shape, 3)).copy(),
            mask=rng.random(shape) < 0.9,
            pose_world_cam_pred=poses,
            metric_scale=1.0,
            range_m_true=ranges,
            mask_true=np.ones(shape, bool),
            pose_world_cam_true=poses,
        )
        predictions.save_predictions(folder, frame)
    return folder


def _predict(made: Path, folder: Path) -> int:
    """Run `predict` with frames that are there in place of a model's."""
    files = {path.relative_to(made).with_suffix("").as_posix(): path for path in predictions.list_predictions(made)}
    source = SimpleNamespace(
        shard=lambda: list(files),
        provenance={"model": "none"},
        items=lambda names, failed: ((name, predictions.load_predictions(files[name])) for name in names),
    )
    frames.open_source = lambda args: source  # type: ignore[assignment,return-value]
    return cli.main(
        ["predict", "--checkpoint", "none.pth", "--root", str(made), "--out", str(folder / "out"), "--quiet"]
    )


def _train(folder: Path) -> int:
    """Write one checkpoint over the other, as training does, and clean up at the start, as the launcher does."""
    storage.clean(folder)
    for epoch in range(1, 9):
        storage.write(folder / "checkpoint-last.pth", {"model": torch.full((60_000,), float(epoch)), "epoch": epoch})
    (folder / "done").touch()
    return 0


def _epoch(name: str, data: bytes) -> bytes:
    """Return "whole" for a whole checkpoint of any epoch."""
    if name == "done":
        return data
    found = torch.load(io.BytesIO(data), weights_only=True)
    return b"whole" if bool((found["model"] == found["epoch"]).all()) else b"torn"


def readers(scratch: Path) -> list[fuzz.Reader]:
    """Return every reader with valid files."""
    town = _town(scratch)
    texts = [path.read_bytes() for path in sorted(town.rglob("0*.yaml"))[:2]]
    pictures = [path.read_bytes() for path in sorted(town.rglob("*_camera0.png"))[:2]]
    depths = {suffix: _depths(scratch, suffix) for suffix in (".npy", ".png")}
    sweep = next(town.rglob("*.pcd")).read_bytes()
    cache, rest, agent = _cached(scratch, town)
    options = depth.DepthOptions()
    tree = mutate.any_tree(json.loads, lambda value: json.dumps(value).encode())
    provenance = {"checkpoint": "a.pth", "options": {"alignment": "view0"}}
    return [
        fuzz.Reader(
            "agent.yaml", "000068.yaml", texts, rawdata.load_agent_yaml, mutate.any_tree(yaml.safe_load, _yaml)
        ),
        fuzz.Reader("sweep.pcd", "000068.pcd", _sweeps(sweep), rawdata.load_pcd, mutate.any_text),
        fuzz.Reader("image.png", "a.png", pictures, rawdata.load_image, _png),
        fuzz.Reader("image-size", "a.png", pictures, rawdata.image_size, _png),
        fuzz.Reader("depth.npy", "a.npy", depths[".npy"], rawdata.load_depth, mutate.any_text),
        fuzz.Reader("depth.png", "a.png", depths[".png"], rawdata.load_depth, _png),
        fuzz.Reader("cloud.ply", "a.ply", _clouds(scratch, ".ply"), load_cloud, mutate.any_text),
        fuzz.Reader("cloud.npy", "a.npy", _clouds(scratch, ".npy"), load_cloud, mutate.any_text),
        fuzz.Reader("predictions.npz", "a.npz", [_first(_predicted(scratch))], predictions.load_predictions, _zip),
        fuzz.Reader("panorama.npz", rest, [cache.read_bytes()], partial(_panorama, rest, agent), _zip),
        fuzz.Reader("checkpoint.pth", "a.pth", _checkpoints(), storage.load, _zip),
        fuzz.Reader("figures.json", "a.json", [b'{"rmse": 0.5, "mae": null}'], read_json, tree),
        fuzz.Reader(
            "provenance.json",
            f"bound/{results.PROVENANCE}",
            [json.dumps(provenance).encode()],
            partial(_claim, provenance),
            tree,
            called="bound",
        ),
        fuzz.Reader(
            "depth-options.json",
            f"bound/{depth.PARAMETERS_FILE}",
            [_options(options)],
            lambda path: depth._claim(path.parent, options, False),
            tree,
            called="bound",
        ),
        fuzz.Reader("scan.json", "scan.json", [_scanned(scratch, town)], scan._load, tree),
    ]


def _first(folder: Path) -> bytes:
    return predictions.list_predictions(folder)[0].read_bytes()


def _yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode()


def _options(options: depth.DepthOptions) -> bytes:
    return json.dumps(vars(options) if hasattr(options, "__dict__") else options.__getstate__()).encode()


def _claim(provenance: dict[str, Any], path: Path) -> None:
    results.claim(path.parent, provenance)


def _depths(scratch: Path, suffix: str) -> list[bytes]:
    path = scratch / f"depth{suffix}"
    rawdata.save_depth(path, np.linspace(1, 50, 48, dtype=np.float32).reshape(6, 8))
    return [path.read_bytes()]


def _clouds(scratch: Path, suffix: str) -> list[bytes]:
    xyz, rgb = np.arange(30, dtype=np.float32).reshape(10, 3), np.full((10, 3), 7, np.uint8)
    if suffix == ".npy":
        stream = io.BytesIO()
        np.save(stream, np.concatenate([xyz, rgb / np.float32(255)], axis=1))
        return [stream.getvalue()]
    save_ply(scratch / "a.ply", xyz, rgb)
    lines = "\n".join(" ".join(map(str, row)) for row in xyz.tolist())
    header = (
        "ply\nformat ascii 1.0\nelement vertex 10\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    return [(scratch / "a.ply").read_bytes(), f"{header}{lines}\n".encode()]


def _sweeps(binary: bytes) -> list[bytes]:
    """Return a small sweep in the three forms of PCD."""
    header, body = binary.split(b"DATA binary\n")
    table = np.frombuffer(body, "<f4").reshape(-1, 4)[:12]
    for key in (b"WIDTH", b"POINTS"):
        start = header.index(key)
        header = header[:start] + key + b" 12" + header[header.index(b"\n", start) :]
    text = "\n".join(" ".join(map(repr, row)) for row in np.nan_to_num(table).tolist())
    columns = table.T.tobytes()
    packed = lzf.compress(columns, 2 * len(columns))
    compressed = struct.pack("<II", len(packed), len(columns)) + packed
    forms = ((b"binary", table.tobytes()), (b"ascii", text.encode() + b"\n"), (b"binary_compressed", compressed))
    return [header + b"DATA " + form + b"\n" + data for form, data in forms]


def _cached(scratch: Path, town: Path) -> tuple[Path, str, tuple[str, str, rawdata.AgentRecord, str]]:
    """Return a panorama in a cache, its name in there, and what it shows."""
    cache = PanoramaCache(scratch / "cache", CYLINDER)
    index = rawdata.index_tree(town, splits=["train"])
    frame = index.splits["train"][0]
    agent = frame.agents[0]
    cache.save(frame.split, frame.sequence, agent, frame.frame, cache.build(agent))
    path = cache.path(frame.split, frame.sequence, agent.agent_id, frame.frame)
    return path, path.relative_to(cache.folder).as_posix(), (frame.split, frame.sequence, agent, frame.frame)


def _panorama(rest: str, where: tuple[str, str, rawdata.AgentRecord, str], path: Path) -> Any:
    return PanoramaCache(path.parents[len(Path(rest).parts) - 1], CYLINDER).load(*where)


def _scanned(scratch: Path, town: Path) -> bytes:
    for folder in (town, *(path for path in town.rglob("*") if path.is_dir())):
        os.utime(folder, (0, 0))  # what changed a moment ago is not cached
    rawdata.index_tree(town, splits=["train"], cache_dir=scratch / "scans")
    return next(path for path in (scratch / "scans").rglob("*") if path.is_file()).read_bytes()


def _checkpoints() -> list[bytes]:
    value = {"model": {"a": torch.ones(3, 3), "b": torch.arange(5)}, "epoch": 3, "best_so_far": np.float64(0.5)}
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save(value, zipped)
    torch.save(value, legacy, _use_new_zipfile_serialization=False)
    return [zipped.getvalue(), legacy.getvalue()]


def _zip(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Break an archive as a whole, or one file inside it."""
    data = rng.choice(seeds)
    if rng.random() < 0.3 or not data.startswith(b"PK"):
        return mutate.any_bytes(rng, seeds)
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as archive:
        names = source.namelist()
        chosen = rng.choice([names[0], rng.choice(names)])
        for name in names:
            content = source.read(name)
            archive.writestr(name, mutate.any_text(rng, [content]) if name == chosen else content)
    return target.getvalue()


def _png(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Break a PNG as a whole, or one of its chunks, whose checksum is then set right, or its pixels' bytes."""
    if rng.random() < 0.3:
        return mutate.any_bytes(rng, seeds)
    source = rng.choice(seeds)
    chunks, position = [], 8
    while position < len(source):
        length = int.from_bytes(source[position : position + 4], "big")
        chunks.append((source[position + 4 : position + 8], source[position + 8 : position + 8 + length]))
        position += 12 + length
    chosen, data = rng.randrange(len(chunks)), source[:8]
    for number, (kind, body) in enumerate(chunks):
        if number == chosen:
            packed = kind == b"IDAT" and rng.random() < 0.5
            try:
                broken = mutate.any_bytes(rng, [zlib.decompress(body) if packed else body])
            except zlib.error:  # one of several such chunks
                broken, packed = mutate.any_bytes(rng, [body]), False
            body = zlib.compress(broken, 1) if packed else broken
            kind = rng.choice((kind, kind, kind, b"tRNS", b"PLTE", b"iCCP", b"tEXt", b"zTXt", b"acTL"))
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data
