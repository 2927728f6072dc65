"""Scoring: this package against the earlier way (a regular expression and a mask file read for every answer).

One process, one thread, CPU seconds (`time.process_time`), so that other work on the machine counts little.
Both read the same kind of files; all from the files to the metrics is measured. The earlier way
is written anew from its description and has its faults (it clamps, it leaves out what it cannot parse), which
is why the two hit rates differ; it gets fewer answers, because its time grows with them in proportion.

Run: python benchmarks/bench_score.py [--answers 1000000] [--before SRC]
SRC is the source folder of another version of this package, which is then measured, too, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from roborefer_spatial.answers import format_points
from roborefer_spatial.tasks.prompts import CORRESPONDENCE

SIZE_WH = (640, 480)
POINT = re.compile(r"\[\(\s*([0-9.]+)\s*,\s*([0-9.]+)\s*\)\]")


def make_files(folder: Path, answers: int, views: int) -> tuple[Path, Path]:
    """Write `answers` samples of `views` masks, a fifth of them out of view, and one answer for each."""
    generator = np.random.default_rng(0)
    width, height = SIZE_WH
    centres = []
    for view in range(views):
        mask = np.zeros((height, width), dtype=np.uint8)
        col, row = generator.integers(40, width - 40), generator.integers(40, height - 40)
        mask[row - 30 : row + 30, col - 30 : col + 30] = 255
        Image.fromarray(mask).save(folder / f"{view:05d}_mask.png")
        centres.append(((col + 0.5) / width, (row + 0.5) / height))
    samples, texts = folder / "samples.jsonl", folder / "answers.jsonl"
    with samples.open("w") as truth, texts.open("w") as said:
        for index in range(answers):
            view, visible = index % views, index % 5 > 0
            point = centres[view] if visible else None
            row = {
                "id": f"T1_MULTI_{index:07d}",
                "task": "t1_multi",
                "image": [f"{view:05d}_marked.png", f"{view:05d}_original.png"],
                "query_original": f"{view:05d}_original.png",
                "conversations": [
                    {"from": "human", "value": CORRESPONDENCE},
                    {"from": "gpt", "value": format_points([point], SIZE_WH) if point else "NOT_VISIBLE"},
                ],
                "mask_path": f"{view:05d}_mask.png",
                "mask_dilated_path": None,
                "gt_mask": "raw",
                "query_size": list(SIZE_WH),
                "ref_point": [0.5, 0.5],
                "answer_point": point,
                "coord_frame": "query",
                "concat": None,
                "seed": index,
                "split": "val",
                "scene": f"scene{view % 300:04d}",
                "uid": str(view),
                "view_ref": "01",
                "view_query": "02",
            }
            truth.write(json.dumps(row) + "\n")
            x, y = (np.array(point or (0.5, 0.5)) + generator.normal(0, 0.08, 2)).tolist()
            text = "NOT_VISIBLE" if index % 9 == 0 else f"[({x:.3f}, {y:.3f})]"
            said.write(json.dumps({"id": row["id"], "text": text}) + "\n")
    return samples, texts


STAGES = """
import gc, json, resource, sys, time
from pathlib import Path
from roborefer_spatial import predictions
from roborefer_spatial.sample import load_samples
from roborefer_spatial.scoring.metrics import by_set
from roborefer_spatial.scoring.score import score

gc.disable()  # as `evaluate` does
seconds, last = {}, time.process_time()

def lap(name):
    global last
    now = time.process_time()
    seconds[name], last = now - last, now

truth = load_samples(Path(sys.argv[1]))
lap("read samples")
said = predictions.read(Path(sys.argv[2]))
lap("read answers")
scores = score(truth, said, workers=1)
lap("score")
metrics = by_set(scores, bootstrap=1000)["t1_multi/val"]
lap("metrics, 1000 resamples")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
print(json.dumps([seconds, metrics, peak / 2**20]))
"""


def ours(samples: Path, answers: Path, source: Path | None = None) -> tuple[dict[str, float], dict[str, Any], float]:
    """Return CPU seconds by stage, metrics and peak memory in GiB, of the installed version or one in a folder."""
    environment = dict(os.environ) if source is None else {**os.environ, "PYTHONPATH": path_of(source)}
    command = [sys.executable, "-c", STAGES, str(samples), str(answers)]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    seconds, metrics, peak_gib = json.loads(printed)
    return seconds, metrics, peak_gib


def path_of(source: Path) -> str:
    """Return a PYTHONPATH on which `source` comes first."""
    return os.pathsep.join(filter(None, [str(source.resolve()), os.environ.get("PYTHONPATH", "")]))


def earlier_way(samples: Path, answers: Path) -> tuple[float, float]:
    """Return CPU seconds and the hit rate of the earlier evaluator's loop."""
    started = time.process_time()
    said = {row["id"]: row["text"] for row in map(json.loads, answers.read_text().splitlines())}
    hits = total = 0
    distances = []
    for row in map(json.loads, samples.read_text().splitlines()):
        text, truth = said[row["id"]], row["conversations"][1]["value"]
        found, true = POINT.search(text), POINT.search(truth)
        if true is None or "NOT_VISIBLE" in text.upper() or found is None:
            continue
        x, y = float(found[1]), float(found[2])
        distances.append(float(np.hypot(x - float(true[1]), y - float(true[2]))))
        mask = np.asarray(Image.open(samples.parent / row["mask_path"]))
        height, width = mask.shape
        col = max(0, min(width - 1, round(x * (width - 1))))
        line = max(0, min(height - 1, round(y * (height - 1))))
        hits += bool(mask[line, col] > 0)
        total += 1
    assert np.mean(distances) > 0
    return time.process_time() - started, hits / total


def main() -> None:
    """Print both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=200_000)
    parser.add_argument("--peer_answers", type=int, default=5_000)
    parser.add_argument("--views", type=int, default=2_000)
    parser.add_argument("--before", type=Path, metavar="SRC", help="source folder of another version to measure, too")
    args = parser.parse_args()
    before = None
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few"
        few.mkdir()
        peer_s, peer_rate = earlier_way(*make_files(few, args.peer_answers, min(args.views, args.peer_answers)))
        many = Path(folder) / "many"
        many.mkdir()
        files = make_files(many, args.answers, args.views)
        if args.before:
            before, before_metrics, before_gib = ours(*files, args.before)
        seconds, metrics, peak_gib = ours(*files)
    print(f"{'CPU seconds':<24}{'before' if before else '':>10}{'now':>10}")
    for name, value in seconds.items():
        print(f"{name:<24}{f'{before[name]:.2f}' if before else '':>10}{value:10.2f}")
    total = sum(seconds.values())
    print(f"{'all':<24}{f'{sum(before.values()):.2f}' if before else '':>10}{total:10.2f}")
    print(f"{'peak memory, GiB':<24}{f'{before_gib:.2f}' if before else '':>10}{peak_gib:10.2f}")
    if before:
        print(f"the metrics of both are {'the same' if before_metrics == metrics else 'DIFFERENT'}")
    mine, theirs = total / args.answers, peer_s / args.peer_answers
    print(f"{args.answers:,} answers of {args.views:,} masks, hits {metrics['hit_at_mask']:.3f}")
    print(f"the earlier way: {peer_s:.2f} s for {args.peer_answers:,} answers, hits {peer_rate:.3f}")
    print(f"CPU time an answer: {1e6 * mine:.1f} against {1e6 * theirs:.1f} microseconds, ratio {theirs / mine:.1f}")


if __name__ == "__main__":
    main()
