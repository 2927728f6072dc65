"""`robustness`: a model's figures while vehicles go missing, poses get worse and data late; curves in one page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from mapanything_opv2v.commands import evaluate, frames, options
from mapanything_opv2v.evaluation.options import EvaluationOptions
from mapanything_opv2v.terminal import DONE, FAILED

SWEEPS = {
    "drop_agents": ("vehicles that send nothing", (1, 2)),
    "pose_noise": ("error of given poses, m and degrees", (0.1, 0.2, 0.4, 0.8)),
    "time_offset": ("recorded frames that other vehicles are late", (1, 2, 4)),
}
"""What is varied: the axis of its curve, and values unless told; 0, nothing wrong, belongs to every curve."""


def add(commands: options.Commands) -> None:
    """Add the command."""
    parser = frames.add_command(
        commands,
        "robustness",
        "evaluate a model while other vehicles go missing, given poses get worse and data come late, and draw the "
        "curves in one page. Poses get worse only with --inputs pose. What is done is kept",
        "mapanything-opv2v robustness --checkpoint runs/stage2/checkpoint-best.pth --root ~/OPV2V --out robustness",
        run_robustness,
    )
    for name, (text, values) in SWEEPS.items():
        kind = float if name == "pose_noise" else int
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"{name}_list",
            nargs="*",
            type=kind,
            default=None,
            metavar="VALUE",
            help=f"{text} (default: {' '.join(f'{v:g}' for v in values)}; none leaves the curve out)",
        )
    parser.set_defaults(alignment=EvaluationOptions.alignment, keep_predictions=False)
    parser.set_defaults(drop_agents=0, pose_noise=0.0, time_offset=0)
    evaluate.add_baselines(parser)


def run_robustness(args: argparse.Namespace) -> int:
    """Evaluate every point and write the page; 1 if frames failed."""
    from mapanything_opv2v.files import write_json
    from mapanything_opv2v.views.robustness import write_robustness

    if args.predictions is not None or args.root is None:
        raise ValueError("robustness needs a model and a tree: --checkpoint or --model, and --root")
    points = list(_points(args))
    args.time_offset = max((value for name, value in points if name == "time_offset"), default=0)
    args.frames = frames.open_source(args).names  # every point is of the same frames
    args.time_offset = 0
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in points if name}
    failed: dict[str, str] = {}
    for name, value in points:
        changed = argparse.Namespace(**vars(args))
        changed.out = args.out / (f"{name}_{value:g}" if name else "nothing_wrong")
        if name:
            setattr(changed, name, value)
        summary = evaluate.evaluate_source(changed, frames.open_source(changed), EvaluationOptions())
        if summary is None:
            print(f"{args.out}: this process is done, others are not; the last one writes the page", file=sys.stderr)
            return DONE
        failed |= {f"{changed.out.name}: {frame}": text for frame, text in summary["failed"].items()}
        for curve in [name] if name else list(curves):
            curves[curve].append({"value": value, "figures": _means(summary)})
    for name, drawn in curves.items():
        print(f"{name}: {SWEEPS[name][0]}")
        for point in drawn:
            shown = (f"{f} {v['model']:.4g}" for f, v in point["figures"].items() if f in evaluate.SHOWN[:6])
            print(f"  {point['value']:g}: {', '.join(shown)}")
    write_json(args.out / "robustness.json", {"curves": curves, "failed": failed})
    write_robustness(args.out / "robustness.html", curves, {name: text for name, (text, _) in SWEEPS.items()})
    options.print_failed(failed)
    print(args.out / "robustness.html")
    return FAILED if failed else DONE


def _points(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Return what is varied and its value; nothing wrong first."""
    yield "", 0
    for name, (_, values) in SWEEPS.items():
        given = getattr(args, f"{name}_list")
        if name == "pose_noise" and "pose" not in args.inputs:
            if given:
                raise ValueError("--pose-noise: the model is given no poses; add --inputs pose")
            continue
        yield from ((name, value) for value in sorted(set(values if given is None else given)) if value)


def _means(summary: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return means by figure: the model's, and each baseline's under its name."""
    found = {}
    for figure, value in summary["figures"].items():
        if value["frames"]:
            found[figure] = {"model": value["mean"]}
            for name, baseline in summary["baselines"].items():
                mean = baseline.get("all_figures", {}).get(figure, {}).get("mean")
                if mean is not None:
                    found[figure][name] = mean
    return found
