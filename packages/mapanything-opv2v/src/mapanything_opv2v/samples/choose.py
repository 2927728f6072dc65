"""Which vehicles and cameras make a sample: options, view counts, random streams, main agent, views.

View 0 always belongs to the main agent. Nothing here opens a file, except through the `meta_of` callback of
`choose_main_agent`.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mapanything_opv2v.rawdata import AgentMeta

MAIN_AGENT_POLICIES = ("first", "random", "closest", "most_visible")

Cameras = Mapping[int, tuple[int, ...]]
"""Agent id to the camera ids that it offers, in the order of the options; agents in ascending order."""


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How samples are drawn from frames. Every value is validated; unknown names raise."""

    camera_ids: tuple[int, ...] = (0, 1, 2, 3)
    """Cameras that are used; the first one that the main agent has is view 0 of a pinhole sample."""
    include_agents: tuple[int, ...] | None = None
    """Agent ids that may be used; None takes every agent that has a camera."""
    main_agent: int | None = None
    """Id of the vehicle whose view is view 0, in every frame that has it."""
    main_agent_policy: str | None = None
    """Who is main where `main_agent` is absent or not given; for None see `resolve_scenes`."""
    min_agents: int = 1
    """Frames with fewer usable agents are left out; samples show at least min(min_agents, view count)."""
    min_num_views: int | None = None
    """Smallest view count that a variable-count dataset offers; None is the host's 2."""
    max_num_views: int | None = None
    """Largest view count that a variable-count dataset offers; None is `num_views`."""
    max_scenes: int | None = None
    """Keep only the first so many scenes; None keeps all."""
    need_depth: bool = True
    """Cameras without a depth map are missing files; False takes them, their depth is unknown everywhere."""

    def __post_init__(self) -> None:
        """Reject values that could not act."""
        object.__setattr__(self, "camera_ids", _id_tuple("camera_ids", self.camera_ids))
        if self.include_agents is not None:
            object.__setattr__(self, "include_agents", _id_tuple("include_agents", self.include_agents))
        if self.main_agent is not None:
            object.__setattr__(self, "main_agent", _id("main_agent", self.main_agent))
        if not isinstance(self.need_depth, bool):
            raise ValueError(f"need_depth={self.need_depth!r}: expected True or False")
        for name in ("min_agents", "min_num_views", "max_num_views", "max_scenes"):
            value = getattr(self, name)
            if value is None and name != "min_agents":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: expected an integer of at least 1")
        if self.main_agent_policy is not None and self.main_agent_policy not in MAIN_AGENT_POLICIES:
            known = ", ".join(MAIN_AGENT_POLICIES)
            raise ValueError(f"main_agent_policy={self.main_agent_policy!r}: expected one of {known}")
        included = self.include_agents
        if self.main_agent is not None and included is not None and self.main_agent not in included:
            raise ValueError(f"main_agent={self.main_agent} is not in include_agents={list(included)}; add it")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the option names."""
        return tuple(field.name for field in fields(cls))


def reject_unknown(given: Iterable[str], known: Sequence[str], *, what: str) -> None:
    """Raise ValueError that names the unknown keywords, the nearest known ones and all known ones.

    Examples
    --------
    >>> reject_unknown(["camera_id"], ["camera_ids", "seed"], what="OPV2VDataset")
    Traceback (most recent call last):
    ValueError: OPV2VDataset: unknown option 'camera_id' (did you mean 'camera_ids'?); known: camera_ids, seed
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{what}: unknown option {name!r}{hint}; known: {', '.join(known)}")


def _id(name: str, value: Any) -> int:
    """Return an agent or camera id as an integer; folder names such as '641' are accepted."""
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name}={value!r}: expected an integer id")
    return int(value)


def _id_tuple(name: str, values: Any) -> tuple[int, ...]:
    if isinstance(values, (str, int)) or not isinstance(values, Iterable):
        raise ValueError(f"{name}={values!r}: expected a list of integer ids, for example [0, 1]")
    ids = tuple(_id(name, value) for value in values)
    if not ids:
        raise ValueError(f"{name} is empty: give at least one id, or None for the default")
    if len(set(ids)) != len(ids):
        raise ValueError(f"{name}={list(ids)}: an id occurs twice")
    return ids


