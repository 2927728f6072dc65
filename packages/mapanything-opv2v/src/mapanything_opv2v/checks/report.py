"""Checking a whole tree, and what is known about it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mapanything_opv2v import jobs, rawdata
from mapanything_opv2v.checks.agent import AgentReport, AgentTask, CheckOptions, Problem, check_agent

MIN_VIEWS_TO_JUDGE = 3
"""Views (one agent at one frame) of a sequence from which on its cameras are judged by their overlaps."""


@dataclass
class CheckReport:
    """What was found in a tree.

    Attributes
    ----------
    root, depth_root : str
    scenes, agent_frames, files : int
        Frames, agents at frames, files read.
    agents_per_frame, cameras_per_frame : dict of str to (dict of int to int)
        By split: how many frames have so many agents, so many camera views.
    max_position_error_m, max_angle_error_deg : float or None
        Largest difference between poses and `extrinsic`.
    depth_coverage : dict of str to (dict of str to float)
        By split: lowest, mean and highest share of pixels with depth.
    overlap_agreement : dict of str to (dict of str to float)
        By split and pair of cameras: median correlation of their images where they overlap.
    problems : list of Problem
        In the order of the tree.
    """

    root: str
    depth_root: str
    scenes: int = 0
    agent_frames: int = 0
    files: int = 0
    agents_per_frame: dict[str, dict[int, int]] = field(default_factory=dict)
    cameras_per_frame: dict[str, dict[int, int]] = field(default_factory=dict)
    max_position_error_m: float | None = None
    max_angle_error_deg: float | None = None
    depth_coverage: dict[str, dict[str, float]] = field(default_factory=dict)
    overlap_agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def check_tree(
    index: rawdata.TreeIndex,
    options: CheckOptions | None = None,
    *,
    max_scenes: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> CheckReport:
    """Read every file of an index and report on it.

    Parameters
    ----------
    index : TreeIndex
        What to check.
    options : CheckOptions, optional
        What counts as a problem.
    max_scenes : int, optional
        Check only so many frames.
    workers : int
        Processes.
    progress : bool
        Show a bar.
    """
    options = options or CheckOptions()
    frames = [frame for split in index.splits.values() for frame in split][:max_scenes]
    report = CheckReport(str(index.root), str(index.depth_root), scenes=len(frames))
    _count(report, frames)
    order = {(f.name, a.agent_id): n for n, (f, a) in enumerate((f, a) for f in frames for a in f.agents)}
    tasks = [AgentTask(frame, agent.agent_id, options) for frame in frames for agent in frame.agents]
    found: list[tuple[int, AgentTask, AgentReport]] = []
    for done in jobs.run(check_agent, tasks, workers=workers, description="check", progress=progress):
        if done.result is None:
            raise RuntimeError(
                f"{done.item.frame.name}: {done.error}"
            ) from done.error  # a check reports, never raises
        where = order[done.item.frame.name, done.item.agent_id]
        found.append((where, done.item, done.result))
    found.sort(key=lambda item: item[0])
    for _, task, result in found:
        _add(report, task.frame.split, result)
    _judge_agreement(report, [(task, result) for _, task, result in found], options.min_agreement)
    return report


def _count(report: CheckReport, frames: Sequence[rawdata.FrameRecord]) -> None:
    for split in dict.fromkeys(frame.split for frame in frames):
        mine = [frame for frame in frames if frame.split == split]
        report.agents_per_frame[split] = dict(sorted(Counter(len(frame.agents) for frame in mine).items()))
        views = Counter(sum(len(agent.camera_paths) for agent in frame.agents) for frame in mine)
        report.cameras_per_frame[split] = dict(sorted(views.items()))


def _add(report: CheckReport, split: str, result: AgentReport) -> None:
    report.agent_frames += 1
    report.files += result.files
    report.problems += result.problems
    for name, value in (
        ("max_position_error_m", result.position_error_m),
        ("max_angle_error_deg", result.angle_error_deg),
    ):
        if value is not None:
            setattr(report, name, max(value, getattr(report, name) or 0.0))
    for share in result.coverage.values():
        seen = report.depth_coverage.setdefault(
            split, {"maps": 0, "lowest": share, "mean": 0.0, "highest": share}
        )
        seen["lowest"], seen["highest"] = min(seen["lowest"], share), max(seen["highest"], share)
        seen["mean"] = (seen["mean"] * seen["maps"] + share) / (seen["maps"] + 1)
        seen["maps"] += 1


def _judge_agreement(report: CheckReport, found: list[tuple[AgentTask, AgentReport]], least: float) -> None:
    """Judge overlapping cameras over whole sequences: in one frame something close may stand in the way."""
    pairs: dict[tuple[str, str], list[float]] = {}
    frames: dict[tuple[str, str], list[float]] = {}
    for task, result in found:
        frame = task.frame
        for (i, j), value in result.agreement.items():
            pairs.setdefault((frame.split, f"{i}-{j}"), []).append(value)
        if result.agreement:
            mean = float(np.mean(list(result.agreement.values())))
            frames.setdefault((frame.split, frame.sequence), []).append(mean)
    for (split, pair), values in pairs.items():
        report.overlap_agreement.setdefault(split, {})[pair] = float(np.median(values))
    for (split, sequence), values in frames.items():
        median = float(np.median(values))
        if len(values) >= MIN_VIEWS_TO_JUDGE and median < least:
            message = (
                f"cameras show different things where they overlap (median correlation {median:.2f} "
                f"in {len(values)} views, expected at least {least}); are image files or poses swapped?"
            )
            folder = Path(report.root) / split / sequence
            report.problems.append(Problem(split, sequence, "all", None, "cameras", str(folder), message))
