"""`predict`: any point cloud to instances, by a config and a checkpoint of the host; no labels, no infos file."""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.clouds import SUFFIXES, UNITS, Cloud, Points, read_cloud
from influencer_mmdet3d.data.scratch import Scratch
from influencer_mmdet3d.files import filling, read_record, write_whole
from influencer_mmdet3d.host.pin import host_root, load_pin
from influencer_mmdet3d.predict import results
from influencer_mmdet3d.predict.page import write_page
from influencer_mmdet3d.predict.stitch import Piece, deeper, stitch
from influencer_mmdet3d.predict.superpoints import METHODS, in_order, read_superpoints, superpoints
from influencer_mmdet3d.predict.tiles import Tile, neighbours, row_type, thin, tiles
from influencer_mmdet3d.terminal import DONE, FAILED, progress

Indices = npt.NDArray[np.int64]
PAGE_POINTS = 1_000_000
DESCRIPTION = """Segment point clouds with a trained model of the host: .ply, .pcd, .las, .laz, .npy, .npz, .txt,
.xyz, and the host's .bin. Neither labels nor an infos file are needed. OUT gets a folder for each cloud: instances.ply
(coloured, in the cloud's own coordinates), instances.npz (read it with influencer_mmdet3d.read_predictions),
summary.json and page.html, which any browser shows without a network. A job that was ended goes on where it was."""


@dataclass(frozen=True)
class Plan:
    """How clouds are cut and what is shown of them: the checked arguments."""

    tile: float
    overlap: float
    most: int
    superpoints: str
    unit: str
    score: float | None
    page_points: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``predict``."""
    parser.description = DESCRIPTION
    parser.add_argument("config", type=Path, metavar="CONFIG", help="config that the checkpoint was trained with")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("clouds", nargs="+", type=Path, metavar="CLOUD", help="point clouds, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--unit", choices=["auto", *UNITS], default="auto", help="of the coordinates (default: auto)")
    parser.add_argument(
        "--superpoints", default="auto", metavar="HOW",
        help="for ScanNet-like models: auto (mesh where there are faces, else graph), mesh, graph, or a folder with "
        "a NAME.bin for each cloud, as `superpoints` writes it (default: auto)",
    )  # fmt: skip
    parser.add_argument("--tile", type=float, default=12.0, metavar="M", help="longest side of a tile (default 12)")
    parser.add_argument("--overlap", type=float, default=2.0, metavar="M", help="of neighbouring tiles (default 2)")
    parser.add_argument(
        "--tile-points", type=int, default=250_000, metavar="N",
        help="most points of a tile that the model sees; a denser tile is thinned by a grid (default 250000)",
    )  # fmt: skip
    parser.add_argument(
        "--score", type=float, metavar="S",
        help="least score in the .ply and, to begin with, in the page (default: the config's pan_score_thr)",
    )  # fmt: skip
    parser.add_argument(
        "--page-points", type=int, default=PAGE_POINTS, metavar="N", help=f"most in the page (default {PAGE_POINTS})"
    )
    parser.add_argument("--head", metavar="NAME", help="data set whose head is used, for the instance-only model")
    parser.add_argument("--device", metavar="DEVICE", help="cuda, cpu, ... (default: cuda where there is one)")
    parser.add_argument("--trust-checkpoint", action="store_true", help="load it even if it can run code")
    parser.add_argument("--json", action="store_true", help="print all summaries as one JSON list")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Segment each cloud; clouds that an earlier call with the same arguments finished are left."""
    plan = _plan(args)
    clouds = _clouds(args.clouds)
    root = host_root()
    if importlib.util.find_spec("oneformer3d") is None:  # the host is no package: it is found by the path alone
        places = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "PYTHONPATH": places, load_pin().root_env: str(root)}
        return subprocess.run([sys.executable, "-m", "influencer_mmdet3d.cli", *sys.argv[1:]], env=env).returncode
    import torch

    from influencer_mmdet3d.host.segment import Segmentor

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    segmentor = Segmentor(args.config, args.checkpoint, device, trust=args.trust_checkpoint, head=args.head)
    say: Callable[[str], None] = (lambda text: None) if args.quiet or args.json else print
    say(_describe(segmentor, args.checkpoint))
    key = _key(args, segmentor)
    summaries, failed = [], False
    for path in clouds:
        try:
            summaries.append(_predict(path, segmentor, plan, key, args, say))
        except (ValueError, OSError) as error:
            if len(clouds) == 1:
                raise
            print(f"influencer-mmdet3d: {error}", file=sys.stderr)
            failed = True
    if args.json:
        print(json.dumps(summaries, indent=1))
    return FAILED if failed else DONE


