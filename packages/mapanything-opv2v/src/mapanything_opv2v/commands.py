"""What the subcommands do; prints for people, returns the exit status."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from mapanything_opv2v import checks, cli_eval, cli_views, cluster, depth, panorama, pictures, rawdata, synthetic
from mapanything_opv2v.files import whole_file, write_bytes, write_json
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.rawdata.tree import summarise
from mapanything_opv2v.views import panels, sources


def run(args: argparse.Namespace) -> int:
    """Run the subcommand that `cli` has parsed."""
    if args.command in cli_views.COMMANDS:
        return cli_views.run(args)
    if args.command == "demo":
        from mapanything_opv2v import demo

        return demo.run(args.out, args.seed, args.real_frame)
    handlers = {
        "tree": run_tree,
        "check": run_check,
        "depth": run_depth,
        "panorama": run_panorama,
        "prebuild": run_prebuild,
        "synthetic": run_synthetic,
        "evaluate": cli_eval.run,
        "infer": cli_eval.run,
    }
    return handlers[args.command](args)


def run_tree(args: argparse.Namespace) -> int:
    """Print what a tree holds."""
    rows = summarise(_index(args), _positive(args.max_scenes, "--max_scenes"))
    for row in rows:
        agents = ", ".join(f"{count} frames with {number}" for number, count in row["agents"].items()) or "none"
        print(
            f"{row['split']}: {row['sequences']} sequences, {row['scenes']} frames, {row['images']} images, "
            f"{row['sweeps']} sweeps, {row['depth_maps']} depth maps; agents: {agents}"
        )
    print(f"{sum(row['scenes'] for row in rows)} scenes")
    if args.json is not None:
        write_json(args.json, rows)
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Check a tree; 1 if anything is wrong."""
    options = checks.CheckOptions(need_depth=args.need_depth, need_lidar=not args.no_lidar, cameras=args.cameras)
    with cluster.place(args.workers, args.scheduler) as place:
        report = checks.check_tree(
            _index(args),
            options,
            max_scenes=_positive(args.max_scenes, "--max_scenes"),
            workers=place.workers,
            executor=place.executor,
            progress=not args.quiet,
        )
    for problem in report.problems[: args.show]:
        print(f"{problem} ({problem.file})")
    if len(report.problems) > args.show:
        print(f"... and {len(report.problems) - args.show} more; --json FILE has all of them")
    for split, agents in report.agents_per_frame.items():
        counts = ", ".join(f"{count} x {number}" for number, count in agents.items())
        views = ", ".join(f"{count} x {number}" for number, count in report.cameras_per_frame[split].items())
        print(f"{split}: frames x agents {counts}; frames x views {views}")
    for split, seen in report.depth_coverage.items():
        print(
            f"{split}: depth on {seen['mean']:.1%} of the pixels "
            f"({seen['lowest']:.1%} to {seen['highest']:.1%}, {seen['maps']:.0f} maps)"
        )
    for split, pairs in report.overlap_agreement.items():
        text = ", ".join(f"{pair}: {value:.2f}" for pair, value in pairs.items())
        print(f"{split}: median correlation of cameras where they overlap {text}")
    if report.max_position_error_m is not None:
        print(
            f"camera against LiDAR by the files' own extrinsic: at most {report.max_position_error_m:.4f} m, "
            f"{report.max_angle_error_deg:.4f} degrees"
        )
    print(f"{report.scenes} scenes, {report.files} files read, {len(report.problems)} problems")
    if args.json is not None:
        write_json(args.json, report.to_json())
    return 1 if report.problems else 0


def run_depth(args: argparse.Namespace) -> int:
    """Write depth maps from LiDAR; 1 if some could not be made."""
    options = depth.DepthOptions(sweeps=args.sweeps, hide_px=args.hide_px, suffix=f".{args.format}")
    with cluster.place(args.workers, args.scheduler) as place:
        summary = depth.write_depths(
            _index(args),
            args.out,
            options,
            overwrite=args.overwrite,
            workers=place.workers,
            executor=place.executor,
            progress=not args.quiet,
        )
    _print_failed(summary.failed)
    print(
        f"{summary.written} depth maps written ({summary.coverage:.2%} of their pixels known), "
        f"{summary.skipped} were there, {len(summary.failed)} agents failed"
    )
    return 1 if summary.failed else 0


