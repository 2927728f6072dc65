"""What all cells of a comparison have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

AMP = ("none", "bf16", "fp16")


class Difficulty(NamedTuple):
    """Rooms of one kind: objects besides floor, ceiling and walls, layout and part of the generator's seed."""

    objects: tuple[int, int]
    layout: str
    seed: int

    @property
    def instances(self) -> int:
        """Largest number of instances K of a room."""
        return self.objects[1] + 6


DIFFICULTIES = {
    "easy": Difficulty((6, 24), "spread", 0),
    "dense": Difficulty((20, 60), "spread", 1),
    "crowded": Difficulty((20, 60), "crowded", 2),  # chairs that touch each other
    "crowded-few": Difficulty((10, 24), "crowded", 2),  # the same, small enough to try ideas on a CPU
}
COMPARED = ("easy", "dense", "crowded")
"""What is compared by default."""


@dataclass(frozen=True)
class Settings:
    """Network, data and budget of every cell.

    Attributes
    ----------
    steps, batch : int
        Training steps, and samples of a step.
    points, room_points : int
        Points of a training sample, and of the room that it is drawn from; evaluation takes whole rooms.
    rooms, held_out : int
        Number of rooms for training and for evaluation.
    queries_per_instance : int
        Queries, in largest numbers of instances (but at least 64). They start at points far from each other: with 4, 93
        to 97 % of the instances have a query that starts inside, with the demo's 2, 65 to 85 %. The hosts have 400, or
        one for each superpoint.
    evaluations : int
        Points of the curve, the last one after the last step.
    width, encoder_width, heads, layers : int
        Decoder channels, channels of the encoder's finest level, attention heads, attention layers; one more set of
        predictions is supervised.
    voxel : float
        Side of the finest voxels in metres.
    lr, weight_decay, clip : float
        Of AdamW, and the largest gradient norm. The rate rises over 30 steps and falls to 0 (power 0.9).
    mask_weight : float
        Factor on the weights of mask BCE and Dice, for every criterion.
    amp : {'none', 'bf16', 'fp16'}
        Autocast of encoder and decoder; criteria compute in float32.
    min_points : int
        Instances of held-out rooms with fewer points are ignored.
    """

    steps: int = 1500
    batch: int = 4
    points: int = 4096
    room_points: int = 8192
    rooms: int = 200
    held_out: int = 24
    queries_per_instance: int = 4
    evaluations: int = 10
    width: int = 64
    encoder_width: int = 24
    heads: int = 4
    layers: int = 3
    voxel: float = 0.2
    lr: float = 2e-3
    weight_decay: float = 0.05
    clip: float = 5.0
    mask_weight: float = 1.0
    amp: str = "none"
    min_points: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "points", "rooms", "held_out", "queries_per_instance", "evaluations", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.points > self.room_points:
            raise ValueError(f"points={self.points} of a sample exceed room_points={self.room_points} of a room")
        if self.evaluations > self.steps:
            raise ValueError(f"evaluations={self.evaluations} exceed steps={self.steps}")
        if self.amp not in AMP:
            raise ValueError(f"amp must be one of {AMP}, got {self.amp!r}")

    @property
    def loss_weight(self) -> tuple[float, float, float, float]:
        """Weights of class, mask BCE, mask Dice and score: the host's, masks times `mask_weight`."""
        return 0.5, self.mask_weight, self.mask_weight, 0.5

    def queries(self, difficulty: str) -> int:
        """Return the number of queries Q."""
        return max(64, self.queries_per_instance * DIFFICULTIES[difficulty].instances)

    @property
    def milestones(self) -> list[int]:
        """Steps after which the network is evaluated."""
        return [round(self.steps * (number + 1) / self.evaluations) for number in range(self.evaluations)]

    def rate(self, step: int) -> float:
        """Return the factor of the learning rate in a step, counted from 0."""
        warm_up = min(30, self.steps // 4)
        if step < warm_up:
            return 0.1 + 0.9 * step / warm_up
        return float((1 - (step - warm_up) / (self.steps - warm_up)) ** 0.9)


SMALL = Settings(
    steps=200, batch=2, points=1024, room_points=4096, rooms=40, held_out=6, queries_per_instance=2, evaluations=4,
    min_points=25,
)  # fmt: skip
"""Proves the pipeline on two CPU cores within minutes; its figures mean nothing."""
