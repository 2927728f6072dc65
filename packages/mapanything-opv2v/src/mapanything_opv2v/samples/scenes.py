"""Which scene answers each index of a dataset, for every view count that a sampler may ask for.

A *scene* is what one dataset index stands for: one frame (cooperative datasets) or one vehicle in one frame
(single-vehicle datasets). Made from file names alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mapanything_opv2v.kinds import LAYOUTS
from mapanything_opv2v.samples.choose import Cameras, SampleOptions, first_agent

if TYPE_CHECKING:
    from mapanything_opv2v.rawdata import FrameRecord


@dataclass(frozen=True, slots=True)
class Scene:
    """One dataset index: a frame, the cameras of its usable agents, its main agent where that is fixed."""

    frame_number: int
    """Position in the list of frames from which the index was made."""
    cameras: Cameras
    """One object for all scenes with the same agents and cameras, so that 200,000 scenes stay small."""
    main: int | None
    """Main agent where names alone decide it; None where the policy needs poses or a random number."""


@dataclass(frozen=True)
class SceneIndex:
    """The scenes of a dataset and, for every view count, which scene answers each index."""

    scenes: tuple[Scene, ...]
    counts: int | list[int]
    lookup: dict[int, np.ndarray]
    """View count to (N,) scene numbers: the index itself where that scene offers the count, else another."""
    left_out: dict[str, int]
    """Reason to number of frames or scenes that are not in the index."""

    def scene(self, index: int, count: int) -> Scene:
        """Return the scene that answers `index` when `count` views are asked for."""
        return self.scenes[int(self.lookup[count][index])]


def capacity(cameras: Cameras, layout: str) -> int:
    """Return how many views agents offer: one per camera (`pinhole`) or one per agent (`panorama`)."""
    assert layout in LAYOUTS
    return sum(len(ids) for ids in cameras.values()) if layout == "pinhole" else len(cameras)


def usable_cameras(frame: FrameRecord, options: SampleOptions, layout: str) -> tuple[Cameras, list[str]]:
    """Return what the admitted agents of a frame offer, and which of their files are missing.

    An agent with none of the cameras (LiDAR only) offers nothing and is no error. An agent with some of them
    should have them all, with depth maps and a YAML; where it does not, a pinhole layout offers its whole
    views and a panorama layout leaves the agent out, for a panorama of fewer cameras is another thing.

    Returns
    -------
    cameras : mapping of int to tuple of int
        Agent id to camera ids.
    missing : list of str
        `split/sequence/frame agent 641 camera1_depth` for each missing file.
    """
    cameras: dict[int, tuple[int, ...]] = {}
    missing: list[str] = []
    for agent in frame.agents:
        admitted = options.include_agents is None or agent.agent_id in options.include_agents
        if not admitted or not any(camera in agent.camera_paths for camera in options.camera_ids):
            continue
        depth = agent.depth_paths if options.need_depth else agent.camera_paths
        whole = tuple(c for c in options.camera_ids if c in agent.camera_paths and c in depth)
        lacking = [] if agent.has_yaml else ["yaml"]
        lacking += [f"camera{c}" for c in options.camera_ids if c not in agent.camera_paths]
        lacking += [f"camera{c}_depth" for c in options.camera_ids if options.need_depth and c not in depth]
        missing += [f"{frame.name} agent {agent.agent_id} {key}" for key in lacking]
        if agent.has_yaml and whole and (layout == "pinhole" or not lacking):
            cameras[agent.agent_id] = whole
    return cameras, missing


def resolve_scenes(
    frames: Sequence[FrameRecord],
    options: SampleOptions,
    *,
    cooperative: bool,
    layout: str,
    counts: int | list[int],
    on_missing: Callable[[int, list[str]], None],
) -> SceneIndex:
    """Build the index of a dataset from names alone.

    Single-vehicle datasets without `main_agent` and `main_agent_policy` make one scene of every vehicle; with
    either of them, one scene of every frame. Cooperative datasets make one scene of every frame; `first` is
    the policy unless told. `main_agent` without a policy leaves out the frames that lack this agent.

    `on_missing` is called once if files are missing, with their number and the names of the first ones.

    Raises
    ------
    ValueError
        If no scene is left, or none offers one of the view counts; says what was left out and why.
    """
    left_out: Counter[str] = Counter()
    first_missing: list[str] = []
    missing = 0
    scenes: list[Scene] = []
    shared: dict[tuple[tuple[int, tuple[int, ...]], ...], Cameras] = {}
    for number, frame in enumerate(frames):
        cameras, lacking = usable_cameras(frame, options, layout)
        missing += len(lacking)
        first_missing += lacking[: 3 - len(first_missing)]
        cameras = shared.setdefault(tuple(cameras.items()), cameras)
        if len(cameras) < options.min_agents:
            left_out[f"has fewer than min_agents={options.min_agents} usable agents"] += 1
        else:
            scenes += _scenes_of_frame(number, cameras, options, cooperative, left_out)

    if missing:
        on_missing(missing, first_missing)

    smallest = counts if isinstance(counts, int) else counts[0]
    enough = [scene for scene in scenes if _offers(scene, layout, cooperative) >= smallest]
    if len(enough) < len(scenes):
        left_out[f"offers fewer than {smallest} views"] += len(scenes) - len(enough)
    kept = tuple(enough[: options.max_scenes])
    if not kept:
        reasons = [f"{number} x {reason}" for reason, number in left_out.items()]
        raise ValueError(f"no scene is left of {len(frames)} frames: {'; '.join(reasons) or 'the split is empty'}")
    offers = np.array([_offers(scene, layout, cooperative) for scene in kept])
    lookup = {count: _lookup(offers, count) for count in ([counts] if isinstance(counts, int) else counts)}
    return SceneIndex(kept, counts, lookup, dict(left_out))


def _scenes_of_frame(
    number: int, cameras: Cameras, options: SampleOptions, cooperative: bool, left_out: Counter[str]
) -> list[Scene]:
    policy = options.main_agent_policy
    if options.main_agent is not None and options.main_agent in cameras:
        return [Scene(number, cameras, options.main_agent)]
    if options.main_agent is not None and policy is None:
        left_out[f"has no usable agent main_agent={options.main_agent}"] += 1
        return []
    if not cooperative and policy is None:
        return [Scene(number, cameras, agent_id) for agent_id in cameras]
    return [Scene(number, cameras, first_agent(cameras) if policy in (None, "first") else None)]


def _offers(scene: Scene, layout: str, cooperative: bool) -> int:
    """Return the views a scene can offer; a vehicle not chosen yet counts as the frame's poorest."""
    if cooperative:
        return capacity(scene.cameras, layout)
    if layout == "panorama":
        return 1
    if scene.main is not None:
        return len(scene.cameras[scene.main])
    return min(len(ids) for ids in scene.cameras.values())


def _lookup(offers: np.ndarray, count: int) -> np.ndarray:
    """Return (N,) scene numbers: an index that cannot offer `count` is spread evenly over those that can."""
    able = np.flatnonzero(offers >= count)
    if able.size == 0:
        have = ", ".join(f"{number} offer {views}" for views, number in sorted(Counter(offers.tolist()).items()))
        raise ValueError(f"no scene offers {count} views ({have}); lower num_views or max_num_views")
    scene_numbers = np.arange(offers.size, dtype=np.int64)
    unable = np.flatnonzero(offers < count)
    scene_numbers[unable] = able[np.arange(unable.size) * able.size // max(unable.size, 1)]
    return scene_numbers
