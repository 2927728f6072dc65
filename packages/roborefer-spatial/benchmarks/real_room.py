"""What the matcher reaches on real pictures: one RGB-D recording without instances, by how far apart the frames are.

Patches of the recording's surfaces are carried from frame to frame by depth and pose (`import`), questions of Task 1
are built from them, and answered by matching the two pictures. Intervals: 95 %, patches resampled, since questions
about one patch go together. A run that was stopped goes on after its last answer.

Run: python benchmarks/real_room.py --source my_room --out real_room
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from roborefer_spatial.importing.scans import import_scans
from roborefer_spatial.importing.scene_writer import RECORD, ImportOptions
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Request
from roborefer_spatial.predictions import Prediction, read
from roborefer_spatial.sample import Sample, load_samples
from roborefer_spatial.scoring.metrics import by_set
from roborefer_spatial.scoring.score import Scores, score
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import BuildOptions
from roborefer_spatial.terminal import progress

GAPS = (50, 150, 400, 10**9)


def gap_of(tree: Path, sample: Sample) -> int:
    """Return how many frames lie between the two views."""
    record = json.loads((tree / "validation" / sample.scene / f"uid_{sample.uid}" / RECORD).read_text())
    frames = {view["view"]: int(view["frame"]) for view in record["views"]}
    return abs(frames[sample.view_ref] - frames[sample.view_query])


def interval(hits: np.ndarray, groups: np.ndarray, rounds: int = 4000) -> tuple[float, float]:
    """Return the 95 % interval of the mean, groups resampled."""
    names = np.unique(groups)
    sums = np.array([hits[groups == name].sum() for name in names])
    counts = np.array([(groups == name).sum() for name in names])
    drawn = np.random.default_rng(0).integers(0, len(names), (rounds, len(names)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def answered(path: Path, features: str, samples: list[Sample]) -> list[Prediction]:
    """Return the matcher's answers; each is written as it comes, and those that are there are not asked for again."""
    backend = backends.create("matcher", backends.options("matcher", {"features": features}))
    written = path.read_bytes() if path.is_file() else b""
    path.write_bytes(written[: written.rfind(b"\n") + 1])  # without a half-written last line
    known = {row.id for row in read(path, unfinished=True)}
    left = [sample for sample in samples if sample.id not in known]
    with path.open("a") as stream:
        for sample in progress(left, description=features, unit="question", total=len(left)):
            (text,) = backend.answer([Request(sample.id, tuple(map(Path, sample.image)), "", task=sample.task)])
            stream.write(Prediction(sample.id, str(text)).to_json() + "\n")
            stream.flush()
    return read(path, unfinished=True)


def main() -> int:
    """Import, build, match, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the recording, in 7-Scenes' layout")
    parser.add_argument("--out", type=Path, required=True, help="folder for tree, tasks and result.json")
    parser.add_argument("--objects", type=int, default=40, help="patches (default: %(default)s)")
    parser.add_argument("--views", type=int, default=8, help="views of each (default: %(default)s)")
    parser.add_argument("--not-visible", type=int, default=2, help="of which so many do not show it")
    parser.add_argument("--features", nargs="+", default=["sift"], help="of the matcher: sift, xfeat")
    args = parser.parse_args()
    tree, tasks = args.out.resolve() / "x3", args.out.resolve() / "tasks"
    options = ImportOptions(objects=args.objects, views=args.views, not_visible=args.not_visible, instances="none")
    import_scans(args.source, tree, options, split="val", progress=True)
    if not (tasks / "manifest.json").is_file():
        build(tree, BuildOptions(out_dir=tasks))
    samples = load_samples(tasks / "t1_val_multi.jsonl")
    gaps = np.array([gap_of(tree, sample) for sample in samples])
    result = {}
    for features in args.features:
        said = answered(args.out / f"{features}.jsonl", features, samples)
        result[features] = table(features, score(samples, said), gaps)
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


def table(name: str, scores: Scores, gaps: np.ndarray) -> list[dict[str, object]]:
    """Print and return Hit@Mask and chance by gap, then NOT_VISIBLE."""
    visible = np.array([sample.visible for sample in scores.samples])
    groups = np.array([f"{sample.scene}/{sample.uid}" for sample in scores.samples])
    rows: list[dict[str, object]] = []
    print(f"{name}: frames apart, questions, Hit@Mask of all visible, 95 %, a random point")
    for low, high in zip((0, *GAPS), (*GAPS, None)):
        chosen = visible & (gaps > low) & (gaps <= high) if high is not None else visible
        if not chosen.any():
            continue
        hits, chance = np.nan_to_num(scores.hit[chosen]), float(np.nanmean(scores.chance[chosen]))
        bounds = interval(hits, groups[chosen])
        label = "all" if high is None else f"{low + 1} to {high}" if high < 10**9 else f"over {low}"
        rows.append(
            {
                "gap": label,
                "questions": int(chosen.sum()),
                "hit": float(hits.mean()),
                "interval": bounds,
                "chance": chance,
            }
        )
        print(f"  {label:>11}  {chosen.sum():4d}  {hits.mean():.2f}  [{bounds[0]:.2f}, {bounds[1]:.2f}]  {chance:.3f}")
    metrics = next(iter(by_set(scores).values()))
    for key in ("not_visible_precision", "not_visible_recall", "not_visible_f1"):
        print(f"  {key}: {metrics[key]:.2f}")
        rows.append({key: metrics[key]})
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
