"""The ``demo`` command: train a small segmentor on synthetic rooms, once without and once with matching."""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from influencer_mmdet3d.data.rooms import LAYOUTS
from influencer_mmdet3d.data.synthetic import write_s3dis
from influencer_mmdet3d.demo.metric import HOW_TO_INSTALL
from influencer_mmdet3d.files import write_whole
from influencer_mmdet3d.terminal import DONE

TRAIN_ROOMS, TEST_ROOMS, SHOWN_ROOMS = 40, 8, 4
POINTS = 8192

DESCRIPTION = """Make synthetic rooms, train a small query segmentor on them with the influencer criterion and with
Hungarian matching (same seed, samples, steps and loss weights), evaluate both on held-out rooms with mmdet3d's
ScanNet evaluator, and write OUT/index.html, OUT/overview.png and OUT/result.json. The criterion gets start masks, as
in ScanNet: it is told which queries start inside which instance. Takes two to three minutes of one CPU core for
each seed; uses a GPU if there is one. Needs matplotlib and mmdet3d (no compiled mmcv)."""

EXAMPLE = "example: influencer-mmdet3d demo --out demo_out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``demo``."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results, rooms and logs")
    parser.add_argument("--steps", type=int, default=450, help="training steps of each criterion (default 450)")
    parser.add_argument("--seed", type=int, default=0, help="of rooms, samples and initial weights (default 0)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repeat with N seeds of samples and weights")
    parser.add_argument(
        "--objects", type=int, nargs=2, default=(6, 24), metavar=("LOW", "HIGH"),
        help="objects in a room besides floor, ceiling and walls (default 6 24)",
    )  # fmt: skip
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="spread", help="'crowded': touching chairs (default spread)"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress and print no figures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``demo``; return its exit status."""
    missing = [name for name in ("matplotlib", "mmdet3d") if importlib.util.find_spec(name) is None]
    if args.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {args.seeds}")
    if missing:
        raise ValueError(f"the demo needs {' and '.join(missing)}. Install with: {HOW_TO_INSTALL}")
    result = run_demo(
        args.out,
        steps=args.steps,
        seed=args.seed,
        seeds=args.seeds,
        objects=tuple(args.objects),
        layout=args.layout,
        quiet=args.quiet,
    )
    if not args.quiet:
        for label, value in result["figures"]:
            print(f"{label}: {value}")
        print(f"page: {args.out / result['page']}")
    return DONE


def run_demo(
    out: Path,
    *,
    steps: int = 450,
    seed: int = 0,
    seeds: int = 1,
    objects: tuple[int, int] = (6, 24),
    layout: str = "spread",
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the whole demo; return the content of ``result.json``.

    Parameters
    ----------
    out : Path
        Folder; made if absent. Gets ``index.html``, ``overview.png``, ``result.json``, ``rooms/`` (S3DIS format)
        and ``training/`` (mmengine's logs).
    steps : int
        Training steps of each criterion.
    seed : int
        Of the rooms, and of the first training of each criterion (samples and weights).
    seeds : int
        Trainings of each criterion, with this seed and the following ones.
    objects, layout
        See `influencer_mmdet3d.data.rooms.make_room`.
    quiet : bool
        Show no progress.
    """
    import torch

    from influencer_mmdet3d.demo import page, plots
    from influencer_mmdet3d.demo.train import CRITERIA, demo_config, train

    began = time.monotonic()
    # the tensors are small: more threads gain little, wait for each other on a busy machine, and change sums' order
    torch.set_num_threads(1)
    rooms = out / "rooms"
    size: dict[str, Any] = {
        "seed": seed,
        "points_per_room": POINTS,
        "objects": objects,
        "layout": layout,
        "quiet": quiet,
    }
    write_s3dis(rooms, areas=[1], rooms_per_area=TRAIN_ROOMS, **size)
    write_s3dis(rooms, areas=[5], rooms_per_area=TEST_ROOMS, **size)
    queries = max(96, 3 * (objects[1] + 6))
    changes = {"model.decoder.num_queries": queries, "custom_hooks.0.quiet": quiet}
    configs = [
        (name, demo_config(name, rooms, out / "training" / f"{name}-{one}", steps=steps, seed=one, changes=changes))
        for one in range(seed, seed + seeds)
        for name in CRITERIA
    ]
    runs = [train(name, cfg) for name, cfg in configs]
    shown = _shown_rooms([run for run in runs if run.seed == seed], rooms)
    result = _result(runs, steps, objects, time.monotonic() - began)
    command = (
        f"influencer-mmdet3d demo --out {out.name} --steps {steps} --seed {seed} --seeds {seeds} --layout {layout}"
    )
    text = page.write_page(
        title=result["title"],
        summary=_summary(configs[0][1].model.criterion),
        note=_note(steps, seeds, len(shown)),
        synthetic=result["synthetic"],
        command=f"{command} --objects {objects[0]} {objects[1]}",
        runs=runs,
        rooms=[page.room_data(*room) for room in shown],
        curves=plots.curves(runs),
    )
    plots.overview(shown[0][1], shown[0][2], runs, out / "overview.png")
    write_whole(out / "index.html", text)
    write_whole(out / "result.json", json.dumps(result, indent=1))
    return result


