"""Checking a whole tree, and what is known about it afterwards."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mapanything_opv2v import jobs, rawdata
from mapanything_opv2v.checks.agent import AgentReport, AgentTask, CheckOptions, Problem, check_agent
from mapanything_opv2v.panorama.overlap_yaw import camera_turns
from mapanything_opv2v.rawdata import exclude

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
    camera_turn_deg : dict of str to (dict of str to float)
        By split and camera: median turn against its stated pose, degrees, as the overlaps tell it.
    image_scales : dict of str to int
        Images by their size relative to their calibration's (`"0.5"`: resized to half), where it is not 1.
    problems : list of Problem
        In the order of the tree.
    known : list of Problem
        Those of what was to be left out (`rules`), each with why it is; not among `problems`.
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
    camera_turn_deg: dict[str, dict[str, float]] = field(default_factory=dict)
    image_scales: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    known: list[Problem] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def check_tree(
    index: rawdata.TreeIndex,
    options: CheckOptions | None = None,
    *,
    max_scenes: int | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    progress: bool = True,
    rules: Sequence[exclude.Rule] = (),
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
        Processes; with an executor, how many items it works on at once.
    executor : Executor, optional
        Run there instead of in processes of this machine.
    progress : bool
        Show a bar.
    rules : sequence of Rule
        What other commands leave out. It is read too if the index has it, and its problems are `known`.
    """
    options = options or CheckOptions()
    report = CheckReport(str(index.root), str(index.depth_root))
    numbers = _Numbers()
    total = sum(frames.count_agents() for frames in index.splits.values()) if max_scenes is None else None
    tasks = _tasks(index, options, max_scenes, report)
    outcomes = jobs.run(
        check_agent,
        tasks,
        total=total,
        workers=workers,
        description="check",
        unit="agent",
        executor=executor,
        progress=progress,
    )
    found: list[tuple[int, Problem]] = []
    for done in outcomes:
        assert done.result is not None, done.error  # a check reports errors, it does not raise them
        report.agent_frames += 1
        report.files += done.result.files
        for factor in done.result.scales.values():
            if factor != 1:
                report.image_scales[f"{factor:g}"] = report.image_scales.get(f"{factor:g}", 0) + 1
        found += [(done.item.number, problem) for problem in done.result.problems]
        numbers.add(done.item.frame, done.item.agent_id, done.result)
    report.problems = [problem for _, problem in sorted(found, key=lambda item: item[0])]
    numbers.conclude(report, options)
    _separate_known(report, rules)
    return report


def _separate_known(report: CheckReport, rules: Sequence[exclude.Rule]) -> None:
    """Move the problems of what is left out elsewhere to `known`."""
    new = []
    for problem in report.problems:
        where = problem.split, problem.sequence, problem.frame, problem.agent
        rule = next((rule for rule in rules if rule.matches(*where)), None)
        if rule is None:
            new.append(problem)
        else:
            report.known.append(replace(problem, message=f"{problem.message} (known: {rule.name}: {rule.reason})"))
    report.problems = new


def _tasks(
    index: rawdata.TreeIndex, options: CheckOptions, max_scenes: int | None, report: CheckReport
) -> Iterator[AgentTask]:
    """Yield what to check, counting frames, agents and views on the way."""
    number = 0
    for frame in itertools.islice(itertools.chain.from_iterable(index.splits.values()), max_scenes):
        report.scenes += 1
        views = sum(len(agent.camera_paths) for agent in frame.agents)
        for counts, value in (
            (report.agents_per_frame, len(frame.agents)),
            (report.cameras_per_frame, views),
        ):
            of_split = counts.setdefault(frame.split, {})
            of_split[value] = of_split.get(value, 0) + 1
        for agent in frame.agents:
            yield AgentTask(number, frame, agent.agent_id, options)
            number += 1