def _plan(args: argparse.Namespace) -> Plan:
    for name, value in (
        ("--tile", args.tile),
        ("--tile-points", args.tile_points),
        ("--page-points", args.page_points),
    ):
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value:g}")
    if not 0 <= args.overlap < args.tile / 2:
        raise ValueError(
            f"--overlap must be at least 0 and below half of --tile ({args.tile:g} m), got {args.overlap:g}"
        )
    if args.superpoints not in METHODS and not Path(args.superpoints).is_dir():
        raise ValueError(f"--superpoints must be one of {METHODS} or a folder, got {args.superpoints!r}")
    return Plan(args.tile, args.overlap, args.tile_points, args.superpoints, args.unit, args.score, args.page_points)


def _clouds(named: list[Path]) -> list[Path]:
    """Return the files, those in folders among them; their names must differ, since OUT has a folder for each."""
    files: list[Path] = []
    for path in named:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise ValueError(f"{path} holds no point cloud; known are {', '.join(SUFFIXES)}")
            files += inside
        elif not path.exists():
            raise ValueError(f"{path} does not exist")
        else:
            files.append(path)
    names = [path.stem for path in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"two clouds are called {twice[0]}; their names must differ, since each gets a folder of its own"
        )
    return files


def _describe(segmentor: Any, checkpoint: Path) -> str:
    kind = "superpoints" if segmentor.needs_superpoints else f"voxels of {segmentor.voxel:g} m"
    names = segmentor.classes
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    trained = " ".join(f"{name} {value}" for name, value in segmentor.progress.items())
    model = type(segmentor.model).__name__
    return (
        f"{checkpoint.name}{f' ({trained})' if trained else ''} on {segmentor.device}: {model}, {kind}, "
        f"{len(names)} classes ({shown})"
    )


def _key(args: argparse.Namespace, segmentor: Any) -> dict[str, Any]:
    """Return what decides the result, the cloud apart."""
    stat = args.checkpoint.stat()
    return {
        "config": hashlib.sha256(segmentor.cfg.pretty_text.encode()).hexdigest()[:16],
        "checkpoint": [str(args.checkpoint.resolve()), stat.st_size, stat.st_mtime_ns],
        "options": [
            args.tile, args.overlap, args.tile_points, args.superpoints, args.unit, args.score, args.page_points,
            args.head,
        ],
    }  # fmt: skip


def _predict(
    path: Path, segmentor: Any, plan: Plan, key: dict[str, Any], args: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, Any]:
    """Segment a cloud and write its folder; return its summary."""
    folder, stat = args.out / path.stem, path.stat()
    key = {**key, "cloud": [str(path.resolve()), stat.st_size, stat.st_mtime_ns]}
    done = folder / "summary.json"
    if done.is_file():
        summary = read_record(done, ("key", "classes"))
        if summary["key"] != key:
            raise ValueError(
                f"{folder} holds predictions of another cloud, checkpoint or other options: take another --out, or "
                "delete that folder"
            )
        say(f"{path.stem}: done before, {_counts(summary['classes'])}")
        return summary
    start = time.perf_counter()
    scratch = Scratch(args.out)  # on the disk of what is written
    cloud = read_cloud(path, plan.unit, scratch)
    for note in cloud.notes:
        say(f"{path.stem}: {note}")
    given = _given_superpoints(path, cloud, segmentor, plan)
    with filling(folder, key):
        points = cloud.points()
        parts = tiles(points, plan.tile, plan.overlap, scratch)
        pieces, semantic, seconds = _all_tiles(folder, parts, points, given, segmentor, plan, args)
        whole = stitch(pieces, [part.rows for part in parts], pairs=neighbours(parts), scratch=scratch)
        found = results.collect(whole, len(points), segmentor.classes, semantic, segmentor.semantic_classes, scratch)
        corners = results.boxes(found, cloud.xyz)
        least = segmentor.score if plan.score is None else plan.score
        results.write_predictions(folder / "instances.npz", found)
        results.write_coloured(folder / "instances.ply", cloud, found, least)
        write_whole(folder / "page.html", write_page(path.name, points, found, corners, least, plan.page_points))
        summary = {
            "key": key,
            "cloud": str(path),
            "points": len(points),
            "notes": list(cloud.notes),
            "metres_in_a_unit": cloud.metres,
            "offset": points.offset.tolist(),
            "tiles": len(parts),
            "score": least,
            "classes": results.per_class(found, least),
            "instances": results.listed(found, corners),
            "model_seconds": round(seconds, 3),
            "seconds": round(time.perf_counter() - start, 3),
            "device": str(segmentor.device),
            "config": str(args.config),
            "checkpoint": {
                "file": str(args.checkpoint),
                "sha256": _sha256(args.checkpoint),
                **segmentor.progress,
            },
            "versions": versions(),
        }
        for part in parts:
            (folder / "tiles" / f"{part.name}.npz").unlink(missing_ok=True)
        with suppress(OSError):
            (folder / "tiles").rmdir()
        write_whole(done, json.dumps(summary, indent=1))  # the last one: it tells that the others are there
    say(f"{path.stem}: {_counts(summary['classes'])} from a score of {least:g}, {summary['seconds']:.1f} s; {folder}")
    return summary


