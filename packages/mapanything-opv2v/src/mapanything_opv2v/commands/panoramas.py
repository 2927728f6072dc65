"""`panorama` and `prebuild`: one panorama to look at, all panoramas for a training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapanything_opv2v.commands import options
from mapanything_opv2v.terminal import DONE, FAILED

if TYPE_CHECKING:
    from mapanything_opv2v.geometry import Cylinder
    from mapanything_opv2v.panorama import Panorama, Rig
    from mapanything_opv2v.rawdata import TreeIndex
    from mapanything_opv2v.views.frame import View


def add(commands: options.Commands) -> None:
    """Add the commands."""
    _add_panorama(commands)
    _add_prebuild(commands)


def _add_panorama(commands: options.Commands) -> None:
    parser = options.add_command(
        commands,
        "panorama",
        "build one agent's panorama, or one of any rig (rig.yaml), and write page, picture, arrays and figures; or the "
        "page of a predictions file",
        "mapanything-opv2v panorama ~/OPV2V/train/SEQUENCE/641/000069.yaml --out panorama_out",
        run_panorama,
    )
    parser.add_argument(
        "yaml", type=Path, help="the agent's YAML, images beside it; or a rig.yaml, or a file of predictions (.npz)"
    )
    parser.add_argument("--frame", metavar="NAME", help="of a rig.yaml: which (default: the first)")
    parser.add_argument("--depth-dir", type=Path, help="folder of its depth maps, if not beside it")
    options.add_png_units(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    options.add_panorama_options(parser)


def run_panorama(args: argparse.Namespace) -> int:
    """Build one panorama and write page, pictures, arrays and figures; or the page of a predictions file."""
    import numpy as np

    from mapanything_opv2v import pictures, rawdata
    from mapanything_opv2v.files import whole_file, write_bytes, write_json
    from mapanything_opv2v.panorama.rig_file import is_rig_file
    from mapanything_opv2v.views import panels, sources

    page = args.out / "panorama.html"
    if args.yaml.suffix == ".npz":
        panels.write_panels(page, sources.load_predicted_frame(args.yaml))
        print(page)
        return DONE
    cylinder = options.cylinder(args)
    found = (_of_rig if is_rig_file(args.yaml) else _of_agent)(args, cylinder)
    made, view, with_depth = found.panorama, found.view, found.with_depth
    panels.write_panels(page, sources.raw_frame(args.yaml, [view]))
    figures: dict[str, Any] = {"covered": float(made.covered.mean()), "overlap_agreement": found.agreement}
    figures |= {"brightness_step": found.steps, "brightness_step_matched": found.matched}
    rows = [(f"colour ({made.covered.mean():.1%} covered)", made.color)]
    if with_depth:
        figures |= {name: float(getattr(made, name).mean()) for name in ("has_range", "sky", "filled")}
        shown = np.where(made.sky, np.float32(rawdata.SKY), made.range_m)
        rows += [
            (
                f"range ({made.has_range.mean():.1%}; red near, blue far, log scale 2 to 100 m)",
                pictures.color_ranges(shown),
            ),
            ("masks: range green, sky blue, colour only grey, filled orange", pictures.color_masks(made)),
        ]
    write_bytes(args.out / "panorama.png", pictures.encode_png(pictures.sheet(rows)))
    with whole_file(args.out / "panorama.npz") as stream:
        np.savez_compressed(stream, **{name: getattr(made, name) for name in made.__dataclass_fields__})
    write_json(args.out / "panorama.json", figures)
    shares = f"{made.covered.mean():.1%} covered, {made.has_range.mean():.1%} with range"
    print(f"{page}, panorama.png: {shares}")
    for pair, value in figures["overlap_agreement"].items():
        text = f"cameras {pair}: correlation {value:.2f} where they overlap"
        if pair in found.steps:
            done = "matched to" if args.match_exposure else "--match-exposure would leave"
            text += f", brightness differs by {found.steps[pair]:.1%} ({done} {found.matched[pair]:.1%})"
        print(text)
    return DONE


@dataclass(frozen=True)
class _Found:
    """What there is to show of one panorama."""

    panorama: Panorama
    view: View
    with_depth: bool
    agreement: dict[str, float]
    steps: dict[str, float]
    """By how much brightness differs between two cameras, by pair."""
    matched: dict[str, float]
    """The same after gains."""


def _of_agent(args: argparse.Namespace, cylinder: Cylinder) -> _Found:
    """Build the panorama of an agent's YAML."""
    from mapanything_opv2v import panorama, rawdata

    if args.frame is not None:
        raise ValueError(f"--frame {args.frame}: an agent's YAML is one frame; the option belongs to a rig.yaml")
    agent = rawdata.agent_beside(args.yaml, args.depth_dir)
    with_depth = not args.no_depth and bool(agent.depth_paths)
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    made = panorama.load_panorama(
        agent, cylinder, options.panorama_options(args), camera_ids=args.camera_ids, with_depth=with_depth, meta=meta
    )
    ids = list(agent.camera_paths) if args.camera_ids is None else list(args.camera_ids)
    files = [agent.camera_paths[number] for number in ids]
    images = [rawdata.load_image(path) for path in files]
    rig = panorama.Rig.from_agent(meta, [(image.shape[1], image.shape[0]) for image in images], ids, files)
    return _found(args, made, rig, images, [str(number) for number in ids], agent.agent_id, meta.lidar_pose, with_depth)


