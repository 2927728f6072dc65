"""The scripts of the research notes: their flags, carried out by this package's commands. `tools/opv2v` names each.

A script that is given none of the notes' flags is its command. Flags that a script does not know go on to the command.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mapanything_opv2v.terminal import DONE, REFUSED, Parser

if TYPE_CHECKING:
    from mapanything_opv2v.rawdata import FrameRecord

Words = Sequence[str]


def main(script: Callable[[Words], int]) -> int:
    """Run a script on the command line's words; return its exit status."""
    try:
        return script(sys.argv[1:])
    except (ValueError, OSError, ImportError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return REFUSED


def check(words: Words) -> int:
    """`check_opv2v.py --root ROOT`: `check`."""
    return _with_root("check", words)


def tree(words: Words) -> int:
    """`tree.py [--root] ROOT`: `tree`."""
    return _with_root("tree", words)


def panorama_preview(words: Words) -> int:
    """`opv2v_panorama_preview.py --root --depth_root --split --index --output_dir`: `panorama` of one frame."""
    parser = script_parser("opv2v_panorama_preview.py", "build and show the panorama of a frame's first vehicle")
    add_tree(parser)
    _add_index(parser)
    parser.add_argument("--output-dir", type=Path, help="folder for panorama.html, .png, .npz, .json")
    args, rest = parser.parse_known_args(words)
    if args.output_dir is None:
        return run_command("panorama", *words)
    agent = _frame(args).agents[0]
    depth = [] if not agent.depth_paths else ["--depth-dir", next(iter(agent.depth_paths.values())).parent]
    return run_command("panorama", agent.yaml_path, *depth, "--out", args.output_dir, *rest)


def cylinder_page(words: Words) -> int:
    """`visualize_opv2v_cyl_html.py --split --index --output-html`: the page of all panoramas of a frame."""
    parser = script_parser("visualize_opv2v_cyl_html.py", "write the page of a frame's panoramas: colour, range, masks")
    add_tree(parser)
    _add_index(parser)
    parser.add_argument("--output-html", type=Path, required=True, help="the page")
    args = parser.parse_args(words)
    from mapanything_opv2v.views import panels, sources

    raw = sources.RawOptions(depth_root=depth_root_of(args), layout="panorama")
    frame = sources.load_raw_frame(_frame(args).agents[0].yaml_path, raw)
    panels.write_panels(args.output_html, frame)
    print(f"{args.output_html}: {len(frame.views)} panoramas of {frame.name}")
    return DONE


def pose(words: Words) -> int:
    """`visualize_opv2v_pose.py --dataset_root --split --sequence --agent --frame --output`: `rig` of one frame."""
    parser = script_parser("visualize_opv2v_pose.py", "show the camera poses and vehicle boxes of a frame")
    add_tree(parser, "--dataset-root")
    parser.add_argument("--split", default="train", help="default: %(default)s")
    for name in ("--sequence", "--agent", "--frame"):
        parser.add_argument(name, help="default: the first there is")
    parser.add_argument("--output", type=Path, help="folder for rig.html and rig.png, or the name of one of them")
    args, rest = parser.parse_known_args(words)
    if args.output is None:
        return run_command("rig", *words)
    yaml = _named_yaml(args)
    depth = [] if depth_root_of(args) is None else ["--depth-root", depth_root_of(args)]
    if args.output.suffix not in (".html", ".png"):
        return run_command("rig", yaml, *depth, "--out", args.output, *rest)
    status = run_command("rig", yaml, *depth, "--out", args.output.parent, *rest)
    if status == DONE:
        args.output.with_name(f"rig{args.output.suffix}").replace(args.output)
        print(args.output)
    return status


def depth_ge(words: Words) -> int:
    """`depth_ge.py`: what a model predicts, as depth (.npy), masks and clouds (.pcd)."""
    return run_command("predict", *words, *([] if "--export" in words else ["--export", "depth", "mask", "pcd"]))


def pcd_with_boxes(words: Words) -> int:
    """`pcd_with_boxes.py --pred_pcd --gt_pcd --no_gui`: both clouds, and the sweep with the frame's boxes."""
    parser = script_parser(
        "pcd_with_boxes.py", "show a predicted cloud against a LiDAR sweep, and the sweep with boxes"
    )
    parser.add_argument("--pred-pcd", type=Path, help="predicted cloud, in view 0's camera axes")
    parser.add_argument("--gt-pcd", type=Path, help="sweep; boxes come from the .yaml beside it, if there is one")
    parser.add_argument("--no-gui", action="store_true", help="do not open the pages in a browser")
    parser.add_argument("--out", type=Path, default=Path("pcd_with_boxes"), help="folder (default: %(default)s)")
    args, rest = parser.parse_known_args(words)
    if args.pred_pcd is None or args.gt_pcd is None:
        if args.pred_pcd or args.gt_pcd or args.no_gui:
            raise ValueError("give --pred_pcd and --gt_pcd, both; or a frame's .yaml and --out, without --no_gui")
        return run_command("pointcloud", "--points", "lidar", *words)
    axes = [] if "--axes" in rest else ["--axes", "opencv", "carla"]
    status = run_command("compare", args.pred_pcd, args.gt_pcd, "--out", args.out, *axes, *rest)
    pages = [args.out / "compare.html"]
    yaml = args.gt_pcd.with_suffix(".yaml")
    if status == DONE and yaml.is_file():
        status = run_command("pointcloud", yaml, "--points", "lidar", "--agents", yaml.parent.name, "--out", args.out)
        pages.append(args.out / "pointcloud.html")
    return status if status or args.no_gui else _show(pages)


def compare(words: Words) -> int:
    """`compare_pointclouds.py`: `compare`."""
    return run_command("compare", *words)


def visualize(words: Words) -> int:
    """`visualize.py SOURCE --out DIR`: `pointcloud` of a frame, or a cloud's file alone as both sides of `compare`."""
    clouds = [word for word in words if word.endswith((".pcd", ".ply", ".npy"))]
    if len(clouds) != 1:
        return run_command("pointcloud", *words)
    where = list(words).index(clouds[0])
    return run_command("compare", *words[:where], clouds[0], clouds[0], *words[where + 1 :])


def divided(words: Words) -> int:
    """`devided_pointclouds.py SOURCE --out DIR`: the cloud of every vehicle of a frame, a .pcd each."""
    parser = script_parser("devided_pointclouds.py", "write the cloud of every vehicle of a frame as a .pcd of its own")
    parser.add_argument("source", type=Path, help="a file of predictions (.npz), or an agent's .yaml")
    parser.add_argument("--out", "--output-dir", type=Path, required=True, help="folder for agentID.pcd")
    parser.add_argument("--depth-root", type=Path, help="raw frames: tree of depth maps")
    parser.add_argument("--point-pose-source", choices=("pred", "gt"), help="whose poses place the points")
    parser.add_argument("--max-points", type=int, default=1_000_000, help="of all vehicles (default: %(default)s)")
    args = parser.parse_args(words)
    import numpy as np

    from mapanything_opv2v.rawdata import save_colored_pcd
    from mapanything_opv2v.views import pointcloud, sources

    raw = sources.RawOptions(depth_root=args.depth_root) if args.source.suffix == ".yaml" else None
    frame = sources.load_frame(args.source, raw)
    parts = pointcloud.frame_points(frame, "depth", frame.pose_source(args.point_pose_source), args.max_points)
    for agent in dict.fromkeys(part.agent_id for part in parts):
        clouds = [part.cloud for part in parts if part.agent_id == agent]
        xyz, rgb = (np.concatenate([getattr(cloud, name) for cloud in clouds]) for name in ("xyz", "rgb"))
        save_colored_pcd(args.out / f"agent{agent}.pcd", xyz.astype(np.float32), rgb)
        print(f"{args.out / f'agent{agent}.pcd'}: {len(xyz)} points")
    return DONE


def run_command(*words: object) -> int:
    """Run `mapanything-opv2v` with these words; return its exit status."""
    from mapanything_opv2v.cli import main as run

    return run([str(word) for word in words])


def _with_root(command: str, words: Words) -> int:
    parser = script_parser(f"{command}.py", "")
    parser.add_argument("--root", type=Path)
    args, rest = parser.parse_known_args(words)
    if {"-h", "--help"} & set(words):
        print(f"--root ROOT stands for ROOT; the rest is `mapanything-opv2v {command}`:\n")
    return run_command(command, *([] if args.root is None else [args.root]), *rest)


def script_parser(name: str, text: str) -> Parser:
    """Return the parser of a script's own flags."""
    known = f"{text}. Other flags go on to the command that tools/README.md names." if text else None
    return Parser(prog=name, description=known, allow_abbrev=False, add_help=bool(text))


def add_tree(parser: argparse.ArgumentParser, name: str = "--root") -> None:
    """Add what names the data set."""
    parser.add_argument(name, dest="root", type=Path, help="the data set (default: OPV2V_ROOT)")
    parser.add_argument("--depth-root", type=Path, help="tree of depth maps (default: OPV2V_DEPTH_ROOT, or beside)")


def _add_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", default="train", help="default: %(default)s")
    parser.add_argument("--index", type=int, default=0, help="number of the frame in the split (default: %(default)s)")


def root_of(args: argparse.Namespace) -> Path:
    """Return the tree that the options or OPV2V_ROOT name."""
    if args.root is None and not os.environ.get("OPV2V_ROOT"):
        raise ValueError("which data set? Give its folder, or export OPV2V_ROOT")
    return args.root or Path(os.environ["OPV2V_ROOT"])


def depth_root_of(args: argparse.Namespace) -> Path | None:
    """Return the tree of depth maps that the options or OPV2V_DEPTH_ROOT name; None is beside the images."""
    named = os.environ.get("OPV2V_DEPTH_ROOT")
    return args.depth_root or (Path(named) if named else None)


def split_frames(args: argparse.Namespace, split: str) -> Sequence[FrameRecord]:
    """Return the frames of a split, with their depth maps."""
    from mapanything_opv2v.rawdata import index_tree

    return index_tree(root_of(args), depth_root=depth_root_of(args), splits=[split]).splits[split]


def _frame(args: argparse.Namespace) -> FrameRecord:
    frames = split_frames(args, args.split)
    if not 0 <= args.index < len(frames):
        raise ValueError(f"--index {args.index}: {args.split} has {len(frames)} frames, 0 to {len(frames) - 1}")
    return frames[args.index]


def _named_yaml(args: argparse.Namespace) -> Path:
    """Return the YAML of a sequence, agent and frame; the first there is of what is not named."""
    folder = root_of(args) / args.split
    for what, name in (("sequence", args.sequence), ("agent", args.agent)):
        there = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        if not there or (name is not None and name not in there):
            raise ValueError(f"no --{what} {name or ''} in {folder}; there: {', '.join(there[:8]) or 'none'}")
        folder /= name or there[0]
    frames = sorted(path.stem for path in folder.glob("*.yaml"))
    if not frames or (args.frame is not None and args.frame not in frames):
        raise ValueError(f"no --frame {args.frame or ''} in {folder}; there: {', '.join(frames[:8]) or 'none'}")
    return folder / f"{args.frame or frames[0]}.yaml"


def _show(pages: Sequence[Path]) -> int:
    import webbrowser

    for page in pages:
        if not webbrowser.open(page.resolve().as_uri()):
            print(f"{page}: no browser could be opened here (--no_gui asks for none)")
    return DONE