def _note(steps: int, seeds: int, shown: int) -> str:
    """Say how the figures were made and how far they carry."""
    return (
        f"{'One seed' if seeds == 1 else f'{seeds} seeds'}, {steps} steps of 2 rooms: a short training, and figures "
        f"change with the seed and, through the order of sums, with the machine. Found: true instances with a mask of "
        f"their class and IoU above 0.5, among as many best masks as the room has instances. Evaluator: mmdet3d's "
        f"ScanNet evaluation over {TEST_ROOMS} held-out rooms of {POINTS:,} points, instances under 50 points ignored "
        f"(ScanNet: 100). Processor time includes evaluation, over all threads. Shown below and in the picture: the "
        f"{shown} held-out rooms with most instances, as found with the first seed."
    )


def _shown_rooms(runs: list[Any], rooms: Path) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return name, points and labellings of the held-out rooms with most instances."""
    from influencer_mmdet3d.demo import compare

    shown = []
    order = sorted(range(len(runs[0].rooms)), key=lambda index: -int(runs[0].rooms[index]["instance"].max()))
    for number in order[:SHOWN_ROOMS]:
        name = runs[0].rooms[number]["name"]
        points = np.fromfile(rooms / "points" / f"{name}.bin", "<f4").reshape(-1, 6)
        views = {"truth": compare.truth(runs[0].rooms[number])}
        views |= {one.name: compare.prediction(one.rooms[number]) for one in runs}
        shown.append((name, points, views))
    return shown


def _summary(criterion: Any) -> str:
    """Say what was compared, with the weights that both criteria have."""
    by_class, bce, dice, score = criterion.loss_weight
    return (
        f"A query segmentor trains twice on the same rooms, with the same seed, samples, number of steps and loss "
        f"weights (class {by_class}, BCE {bce}, Dice {dice}, score {score}, no object {criterion.non_object_weight}). "
        f"What differs is how queries are assigned to instances: by Hungarian matching, or by influence, without a "
        f"matching solver and with start masks: the criterion is told which queries start inside which instance, as "
        f"OneFormer3D does for ScanNet. Predictions use no such knowledge."
    )


def _result(runs: list[Any], steps: int, objects: tuple[int, int], seconds: float) -> dict[str, Any]:
    from influencer_mmdet3d.demo.compare import found_instances
    from influencer_mmdet3d.demo.train import CRITERIA, by_criterion

    groups = by_criterion(runs)
    figures = []
    for name, group in groups.items():
        found, total = np.sum([found_instances(one.rooms) for one in group], axis=0)
        figures.append([f"instances found, {CRITERIA[name]}", f"{found} of {total}"])
    for key, title in (("ap50", "AP50"), ("ap", "AP"), ("ap25", "AP25")):
        for name, group in groups.items():
            values = [one.final[key] for one in group]
            spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
            figures.append([f"{title}, {CRITERIA[name]}", f"{np.mean(values):.3f}{spread}"])
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
