"""What the matcher reaches on real pictures at fixed frame gaps, and what it loses by the tint, blur and small patches.

Each patch of an RGB-D recording is marked in its frame and looked for in the frames that lie a fixed number of frames
before and after, where depth and pose say that it is seen. `tinted` finds the mark in the picture, as the backend does;
`true mask` is given the untinted picture and the mask. Patches of every second frame are for choosing options
(`--half tune`), the others for reporting.

Run: python benchmarks/real_room_gaps.py --source my_room --out real_room_gaps
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from real_room import interval
from roborefer_spatial.images import mark, read_rgb
from roborefer_spatial.importing import layouts, sightings
from roborefer_spatial.importing.patches import carried, find_patches
from roborefer_spatial.importing.recording import back_project, on_color, read_depth, to_world
from roborefer_spatial.importing.scene_writer import ImportOptions
from roborefer_spatial.predicting.backends import matcher
from roborefer_spatial.terminal import progress

GAPS = (25, 50, 100, 400)
ALPHA = 0.45


def find_pairs(source: Path, objects: int) -> list[dict[str, Any]]:
    """Return (patch, frame of A, frame of B, gap, both masks) of all that are seen in both."""
    folder, layout = layouts.find(source)[0]
    recording = layouts.load(folder, layout, "none", source)
    options = ImportOptions()
    by_name = {int(frame.name): index for index, frame in enumerate(recording.frames)}
    rows = []
    patches = find_patches(recording, objects)
    for number, patch in progress(list(enumerate(patches)), description="patches", unit="patch", total=len(patches)):
        a = recording.frames[patch.anchor]
        size_wh = read_rgb(a.color).shape[1::-1]
        for gap in GAPS:
            for other in (int(a.name) + gap, int(a.name) - gap):
                if other not in by_name:
                    continue
                b = recording.frames[by_name[other]]
                depth = read_depth(b, recording)
                share, state = sightings.sight(patch.points, depth, None, number, b.pose, recording)
                world = to_world(back_project(depth, recording.k_depth), b.pose)
                mask = on_color(carried(patch, world, depth > 0, recording), recording, size_wh)
                seen = sightings.judged(share, state, mask, options.min_visible, options.min_size)
                if seen.state == sightings.VISIBLE:
                    mask_a = on_color(patch.mask, recording, size_wh)
                    rows.append({"patch": number, "anchor": patch.anchor, "a": a.color, "b": b.color, "gap": gap,
                                 "mask_a": mask_a, "mask_b": mask})  # fmt: skip
    return rows


def sharpness(picture: np.ndarray) -> float:
    """Return the variance of the Laplacian: low where motion has blurred a picture."""
    import cv2

    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def ask(backend: matcher.MatcherBackend, row: dict[str, Any], tinted: bool) -> dict[str, Any]:
    """Return whether the answer is inside the mask in B, with what may explain it."""
    a, b = read_rgb(row["a"]), read_rgb(row["b"])
    if tinted:
        found = backend.locate(mark(a, row["mask_a"], ALPHA), b)
    else:
        found = backend.locate_plain(a, b, row["mask_a"])
    hit = found is not None and bool(
        row["mask_b"][min(int(found[1]), b.shape[0] - 1), min(int(found[0]), b.shape[1] - 1)]
    )
    return {"patch": row["patch"], "gap": row["gap"], "hit": hit, "answered": found is not None,
            "chance": float(row["mask_b"].mean()), "size": int(row["mask_a"].sum()),
            "sharp": min(sharpness(a), sharpness(b))}  # fmt: skip


def summary(title: str, rows: list[dict[str, Any]], chosen: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Print and return one row of the table."""
    kept = [row for row in rows if chosen(row)]
    if not kept:
        return None
    hits = np.array([row["hit"] for row in kept], dtype=float)
    low, high = interval(hits, np.array([row["patch"] for row in kept]))
    chance = float(np.mean([row["chance"] for row in kept]))
    silent = float(np.mean([not row["answered"] for row in kept]))
    print(f"  {title:>22}  {len(kept):4d}  {hits.mean():.2f}  [{low:.2f}, {high:.2f}]  {silent:.2f}  {chance:.3f}")
    return {"row": title, "questions": len(kept), "hit": float(hits.mean()), "interval": [low, high],
            "not_visible": silent, "chance": chance}  # fmt: skip


def main() -> int:
    """Ask every pair both ways, and print a table for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the recording, in 7-Scenes' layout")
    parser.add_argument("--out", type=Path, required=True, help="folder for the answers and result.json")
    parser.add_argument("--objects", type=int, default=80, help="most patches (default: %(default)s)")
    parser.add_argument("--features", nargs="+", default=["sift"], help="of the matcher: sift, xfeat")
    parser.add_argument("--half", choices=("tune", "report"), default="report", help="patches of which frames")
    parser.add_argument("--min-agree", type=int, default=matcher.Options().min_agree, help="(default: %(default)s)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pairs = [row for row in find_pairs(args.source, args.objects) if row["anchor"] % 2 == (args.half == "report")]
    result: dict[str, Any] = {}
    for features in args.features:
        backend = matcher.create(matcher.Options(features=features, min_agree=args.min_agree))
        for tinted in (True, False):
            name = f"{features}, {'tinted' if tinted else 'true mask'}"
            done = answered(
                args.out / f"{args.half}-{features}-{args.min_agree}-{tinted}.jsonl", backend, pairs, tinted
            )
            print(f"{name}: row, questions, Hit@Mask, 95 %, said NOT_VISIBLE, a random point")
            result[name] = table(done)
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


def answered(
    path: Path, backend: matcher.MatcherBackend, pairs: list[dict[str, Any]], tinted: bool
) -> list[dict[str, Any]]:
    """Return all answers; each is written as it comes, and a run that was stopped goes on after the last."""
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    path.write_text("".join(line + "\n" for line in lines))
    left = pairs[len(lines) :]
    with path.open("a") as stream:
        for row in progress(left, description=path.stem, unit="question", total=len(left)):
            lines.append(json.dumps(ask(backend, row, tinted)))
            stream.write(lines[-1] + "\n")
            stream.flush()
    return [json.loads(line) for line in lines]


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """Print and return Hit@Mask by gap, by sharpness and by size of the patch."""
    sharp, size = (float(np.median([row[key] for row in rows])) for key in ("sharp", "size"))
    return [
        *(summary(f"{gap} frames apart", rows, lambda row, gap=gap: row["gap"] == gap) for gap in GAPS),
        summary("the sharper half", rows, lambda row: row["sharp"] >= sharp),
        summary("the more blurred half", rows, lambda row: row["sharp"] < sharp),
        summary("the larger patches", rows, lambda row: row["size"] >= size),
        summary("the smaller patches", rows, lambda row: row["size"] < size),
        summary("all", rows, lambda row: True),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