def run_prebuild(args: argparse.Namespace) -> int:
    """Fill the panorama cache; 1 if some could not be made."""
    cache = panorama.PanoramaCache(
        args.cache,
        _cylinder(args),
        _options(args),
        None if args.camera_ids is None else tuple(args.camera_ids),
        not args.no_depth,
    )
    with cluster.place(args.workers, args.scheduler) as place:
        done = panorama.prebuild(
            _index(args), cache, workers=place.workers, executor=place.executor, progress=not args.quiet
        )
    _print_failed(done.failed)
    print(f"{done.built} panoramas built, {done.skipped} were there, {len(done.failed)} failed: {done.home}")
    return 1 if done.failed else 0


def run_panorama(args: argparse.Namespace) -> int:
    """Build one panorama and write page, pictures, arrays and figures; or the page of a predictions file."""
    page = args.out / "panorama.html"
    if args.yaml.suffix == ".npz":
        panels.write_panels(page, sources.load_predicted_frame(args.yaml))
        print(page)
        return 0
    agent = rawdata.agent_beside(args.yaml, args.depth_dir)
    cylinder, with_depth = _cylinder(args), not args.no_depth and bool(agent.depth_paths)
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    made = panorama.load_panorama(
        agent, cylinder, _options(args), camera_ids=args.camera_ids, with_depth=with_depth, meta=meta
    )
    view = sources.panorama_view(made, agent.agent_id, cylinder, meta.lidar_pose, with_depth=with_depth)
    panels.write_panels(page, sources.raw_frame(args.yaml, [view]))
    figures: dict[str, Any] = {
        "covered": float(made.covered.mean()),
        "overlap_agreement": agreement(agent, args.camera_ids),
    }
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
        print(f"cameras {pair}: correlation {value:.2f} where they overlap")
    return 0


def agreement(agent: rawdata.AgentRecord, camera_ids: list[int] | None) -> dict[str, float]:
    """Return how well an agent's cameras agree where they overlap, by ``"i-j"``."""
    ids = sorted(agent.camera_paths) if camera_ids is None else camera_ids
    images = [rawdata.load_image(agent.camera_paths[number]) for number in ids]
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    rig = panorama.Rig.from_agent(meta, [(image.shape[1], image.shape[0]) for image in images], ids)
    found = panorama.overlap_agreement(rig, images)
    return {f"{ids[i]}-{ids[j]}": value for (i, j), value in found.items()}


def run_synthetic(args: argparse.Namespace) -> int:
    """Write a synthetic town."""
    truth = synthetic.write_town(
        args.out,
        seed=args.seed,
        sequences=args.sequences,
        frames=args.frames,
        agents=args.agents,
        infrastructure=args.infrastructure,
        splits=args.splits,
        depth_root=args.depth_root,
        image_size=tuple(args.image_size),
        progress=True,
    )
    print(f"{truth.root}: {', '.join(truth.splits)}, agents {', '.join(map(str, truth.agents))}")
    return 0


def _index(args: argparse.Namespace) -> rawdata.TreeIndex:
    return rawdata.index_tree(args.root, depth_root=args.depth_root, splits=args.splits, cache_dir=args.index_cache)


def _cylinder(args: argparse.Namespace) -> Cylinder:
    return Cylinder.from_size(
        args.panorama_resolution, args.panorama_vertical_fov_deg, args.panorama_elevation_center_deg
    )


def _options(args: argparse.Namespace) -> panorama.PanoramaOptions:
    return panorama.PanoramaOptions(
        projection_radius_m=args.projection_radius_m,
        ground_height_m=args.ground_height_m,
        feather_deg=args.feather_deg,
        antialias=not args.no_antialias,
        refine_range=not args.no_refine,
        fill_radius_px=args.fill_radius_px,
    )


def _positive(value: int | None, name: str) -> int | None:
    if value is not None and value < 1:
        raise ValueError(f"{name} {value}: expected at least 1")
    return value


def _print_failed(failed: dict[str, str]) -> None:
    for where, message in failed.items():
        print(f"{where}: {message}")
