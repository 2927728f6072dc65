"""`mapanything-opv2v demo`: a synthetic town from raw files to panoramas, shown against the truth."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mapanything_opv2v import checks, depth, panorama, pictures, rawdata, synthetic
from mapanything_opv2v.demo import learned, recorded, tiny_model
from mapanything_opv2v.demo.page import SYNTHETIC, Story, page_html
from mapanything_opv2v.files import write_bytes, write_json
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.kinds import PANORAMA_SIZE
from mapanything_opv2v.synthetic import accuracy
from mapanything_opv2v.terminal import DONE, FAILED
from mapanything_opv2v.views import bev, panels, pointcloud, poses
from mapanything_opv2v.views.sources import RawOptions, load_frame, load_raw_frame

CYLINDER = Cylinder(*PANORAMA_SIZE)


def make_demo(out: Path, seed: int, real_frame: Path | None, *, quiet: bool = False) -> int:
    """Make the demo; return the exit status (1 if the check finds a problem in the town)."""
    started, story = time.monotonic(), Story(quiet)
    truth = synthetic.write_town(
        out / "town", seed=seed, frames=1, agents=3, depth_root=out / "dense_depth", progress=not quiet
    )
    sparse = depth.write_depths(rawdata.index_tree(truth.root), out / "lidar_depth", progress=not quiet)
    if sparse.failed:
        raise ValueError(f"LiDAR depth failed: {sparse.failed}")
    dense_index = rawdata.index_tree(truth.root, depth_root=truth.depth_root)
    problems = _check(dense_index, story)
    split, sequence, frame = next(truth.jobs())
    record = dense_index.splits[split][0]
    sparse_record = rawdata.index_tree(truth.root, depth_root=out / "lidar_depth").splits[split][0]
    overview = _against_truth(truth, (split, sequence, frame), record, sparse_record, story)
    _masks_and_speed(out, dense_index, record, story)
    _look(out, truth, record, story)
    _model(out, seed, story)
    if real_frame is not None:
        _real(real_frame, story)
    write_bytes(out / "overview.png", pictures.encode_png(overview))
    seconds = time.monotonic() - started
    write_bytes(out / "index.html", page_html(story, seconds).encode())
    result = {
        "package": "mapanything-opv2v",
        "title": "Panoramas of a synthetic town against ray-cast truth",
        "page": "index.html",
        "picture": "overview.png",
        "figures": [list(pair) for pair in story.figures],
        "synthetic": SYNTHETIC,
        "seconds": round(seconds, 1),
    }
    write_json(out / "result.json", result)
    print(f"{out / 'index.html'} ({seconds:.0f} s)")
    return FAILED if problems else DONE


def _check(index: rawdata.TreeIndex, story: Story) -> int:
    """Check the town like a download; return the number of problems."""
    report = checks.check_tree(index, checks.CheckOptions(need_depth=True), progress=not story.quiet)
    story.figure("Files checked", f"{report.files} in {report.agent_frames} agent frames")
    story.figure("Problems found", str(len(report.problems)))
    text = "\n".join(map(str, report.problems)) or "No problem found."
    story.sections.append(("Check of the written tree", text, None))
    return len(report.problems)


def _against_truth(
    truth: synthetic.TownTruth,
    where: tuple[str, str, str],
    record: rawdata.FrameRecord,
    sparse_record: rawdata.FrameRecord,
    story: Story,
) -> pictures.Picture:
    """Compare every agent's panorama with the truth; return the overview picture."""
    options = panorama.PanoramaOptions()
    dense_errors, sparse_errors, psnr = [], [], []
    overview = None
    for agent, sparse_agent in zip(record.agents, sparse_record.agents):
        true = truth.panorama(*where, agent.agent_id, CYLINDER)
        dense = panorama.load_panorama(agent, CYLINDER, options)
        sparse = panorama.load_panorama(sparse_agent, CYLINDER, options)
        dense_errors.append(accuracy.range_errors(dense, true))
        sparse_errors.append(accuracy.range_errors(sparse, true))
        psnr.append(accuracy.psnr_db(dense.color, true.color, dense.covered))
        picture = _rows(dense, sparse, true)
        overview = picture if overview is None else overview
        story.sections.append((f"Agent {agent.agent_id}", "Seen from the vehicle's LiDAR.", picture))
    assert overview is not None
    for name, errors in (("dense depth", dense_errors), ("LiDAR depth", sparse_errors)):
        median, mean, relative = np.mean([(e.median_m, e.mean_m, e.median_relative) for e in errors], axis=0)
        text = f"median {median:.4f} m, mean {mean:.3f} m, median relative {relative:.3%}"
        story.figure(f"Range error, {name}", text)
    story.figure("Colour PSNR where covered", f"{np.mean(psnr):.1f} dB (parallax of a 20 m projection included)")
    return overview