def _counts(classes: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in classes.items()) or "no instances"


def _given_superpoints(path: Path, cloud: Cloud, segmentor: Any, plan: Plan) -> Indices | None:
    """Return superpoints that the user has, and refuse what the model or the cloud does not fit."""
    if not segmentor.needs_superpoints:
        if plan.superpoints != "auto":
            raise ValueError(f"--superpoints: {type(segmentor.model).__name__} takes voxels; leave it out")
        return None
    if plan.superpoints == "mesh" and cloud.faces is None:
        raise ValueError(f"--superpoints mesh: {path} has no faces; take --superpoints graph")
    if plan.superpoints not in METHODS:
        return read_superpoints(Path(plan.superpoints) / f"{path.stem}.bin", len(cloud.xyz))
    return None


def _all_tiles(
    folder: Path,
    parts: list[Tile],
    points: Points,
    given: Indices | None,
    segmentor: Any,
    plan: Plan,
    args: argparse.Namespace,
) -> tuple[list[Piece], npt.NDArray[np.int16], float]:
    """Return the pieces and the class of each point, from what was done before and the model; and its seconds."""
    scratch = points.cloud.scratch
    pieces: list[Piece] = []
    seconds = 0.0
    semantic = scratch.full(len(points), results.NONE, np.int16)
    best = scratch.full(len(points), -np.inf, np.float64)
    bar = progress(parts, description=folder.name, unit="tile", total=len(parts), quiet=args.quiet or args.json)
    for number, part in enumerate(bar):
        kept = folder / "tiles" / f"{part.name}.npz"
        if (saved := _kept(kept)) is None:
            begin = time.perf_counter()
            write_whole(kept, _segment(part, points, given, segmentor, plan))
            seconds += time.perf_counter() - begin
            saved = _kept(kept)
            assert saved is not None, "just written"
        bounds, indices, labels, scores = (saved[name] for name in ("starts", "indices", "labels", "scores"))
        rows = scratch.empty(len(indices), row_type(len(points)))
        rows[:] = part.rows[indices]
        for k in range(len(labels)):
            pieces.append(Piece(number, rows[bounds[k] : bounds[k + 1]], int(labels[k]), float(scores[k])))
        own = deeper(best, part.rows, part.depth(points[part.rows][:, :2]))
        semantic[part.rows[own]] = saved["semantic"][own]
        scratch.release()
    return pieces, semantic, seconds


def _kept(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """Return what was kept of a tile; None if there is nothing, or it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return {name: saved[name] for name in ("starts", "indices", "labels", "scores", "semantic")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _segment(
    part: Tile,
    points: Points,
    given: Indices | None,
    segmentor: Any,
    plan: Plan,
) -> bytes:
    """Segment a tile; return the file that keeps the result: lists of its points, numbered in the tile."""
    seen, inverse, _ = thin(points[part.rows], plan.most, segmentor.voxel / 4)
    superpoint = None
    if given is not None:
        first = np.unique(inverse, return_index=True)[1]
        superpoint = in_order(given[part.rows][first])
    elif segmentor.needs_superpoints:
        faces = None if plan.superpoints == "graph" else points.cloud.faces
        inside = None if faces is None else _faces_of(faces, part, len(points), inverse)
        superpoint = superpoints(seen[:, :3], inside)
    found = segmentor(seen, superpoint)
    rows = [np.flatnonzero(mask[inverse]) for mask in found.masks]
    semantic = np.full(len(seen), results.NONE) if found.semantic is None else found.semantic
    buffer = io.BytesIO()
    np.savez(
        buffer,
        starts=np.cumsum([0, *(len(one) for one in rows)]),
        indices=(np.concatenate(rows) if rows else np.zeros(0)).astype(np.int32),
        labels=found.labels,
        scores=found.scores,
        semantic=semantic[inverse].astype(np.int16),
    )
    return buffer.getvalue()


def _faces_of(faces: Indices, part: Tile, count: int, inverse: Indices) -> Indices:
    """Return the triangles that lie in a tile, by the numbers of the points that the model sees."""
    place = np.full(count, -1, np.int64)
    place[part.rows] = inverse
    here = place[faces]
    return here[(here >= 0).all(1)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of what took part."""
    found = {"python": platform.python_version()}
    for name in ("influencer-mmdet3d", "torch", "mmengine", "mmcv", "mmcv-lite", "mmdet", "mmdet3d", "spconv", "numpy"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