def _of_rig(args: argparse.Namespace, cylinder: Cylinder) -> _Found:
    """Build the panorama of a rig file's frame."""
    import numpy as np

    from mapanything_opv2v import panorama
    from mapanything_opv2v.panorama.rig_file import load_rig_file

    for name in ("depth_dir", "camera_ids"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')}: a rig.yaml says itself which cameras and files there are")
    rig = load_rig_file(args.yaml)
    frame = rig.frame(args.frame)
    with_depth = not args.no_depth and rig.has_depth
    images, depths = rig.images(frame), rig.depths(frame) if with_depth else None
    made = panorama.PanoramaBuilder(rig.rig, cylinder, options.panorama_options(args)).build(images, depths)
    return _found(args, made, rig.rig, images, rig.names, 0, np.zeros(6), with_depth)


def _found(
    args: argparse.Namespace,
    made: Panorama,
    rig: Rig,
    images: Sequence[Any],
    names: Sequence[str],
    agent_id: int,
    lidar_pose: Any,
    with_depth: bool,
) -> _Found:
    from mapanything_opv2v.panorama import PanoramaBuilder, exposure
    from mapanything_opv2v.panorama.overlap import overlap_agreement
    from mapanything_opv2v.views import sources

    cylinder = options.cylinder(args)
    ratios = PanoramaBuilder(rig, cylinder, options.panorama_options(args)).brightness_ratios(images)
    gains = exposure.camera_gains(ratios, len(images))

    def named(values: dict[tuple[int, int], float]) -> dict[str, float]:
        return {f"{names[i]}-{names[j]}": value for (i, j), value in values.items()}

    return _Found(
        panorama=made,
        view=sources.panorama_view(made, agent_id, cylinder, lidar_pose, with_depth=with_depth),
        with_depth=with_depth,
        agreement=named(overlap_agreement(rig, images)),
        steps=named(exposure.steps(ratios)),
        matched=named(exposure.steps(ratios, gains)),
    )


def _add_prebuild(commands: options.Commands) -> None:
    parser = options.add_command(
        commands,
        "prebuild",
        "build all panoramas once and keep them on disk; those that are there are kept",
        "mapanything-opv2v prebuild ~/OPV2V --depth-root ~/OPV2V_depth --cache ~/OPV2V_panoramas --workers 8",
        run_prebuild,
    )
    options.add_tree_options(parser)
    options.add_workers(parser)
    parser.add_argument("--cache", type=Path, required=True, help="folder to keep them in")
    options.add_panorama_options(parser)


def _require_depth(index: TreeIndex) -> None:
    """Refuse splits of which no image has a depth map: every panorama of theirs would fail."""
    bare = [split for split, frames in index.splits.items() if len(frames) and not frames.any_depth()]
    if bare:
        rest = [split for split in index.splits if split not in bare]
        raise ValueError(
            f"no depth maps of {', '.join(bare)} in {index.depth_root}; make them with "
            f"`mapanything-opv2v depth {index.root} --out DEPTH_ROOT --splits {' '.join(bare)}`, or build "
            + (f"the others only (--splits {' '.join(rest)}), or " if rest else "")
            + "colours only (--no-depth)"
        )


def run_prebuild(args: argparse.Namespace) -> int:
    """Fill the panorama cache; 1 if some could not be made."""
    from mapanything_opv2v import jobs, panorama

    cache = panorama.PanoramaCache(
        args.cache,
        options.cylinder(args),
        options.panorama_options(args),
        None if args.camera_ids is None else tuple(args.camera_ids),
        not args.no_depth,
    )
    index = options.tree_index(args)
    if not args.no_depth:
        _require_depth(index)
    with jobs.place(args.workers, args.scheduler) as place:
        done = panorama.prebuild(index, cache, workers=place.workers, executor=place.executor, progress=not args.quiet)
    options.print_failed(done.failed)
    print(f"{done.built} panoramas built, {done.skipped} were there, {len(done.failed)} failed: {done.home}")
    return FAILED if done.failed else DONE