def view_counts(
    num_views: int,
    variable_num_views: bool,
    min_num_views: int | None = None,
    max_num_views: int | None = None,
) -> int | list[int]:
    """Return the view counts that a dataset offers, in the form of the host's `num_views` attribute.

    Parameters
    ----------
    num_views
        Fixed count, or the largest count where `variable_num_views` is set.
    variable_num_views
        Whether the sampler may pick another count for each batch.
    min_num_views, max_num_views
        Bounds on the counts; None means 2 and `num_views`. With a fixed count they must contain it.

    Returns
    -------
    int or list of int
        One integer where there is one count only, else all counts in ascending order.

    Raises
    ------
    ValueError
        If a bound contradicts `num_views` or the other bound.
    """
    if isinstance(num_views, bool) or not isinstance(num_views, (int, np.integer)) or num_views < 1:
        raise ValueError(f"num_views={num_views!r}: expected an integer of at least 1")
    if not variable_num_views:
        low, high = min_num_views or 1, max_num_views or num_views
        if not low <= num_views <= high:
            raise ValueError(
                f"num_views={num_views} lies outside min_num_views={min_num_views}, max_num_views={max_num_views}"
            )
        return int(num_views)
    high = num_views if max_num_views is None else max_num_views
    if high > num_views:
        raise ValueError(
            f"max_num_views={max_num_views} exceeds num_views={num_views}; the host sizes its batches by "
            "num_views, so raise num_views as well"
        )
    low = min(2, high) if min_num_views is None else min_num_views
    if low > high:
        raise ValueError(f"min_num_views={min_num_views} exceeds the largest view count {high}; lower it")
    return int(high) if low == high else list(range(int(low), int(high) + 1))


def sample_rng(*keys: object) -> np.random.Generator:
    """Return a generator that depends on the keys only: the same numbers in any process and any order."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def first_agent(agent_ids: Iterable[int]) -> int:
    """Return the lowest vehicle id; infrastructure (negative ids) only where there is no vehicle."""
    return min(agent_ids, key=lambda agent_id: (agent_id < 0, agent_id))


def choose_main_agent(
    agent_ids: Sequence[int], policy: str, rng: np.random.Generator, meta_of: Callable[[int], AgentMeta]
) -> int:
    """Return the main agent of a frame by a policy; infrastructure only where there is no vehicle.

    Parameters
    ----------
    agent_ids
        Usable agents of the frame.
    policy
        `first`: lowest vehicle id. `random`: uniform over the vehicles. `closest`: smallest mean distance of
        its LiDAR to the others'. `most_visible`: listed in most other agents' `vehicles` (OPV2V lists what
        an agent's LiDAR hits), ties to the closest. Further ties go to the lowest id.
    rng
        Stream of the sample; drawn from by `random` only.
    meta_of
        Returns an agent's YAML contents; called by `closest` and `most_visible` only.
    """
    vehicles = [agent_id for agent_id in agent_ids if agent_id >= 0] or list(agent_ids)
    if policy == "first" or len(vehicles) == 1:
        return first_agent(vehicles)
    if policy == "random":
        return int(rng.choice(sorted(vehicles)))
    assert policy in ("closest", "most_visible"), policy
    metas = {agent_id: meta_of(agent_id) for agent_id in agent_ids}
    xyz = {agent_id: np.asarray(meta.lidar_pose[:3]) for agent_id, meta in metas.items()}

    def mean_distance(agent_id: int) -> float:
        return float(np.mean([np.linalg.norm(xyz[agent_id] - xyz[other]) for other in xyz if other != agent_id]))

    def listed_by(agent_id: int) -> int:
        return sum(agent_id in meta.vehicles for other, meta in metas.items() if other != agent_id)

    seen = listed_by if policy == "most_visible" else lambda agent_id: 0
    return min(vehicles, key=lambda agent_id: (-seen(agent_id), mean_distance(agent_id), agent_id))


def choose_pinhole_views(
    cameras: Cameras, main: int, count: int, min_agents: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Return `count` different (agent, camera) pairs; the first is the main agent's first camera.

    At least min(min_agents, count, number of agents) agents appear; beyond that, pairs are drawn uniformly.
    """
    view0 = (main, cameras[main][0])
    others = [agent_id for agent_id in cameras if agent_id != main]
    guests = rng.permutation(len(others))[: max(min(min_agents, count) - 1, 0)]
    chosen = [(others[i], int(rng.choice(cameras[others[i]]))) for i in guests]
    rest = [(a, c) for a, ids in cameras.items() for c in ids if (a, c) != view0 and (a, c) not in chosen]
    extra = rng.permutation(len(rest))[: count - 1 - len(chosen)]
    chosen += [rest[i] for i in extra]
    assert len(chosen) == count - 1, "the scene index promised this many views"
    return [view0, *(chosen[i] for i in rng.permutation(len(chosen)))]


def choose_agents(agent_ids: Sequence[int], main: int, count: int, rng: np.random.Generator) -> list[int]:
    """Return `count` different agents, the main agent first and the others in random order."""
    others = [agent_id for agent_id in agent_ids if agent_id != main]
    assert count <= 1 + len(others), "the scene index promised this many agents"
    return [main, *(others[i] for i in rng.permutation(len(others))[: count - 1])]