def _rows(dense: panorama.Panorama, sparse: panorama.Panorama, true: synthetic.TruePanorama) -> pictures.Picture:
    sky = np.float32(rawdata.SKY)
    error = np.abs(dense.range_m - true.range_m)
    return pictures.sheet(
        [
            ("truth: colour", true.color),
            (f"panorama from four cameras: colour, {dense.covered.mean():.1%} covered", dense.color),
            (
                "truth: range (red near, blue far, logarithmic from 2 to 100 m)",
                pictures.color_ranges(np.where(true.sky, sky, true.range_m)),
            ),
            ("range from dense depth", pictures.color_ranges(np.where(dense.sky, sky, dense.range_m))),
            ("range from LiDAR depth", pictures.color_ranges(np.where(sparse.sky, sky, sparse.range_m))),
            ("masks: range green, sky blue, colour only grey, unseen dark", pictures.color_masks(dense)),
            (
                "range error, dense: black 0, white 1 m and more",
                pictures.color_errors(error, dense.has_range & ~true.sky),
            ),
        ]
    )


def _look(out: Path, truth: synthetic.TownTruth, record: rawdata.FrameRecord, story: Story) -> None:
    """Write the pages to look at the frame with."""
    yaml, folder = record.agents[0].yaml_path, out / "look"
    options = RawOptions(depth_root=truth.depth_root)
    frame = load_raw_frame(yaml, options)
    round_about = load_raw_frame(yaml, replace(options, layout="panorama", cylinder=CYLINDER))
    panels.write_panels(folder / "panorama.html", round_about)
    pointcloud.write_pointcloud(folder / "pointcloud.html", frame)
    # the picture beside the page needs the extra [viz]
    poses.write_rig(folder, frame, picture=importlib.util.find_spec("matplotlib") is not None)
    bev.write_bev(folder, frame)
    story.links += [
        ("look/panorama.html", "Panoramas: colour, range and masks; point at a pixel to read it"),
        ("look/pointcloud.html", "Point cloud of all vehicles, with cameras and boxes; drag to turn"),
        ("look/rig.html", "Camera poses and vehicle boxes"),
        ("look/bev.html", "From above"),
    ]


def _model(out: Path, seed: int, story: Story) -> None:
    """Train a tiny MapAnything and tell how it does; without a checkout, say so."""
    trained = tiny_model.train_and_evaluate(out, seed, quiet=story.quiet)
    title = "A tiny MapAnything, trained and evaluated"
    if trained is None:
        story.say(tiny_model.MISSING)
        story.sections += [(title, tiny_model.MISSING, None), (recorded.TITLE, recorded.load().text(), None)]
        return
    for stage, losses in zip(("start", "all heads"), trained.losses):
        told = ", ".join(f"{loss:.2f}" for loss in losses)
        story.figure(f"Model: mean training loss of each epoch, {stage}", told)
    for label, text in learned.verdicts(trained):
        story.figure(f"Model: {label}", text)
    story.sections.append((title, learned.about(trained), None))
    folder, frame = out / "model", load_frame(trained.predictions)
    pointcloud.write_pointcloud(folder / "pointcloud.html", frame, pose_source="pred")
    panels.write_panels(folder / "views.html", frame)
    story.links += [
        ("model/pointcloud.html", "The tiny model's cloud, by its own poses, and where cameras truly stand"),
        ("model/views.html", "The tiny model's range and mask, view by view"),
    ]


def _masks_and_speed(out: Path, index: rawdata.TreeIndex, record: rawdata.FrameRecord, story: Story) -> None:
    """Report coverage and milliseconds."""
    first, second = record.agents[:2]
    for label, radius in (("at infinity", math.inf), ("at 20 m", 20.0)):
        options = panorama.PanoramaOptions(projection_radius_m=radius)
        covered = panorama.load_panorama(first, CYLINDER, options, with_depth=False).covered
        story.figure(f"Covered, projected {label}", f"{covered.mean():.4f}")
    cache = panorama.PanoramaCache(out / "panorama_cache", CYLINDER)
    panorama.prebuild(index, cache, progress=not story.quiet)
    where = record.split, record.sequence
    times = {
        "One panorama, files to arrays": lambda: panorama.load_panorama(first, CYLINDER),
        "Two vehicles' panoramas": lambda: [panorama.load_panorama(agent, CYLINDER) for agent in (first, second)],
        "One panorama from the cache": lambda: cache.load(*where, first, record.frame),
    }
    for label, work in times.items():
        story.figure(label, f"{_milliseconds(work):.0f} ms of one core")


def _milliseconds(work: Callable[[], object]) -> float:
    """Return the shortest of several runs, processor time."""
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1000


def _real(path: Path, story: Story) -> None:
    """Show a real frame: colour only, and how well its cameras agree."""
    agent = rawdata.agent_beside(path)
    made = panorama.load_panorama(agent, CYLINDER, with_depth=False)
    agrees = panorama.agent_agreement(agent)
    text = "Correlation where cameras overlap: " + ", ".join(f"{pair}: {value:.2f}" for pair, value in agrees.items())
    rows = [("stitched at 20 m; the gaps beside the front camera are real", made.color)]
    story.sections.append(("A real frame of OPV2V", text, pictures.sheet(rows)))
    story.figure("Real frame, weakest agreement of neighbouring cameras", f"{min(agrees.values()):.2f}")
