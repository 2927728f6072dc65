"""What goes wrong in the field, done to samples on purpose: vehicles missing, poses wrong, data late.

Truth is never touched: it belongs to the views that the model really gets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from mapanything_opv2v.geometry import FloatArray


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """How samples are made worse; nothing by default."""

    drop_agents: int = 0
    """So many of the other vehicles, chosen by the sample's name, send nothing. View 0's vehicle stays."""
    pose_noise: float = 0.0
    """Standard deviation of the poses that the model is given for other vehicles: metres ahead and aside, and as many
    degrees of heading."""
    time_offset: int = 0
    """Views of the other vehicles (image, depth and pose) are so many recorded frames older than view 0's."""

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        for name in ("drop_agents", "time_offset"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name}={value!r}: expected an integer of at least 0")
        if not 0 <= self.pose_noise < math.inf:
            raise ValueError(f"pose_noise={self.pose_noise!r}: expected a number of metres and degrees of at least 0")

    def check(self, *, cooperative: bool, inputs: Sequence[str], batch_size: int) -> None:
        """Refuse what could not act.

        Raises
        ------
        ValueError
            Says what is in the way.
        """
        if not cooperative and (self.drop_agents or self.time_offset):
            raise ValueError("drop_agents and time_offset need several vehicles in a sample; give a Coop dataset")
        if self.pose_noise and "pose" not in inputs:
            raise ValueError(f"pose_noise={self.pose_noise:g}: the model is given no poses; add --inputs pose")
        if self.drop_agents and batch_size != 1:
            raise ValueError(f"drop_agents leaves samples of different view counts; batch_size={batch_size} must be 1")

    def to_json(self) -> dict[str, Any]:
        """Return what is not as usual, as plain values."""
        return {name: value for name, value in asdict(self).items() if value}


def kept_views(agents: Sequence[int], drop: int, rng: np.random.Generator) -> list[int]:
    """Return the numbers of the views that are left when some of the other vehicles are missing.

    Parameters
    ----------
    agents : sequence of int
        (V,) whose view it is; the first one's vehicle stays.
    drop : int
        How many vehicles go; all others, where there are fewer.
    rng : Generator
        Of the sample. One draw orders the vehicles, so that those missing at 1 are missing at 2 as well.
    """
    others = sorted(set(agents) - {agents[0]})
    gone = {others[i] for i in rng.permutation(len(others))[:drop]}
    return [number for number, agent in enumerate(agents) if agent not in gone]


def noisy_poses(
    poses_world_cam: FloatArray, agents: Sequence[int], sigma: float, rng: np.random.Generator
) -> FloatArray:
    """Return poses (V, 4, 4) as vehicles that do not quite know where they are would state them.

    One error for each vehicle but view 0's: all its cameras move together, turned about its first view. World in
    OpenCV axes, y is down. Another `sigma` scales the same errors.
    """
    noisy = np.array(poses_world_cam, dtype=np.float64)
    for agent in sorted(set(agents) - {agents[0]}):
        ahead, aside, heading = rng.standard_normal(3) * sigma
        own = [number for number, other in enumerate(agents) if other == agent]
        centre = noisy[own[0], :3, 3].copy()
        turn = Rotation.from_euler("y", heading, degrees=True).as_matrix()
        for number in own:
            noisy[number, :3, 3] = turn @ (noisy[number, :3, 3] - centre) + centre + (aside, 0, ahead)
            noisy[number, :3, :3] = turn @ noisy[number, :3, :3]
    return noisy
