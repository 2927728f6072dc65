"""The scripts of the research notes that look at samples of a training, or at a model's view of one."""

from __future__ import annotations

import argparse
import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mapanything_opv2v.commands.notes import (
    Words,
    add_tree,
    depth_root_of,
    root_of,
    run_command,
    script_parser,
    split_frames,
)
from mapanything_opv2v.kinds import DATASETS, ELEVATION_CENTER_DEG, PANORAMA_SIZE, VERTICAL_FOV_DEG
from mapanything_opv2v.terminal import DONE, FAILED

CAMERAS = (0, 1, 2, 3)


def validate_setup(words: Words) -> int:
    """`validate_opv2v_cyl_setup.py --splits --num-samples --verbose`: what the cylindrical training will be given.

    A line for every sample: views, camera model, panorama size, means of the valid and the non-ambiguous mask, images
    that became panoramas. The status is 1 if a sample cannot be made, or has no valid pixel.
    """
    parser = script_parser(
        "validate_opv2v_cyl_setup.py", "build samples of the cylindrical training and say what they hold"
    )
    add_tree(parser)
    parser.add_argument("--splits", nargs="+", default=["train", "validate"], help="default: train validate")
    parser.add_argument(
        "--num-samples", type=int, default=2, help="of each split, evenly spread (default: %(default)s)"
    )
    parser.add_argument("--num-views", type=int, default=4, help="vehicles of a sample at most (default: %(default)s)")
    parser.add_argument("--panorama-resolution", nargs=2, type=int, default=PANORAMA_SIZE, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--verbose", action="store_true", help="a line for every view too")
    args = parser.parse_args(words)
    if args.num_samples < 1 or args.num_views < 1:
        raise ValueError("--num-samples and --num-views: expected at least 1")
    failed = made = 0
    for split in args.splits:
        frames = split_frames(args, split)
        step = max(1, len(frames) // args.num_samples)
        for number in range(0, len(frames), step)[: args.num_samples]:
            made += 1
            try:
                for line in _sample_lines(frames[number], args):
                    print(line)
            except ValueError as error:
                failed += 1
                print(f"{split} sample {number}: {error}")
    print(f"{made} samples checked, {failed} failed")
    return FAILED if failed or not made else DONE


def _sample_lines(frame: Any, args: argparse.Namespace) -> Iterator[str]:
    """Yield what a sample holds; ValueError if it cannot be made or teaches nothing."""
    from mapanything_opv2v.geometry import Cylinder
    from mapanything_opv2v.panorama import PanoramaOptions
    from mapanything_opv2v.samples.loading import load_meta, load_panorama_view

    cylinder = Cylinder.from_size(tuple(args.panorama_resolution), VERTICAL_FOV_DEG, ELEVATION_CENTER_DEG)
    agents = [agent for agent in frame.agents if set(CAMERAS) <= set(agent.camera_paths)][: args.num_views]
    if not agents:
        raise ValueError(f"{frame.name}: no agent has the cameras {', '.join(map(str, CAMERAS))}")
    views = {}
    for agent in agents:
        meta = load_meta(frame, agent.agent_id)
        made = load_panorama_view(frame, meta, agent.agent_id, CAMERAS, cylinder, PanoramaOptions())
        views[agent.agent_id] = float((made.range_m > 0).mean()), float(made.non_ambiguous.mean())
    valid, clear = (sum(values) / len(views) for values in zip(*views.values()))
    width, height = args.panorama_resolution
    yield (
        f"{frame.name}: views={len(views)} camera_model=cylindrical panorama={width}x{height} "
        f"valid_mask_mean={valid:.4f} non_ambiguous_mask_mean={clear:.4f} "
        f"images {len(CAMERAS) * len(views)} -> panoramas {len(views)}"
    )
    if args.verbose:
        for agent_id, (own, own_clear) in views.items():
            yield f"  agent {agent_id}: valid_mask_mean={own:.4f} non_ambiguous_mask_mean={own_clear:.4f}"
    if not valid:
        raise ValueError(f"{frame.name}: no pixel has a range; are the depth maps empty?")


def render_pointcloud(words: Words) -> int:
    """`render_pointcloud_html.py --checkpoint ...`: predict a sample and show it; without, `pointcloud`."""
    if not {"--checkpoint", "-h", "--help"} & set(words):
        return run_command("pointcloud", *words)
    args = _render_parser().parse_args(words)
    from mapanything_opv2v.files import read_json, write_json
    from mapanything_opv2v.views.figures import write_figures
    from mapanything_opv2v.views.pointcloud import write_pointcloud
    from mapanything_opv2v.views.sources import load_predicted_frame

    path = _predict(args)
    frame = load_predicted_frame(path)
    page = args.output_dir / "pointcloud.html"
    source = frame.pose_source(args.point_pose_source)
    count = write_pointcloud(page, frame, pose_source=source, max_points=args.max_points)
    summary = write_figures(args.view_output_dir or args.output_dir, frame, source)
    if args.debug_summary_json is not None:
        write_json(args.debug_summary_json, read_json(summary))
    print(f"{path}: predictions of {frame.name}")
    print(f"{page}: {count} points of {len(frame.views)} views, {'predicted' if source == 'pred' else 'true'} poses")
    print(f"{args.debug_summary_json or summary}: masks, pose, scale and depth error, bounds")
    return DONE


def _render_parser() -> argparse.ArgumentParser:
    parser = script_parser("render_pointcloud_html.py", "predict one sample with a checkpoint and show it as a cloud")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="the run's .hydra/config.yaml: model and data as it says")
    parser.add_argument("--output-dir", type=Path, required=True, help="for pointcloud.html and the predictions")
    parser.add_argument("--view-output-dir", type=Path, help="for views/ and summary.json (default: the output folder)")
    parser.add_argument("--debug-summary-json", type=Path, help="another name for summary.json")
    parser.add_argument("--val-index", type=int, default=0, help="number of the sample (default: %(default)s)")
    parser.add_argument("--point-pose-source", choices=("pred", "gt"), help="whose poses place the points")
    add_tree(parser)
    parser.add_argument("--split", default="validate", help="default: %(default)s")
    parser.add_argument("--dataset", choices=DATASETS, help="default: the config's, else OPV2VCoopDataset")
    parser.add_argument("--num-views", type=int, help="default: the config's for validation, else 4")
    parser.add_argument("--resolution", nargs=2, type=int, metavar=("WIDTH", "HEIGHT"), help="default: the config's")
    parser.add_argument("--max-points", type=int, default=200_000, help="default: %(default)s")
    parser.add_argument("--device", help="default: the GPU if there is one, else cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="default: %(default)s")
    return parser


def _predict(args: argparse.Namespace) -> Path:
    """Predict the sample and return the file."""
    from mapanything_opv2v.host.register import register

    register()  # first: it says what is wrong with the host
    import torch

    from mapanything_opv2v.host.models import from_checkpoint, predicting
    from mapanything_opv2v.predictions import save_predictions

    found = {} if args.config is None else _of_config(args.config)
    if args.root is None and not os.environ.get("OPV2V_ROOT") and "root" in found:
        args.root, args.depth_root = found["root"], args.depth_root or found["depth_root"]
    size = args.resolution or found.get("resolution")
    data = predicting.DataOptions(
        root=root_of(args),
        depth_root=depth_root_of(args),
        dataset=args.dataset or found.get("dataset", "OPV2VCoopDataset"),
        split=args.split,
        num_views=args.num_views or found.get("num_views", 4),
        resolution=None if size is None else (int(size[0]), int(size[1])),
    )
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = from_checkpoint.load_model(args.checkpoint, device, args.config)
    dataset = predicting.open_dataset(data, loaded.data_norm_type)
    if not 0 <= args.val_index < len(dataset):
        raise ValueError(f"--val-index {args.val_index}: {args.split} has {len(dataset)} samples")
    failed: dict[str, str] = {}
    items = predicting.predict_samples(
        loaded, dataset, [args.val_index], on_failure=failed.__setitem__, precision=args.precision
    )
    for _, made in items:
        return save_predictions(args.output_dir, made)
    raise ValueError("; ".join(f"{name}: {message}" for name, message in failed.items()))


def _of_config(path: Path) -> dict[str, Any]:
    """Return the data of a run's composed config that a validation reads."""
    from hydra_plugins.mapanything_opv2v_search_path.search_path import activate
    from omegaconf import OmegaConf

    activate()  # the resolvers of the configs
    config = OmegaConf.load(path)
    values = {
        "dataset": "dataset.opv2v.class_name",
        "num_views": "dataset.opv2v.val.num_views",
        "resolution": "dataset.opv2v.val.resolution",
        "root": "dataset.opv2v.ROOT",
        "depth_root": "dataset.opv2v.depth_root",
    }
    found = {name: OmegaConf.select(config, key) for name, key in values.items()}
    found = {name: value for name, value in found.items() if value is not None}
    if isinstance(found.get("resolution"), str):
        found["resolution"] = ast.literal_eval(found["resolution"])
    for name in ("root", "depth_root"):
        found[name] = Path(found[name]) if name in found else None
    return found
