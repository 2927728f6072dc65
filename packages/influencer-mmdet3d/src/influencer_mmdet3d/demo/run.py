"""The ``demo`` command: train a small segmentor on synthetic rooms, once without and once with matching."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from influencer_mmdet3d.files import write_whole
from influencer_mmdet3d.rooms import LAYOUTS
from influencer_mmdet3d.synthetic import write_s3dis

TRAIN_ROOMS, TEST_ROOMS, SHOWN_ROOMS = 40, 8, 4
POINTS = 8192

DESCRIPTION = """Make synthetic rooms, train a small query segmentor on them with the influencer criterion and with
Hungarian matching (same seed, samples, steps and loss weights), evaluate both on held-out rooms with mmdet3d's
ScanNet evaluator, and write OUT/index.html, OUT/overview.png and OUT/result.json. Takes two to four minutes on two
CPU cores; uses a GPU if there is one. Needs matplotlib and mmdet3d (no compiled mmcv)."""

EXAMPLE = "example:\n  influencer-mmdet3d demo --out demo_out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``demo``."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results, rooms and logs")
    parser.add_argument("--steps", type=int, default=450, help="training steps of each criterion (default 450)")
    parser.add_argument("--seed", type=int, default=0, help="of rooms, samples and initial weights (default 0)")
    parser.add_argument(
        "--objects", type=int, nargs=2, default=(6, 24), metavar=("LOW", "HIGH"),
        help="objects in a room besides floor, ceiling and walls (default 6 24)",
    )  # fmt: skip
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="spread", help="'crowded': touching chairs (default spread)"
    )


def run(args: argparse.Namespace) -> int:
    """Run ``demo``; return its exit code."""
    missing = [name for name in ("matplotlib", "mmdet3d") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"influencer-mmdet3d demo: {' and '.join(missing)} not installed. Install them with: "
            f"pip install matplotlib && pip install --no-deps mmdet3d==1.4.0",
            file=sys.stderr,
        )
        return 2
    try:
        result = run_demo(args.out, steps=args.steps, seed=args.seed, objects=tuple(args.objects), layout=args.layout)
    except ValueError as error:
        print(f"influencer-mmdet3d demo: {error}", file=sys.stderr)
        return 2
    for label, value in result["figures"]:
        print(f"{label}: {value}")
    print(f"page: {args.out / result['page']}")
    return 0


def run_demo(
    out: Path, *, steps: int = 450, seed: int = 0, objects: tuple[int, int] = (6, 24), layout: str = "spread"
) -> dict[str, Any]:
    """Run the whole demo; return the content of ``result.json``.

    Parameters
    ----------
    out : Path
        Folder; made if absent. Gets ``index.html``, ``overview.png``, ``result.json``, ``rooms/`` (S3DIS format)
        and ``training/`` (mmengine's logs).
    steps, seed : int
        Training steps of each criterion, and the seed of everything.
    objects, layout
        See `influencer_mmdet3d.rooms.make_room`.
    """
    from influencer_mmdet3d.demo import compare, page, plots
    from influencer_mmdet3d.demo.train import CRITERIA, demo_config, train

    began = time.monotonic()
    rooms = out / "rooms"
    size: dict[str, Any] = {"seed": seed, "points_per_room": POINTS, "objects": objects, "layout": layout}
    write_s3dis(rooms, areas=[1], rooms_per_area=TRAIN_ROOMS, **size)
    write_s3dis(rooms, areas=[5], rooms_per_area=TEST_ROOMS, **size)
    runs = [train(name, demo_config(name, rooms, out / "training" / name, steps=steps, seed=seed)) for name in CRITERIA]
    shown_rooms = []
    fullest = sorted(range(TEST_ROOMS), key=lambda index: -int(runs[0].rooms[index]["instance"].max()))
    for number in fullest[:SHOWN_ROOMS]:
        name = runs[0].rooms[number]["name"]
        points = np.fromfile(rooms / "points" / f"{name}.bin", "<f4").reshape(-1, 6)
        shown = {"truth": compare.truth(runs[0].rooms[number])}
        shown |= {one.name: compare.prediction(one.rooms[number]) for one in runs}
        shown_rooms.append((name, points, shown))
    result = _result(runs, steps, objects, time.monotonic() - began)
    command = (
        f"influencer-mmdet3d demo --out {out.name} --steps {steps} --seed {seed} --objects {objects[0]} {objects[1]}"
    )
    text = page.write_page(
        title=result["title"],
        summary=(
            "A query segmentor trains twice on the same rooms, with the same seed, samples, number of steps and loss "
            "weights (class 0.5, BCE 1, Dice 1, score 0.5, no object 0.05). What differs is how queries are assigned "
            "to instances: by influence, without a matching solver, or by Hungarian matching."
        ),
        note=(
            f"One seed, {steps} steps of 2 rooms: a short training, and differences of this size change with the seed. "
            f"Evaluator: mmdet3d's ScanNet evaluation over {TEST_ROOMS} held-out rooms of {POINTS:,} points, instances "
            f"under 50 points ignored (ScanNet: 100). Processor time includes evaluation, over all threads. Shown "
            f"below and in the picture: the {SHOWN_ROOMS} held-out rooms with most instances."
        ),
        synthetic=result["synthetic"],
        command=command + f" --layout {layout}",
        runs=runs,
        rooms=[page.room_data(*room) for room in shown_rooms],
        curves=plots.curves(runs),
    )
    plots.overview(shown_rooms[0][1], shown_rooms[0][2], runs, out / "overview.png")
    write_whole(out / "index.html", text)
    write_whole(out / "result.json", json.dumps(result, indent=1))
    return result


def _result(runs: list[Any], steps: int, objects: tuple[int, int], seconds: float) -> dict[str, Any]:
    from influencer_mmdet3d.demo.train import CRITERIA

    figures = [
        [f"{name}, {CRITERIA[one.name]}", f"{one.final[key]:.3f}"]
        for key, name in (("ap50", "AP50"), ("ap", "AP"), ("ap25", "AP25"))
        for one in runs
    ]
    return {
        "package": "influencer-mmdet3d",
        "title": "Instance segmentation with and without matching",
        "page": "index.html",
        "picture": "overview.png",
        "figures": figures,
        "synthetic": (
            f"All rooms are synthetic ({objects[0]} to {objects[1]} objects of 13 classes made of flat patches, with "
            f"colour and noise) and the segmentor is a small one trained for {steps} steps: the figures compare two "
            f"criteria here and say nothing about S3DIS or ScanNet."
        ),
        "seconds": round(seconds, 1),
    }