class _Numbers:
    """Collects figures; what comes out does not depend on the order in which they come."""

    def __init__(self) -> None:
        self.position: list[float] = []
        self.angle: list[float] = []
        self.coverage: dict[str, list[float]] = {}
        self.pairs: dict[tuple[str, str], list[float]] = {}
        self.views: dict[tuple[str, str, int], list[float]] = {}
        self.untold: dict[tuple[str, str, int], list[bool]] = {}
        self.turns: dict[tuple[str, str, int], dict[tuple[int, int], list[float]]] = {}

    def add(self, frame: rawdata.FrameRecord, agent_id: int, result: AgentReport) -> None:
        """Take the figures of one agent at one frame."""
        if result.position_error_m is not None and result.angle_error_deg is not None:
            self.position.append(result.position_error_m)
            self.angle.append(result.angle_error_deg)
        if result.coverage:
            self.coverage.setdefault(frame.split, []).extend(result.coverage.values())
        for (i, j), value in result.agreement.items():
            self.pairs.setdefault((frame.split, f"{i}-{j}"), []).append(value)
        if result.agreement:
            mean = math.fsum(result.agreement.values()) / len(result.agreement)
            self.views.setdefault((frame.split, frame.sequence, agent_id), []).append(mean)
            untold = not set(result.agreement) <= set(result.turns)
            self.untold.setdefault((frame.split, frame.sequence, agent_id), []).append(untold)
        for pair, turn in result.turns.items():
            of_agent = self.turns.setdefault((frame.split, frame.sequence, agent_id), {})
            of_agent.setdefault(pair, []).append(turn)

    def conclude(self, report: CheckReport, options: CheckOptions) -> None:
        """Write the figures into the report, and the problems that only whole sequences show."""
        report.max_position_error_m = max(self.position, default=None)
        report.max_angle_error_deg = max(self.angle, default=None)
        for counts in (report.agents_per_frame, report.cameras_per_frame):
            counts.update({split: dict(sorted(values.items())) for split, values in counts.items()})
        for split, shares in sorted(self.coverage.items()):
            mean = math.fsum(shares) / len(shares)
            figures = {"maps": len(shares), "lowest": min(shares), "mean": mean, "highest": max(shares)}
            report.depth_coverage[split] = figures
        for (split, pair), values in sorted(self.pairs.items()):
            report.overlap_agreement.setdefault(split, {})[pair] = statistics.median(values)
        swapped = self._swapped(report, options)
        self._turned(report, options.max_turn_deg, swapped)

    def _swapped(self, report: CheckReport, options: CheckOptions) -> set[tuple[str, str, int]]:
        """Note agents whose cameras show different things where they overlap; return them.

        In one frame something close may stand in the way: an agent's frames are judged together, and a sequence's
        where its agents have too few.
        """
        wrong = set()
        few: dict[tuple[str, str], list[float]] = {}
        for (split, sequence, agent), values in sorted(self.views.items()):
            fits_nowhere = statistics.mean(self.untold[split, sequence, agent]) > 0.5
            least = options.min_agreement_untold if fits_nowhere else options.min_agreement
            if len(values) < MIN_VIEWS_TO_JUDGE:
                few.setdefault((split, sequence), []).extend(values)
            elif statistics.median(values) < least:
                wrong.add((split, sequence, agent))
                report.problems.append(_different(report, split, sequence, agent, values, least))
        for (split, sequence), values in sorted(few.items()):
            if len(values) >= MIN_VIEWS_TO_JUDGE and statistics.median(values) < options.min_agreement:
                report.problems.append(_different(report, split, sequence, None, values, options.min_agreement))
        return wrong

    def _turned(self, report: CheckReport, max_turn_deg: float, swapped: set[tuple[str, str, int]]) -> None:
        """Note cameras that are turned against their stated poses, and the medians of each split."""
        of_split: dict[tuple[str, int], list[float]] = {}
        for (split, sequence, agent), pairs in sorted(self.turns.items()):
            if (split, sequence, agent) in swapped:
                continue
            views = max(map(len, pairs.values()))
            turns = camera_turns({pair: statistics.median(values) for pair, values in pairs.items()})
            for camera, turn in turns.items():
                of_split.setdefault((split, camera), []).append(turn)
                if views >= MIN_VIEWS_TO_JUDGE and abs(turn) > max_turn_deg:
                    message = (
                        f"turned by {turn:+.1f} degrees (to the right is positive) against its stated pose, as its "
                        f"overlaps with other cameras tell it (median of {views} views, expected within "
                        f"{max_turn_deg:g}); is its extrinsic calibration right?"
                    )
                    folder = str(Path(report.root) / split / sequence / str(agent))
                    report.problems.append(Problem(split, sequence, "all", agent, f"camera{camera}", folder, message))
        for (split, camera), values in sorted(of_split.items()):
            report.camera_turn_deg.setdefault(split, {})[str(camera)] = statistics.median(values)


def _different(
    report: CheckReport, split: str, sequence: str, agent: int | None, values: list[float], min_agreement: float
) -> Problem:
    """Return the problem of cameras that show different things."""
    message = (
        f"cameras show different things where they overlap (median correlation {statistics.median(values):.2f} "
        f"in {len(values)} views, expected at least {min_agreement}); are files or poses swapped?"
    )
    folder = Path(report.root) / split / sequence
    where = str(folder if agent is None else folder / str(agent))
    return Problem(split, sequence, "all", agent, "cameras", where, message)
