"""Who stands and drives in a drawn town: agents 5 to 70 m apart, parked and moving vehicles, masts.

CARLA axes, metres; angles in radians here. Everything follows from seed, name, ids and time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.geometry import FloatArray, T_world_from_pose
from mapanything_opv2v.synthetic.streets import Rectangle, beside, on_street
from mapanything_opv2v.synthetic.town import CAR_HALF, Car, Moment, Town, generator, place

NEAREST_M, FARTHEST_M = 5.0, 70.0
"""Distance of an agent from the first one; 70 m is as far as OPV2V's vehicles talk."""

MAST_M = 3.0
"""Height of a mast's vehicle axes over the ground."""

OTHERS_ID = 90000
"""Ids of vehicles without sensors begin here."""

_TIMES_S = (0.0, 0.5, 1.5, 3.0, 6.0)
"""When vehicles must not touch each other."""

_TRIES = 60


@dataclass(frozen=True)
class Spot:
    """Where a vehicle is at time 0 and how it goes on: straight ahead."""

    x: float
    y: float
    yaw: float
    speed_ms: float
    half: FloatArray
    cabin: bool = True

    def at(self, time_s: float) -> Rectangle:
        """Return the ground that it covers at a time."""
        ahead = self.speed_ms * time_s
        x, y = self.x + ahead * math.cos(self.yaw), self.y + ahead * math.sin(self.yaw)
        return x, y, self.yaw, float(self.half[0]), float(self.half[1])


class _Places:
    """Finds free places."""

    def __init__(self, town: Town, rng: np.random.Generator) -> None:
        self.town, self.rng, self.spots = town, rng, list[Spot]()
        walls = town.boxes
        self.walls = np.stack(
            [walls[:, 0], walls[:, 1], np.arctan2(walls[:, 4], walls[:, 3]), walls[:, 12], walls[:, 13]], axis=1
        )
        self.trunks = town.cylinders[:, [0, 1, 4]]
        self.lane_ms = rng.uniform(4, 14, (len(town.streets), 2))  # one speed a lane: nobody runs into another

    def is_free(self, spot: Spot) -> bool:
        """Say whether nothing stands there, now and while it drives."""
        for time_s in _TIMES_S if spot.speed_ms else _TIMES_S[:1]:
            here = spot.at(time_s)
            if overlap(here, self.walls, 0.4).any():
                return False
            near = np.hypot(self.trunks[:, 0] - here[0], self.trunks[:, 1] - here[1])
            if (near < self.trunks[:, 2] + 1.2 + (here[3] if not spot.speed_ms else 0.0)).any():
                return False
        if not self.spots:
            return True
        return not any(
            overlap(spot.at(time_s), np.array([other.at(time_s) for other in self.spots]), 0.35).any()
            for time_s in _TIMES_S
        )

    def lane(self, half: FloatArray, cabin: bool = True) -> Spot:
        """Propose a place in a lane; at a crossing sometimes in the middle of a turn."""
        number = int(self.rng.integers(len(self.town.streets)))
        street = self.town.streets[number]
        along = self.rng.uniform(max(-75.0, street[5]), min(75.0, street[6]))
        side = int(self.rng.integers(2))
        across = (0.5 if side else -0.5) * street[4] * self.rng.uniform(0.75, 1.25)
        yaw = math.atan2(street[3], street[2]) + (0.0 if side else math.pi) + self.rng.normal(0, 0.05)
        speed = float(self.lane_ms[number, side])
        if self.rng.random() < 0.2:
            yaw, speed = self.rng.uniform(-math.pi, math.pi), 2.0
        x, y = beside(street, along, across)
        return Spot(x, y, yaw, speed, half, cabin)

    def parked(self, half: FloatArray, cabin: bool = True) -> Spot:
        """Propose a place at a kerb, or at any angle on a plot."""
        street = self.town.streets[int(self.rng.integers(len(self.town.streets)))]
        along = self.rng.uniform(max(-80.0, street[5]), min(80.0, street[6]))
        side = 1 if self.rng.random() < 0.5 else -1
        yaw = math.atan2(street[3], street[2]) + (0.0 if side > 0 else math.pi)
        if self.rng.random() < 0.7 and street[4] > 5.0:
            across = side * (street[4] - half[1] - self.rng.uniform(0.1, 0.4))
        else:
            across, yaw = side * (street[4] + self.rng.uniform(2, 16)), self.rng.uniform(-math.pi, math.pi)
        return Spot(*beside(street, along, across), yaw, 0.0, half, cabin)

    def add(self, spot: Spot) -> None:
        """Take a place."""
        self.spots.append(spot)

    def agent(self, first: Spot | None) -> Spot:
        """Take a place for an agent: the first near the origin, others at a distance drawn from 5 to 70 m."""
        wanted = self.rng.uniform(NEAREST_M, FARTHEST_M)
        for attempt in range(20 * _TRIES):
            spot = self.parked(CAR_HALF) if self.rng.random() < 0.15 else self.lane(CAR_HALF)
            if first is None:
                good = math.hypot(spot.x, spot.y) < 30 + attempt / 20
            else:
                away = math.hypot(spot.x - first.x, spot.y - first.y)
                good = abs(away - wanted) < 2 + attempt / 20 and NEAREST_M <= away <= FARTHEST_M
            if good and self.is_free(spot):
                self.add(spot)
                return spot
        raise AssertionError("a town has more lane than agents")


def draw_moment(town: Town, seed: int, name: str, agents: Sequence[int], time_s: float) -> Moment:
    """Place agents and traffic at a time.

    Parameters
    ----------
    town : Town
        As made by `streets.draw_town`.
    seed, name
        As there.
    agents : sequence of int
        Ids of vehicles with sensors; the first stands near the origin, the others 5 to 70 m from it.
    time_s : float
        Since the sequence began.
    """
    rng = generator(seed, name, "traffic")
    places = _Places(town, rng)
    first: Spot | None = None
    for _ in agents:
        spot = places.agent(first)
        first = first or spot
    ids = [*agents]
    for number in range(int(rng.integers(16, 60))):
        half, cabin = _size(rng)
        spot = places.parked(half, cabin) if rng.random() < 0.65 else places.lane(half, cabin)
        if places.is_free(spot):
            places.add(spot)
            ids.append(OTHERS_ID + number)
    cars = []
    for actor, spot in zip(ids, places.spots):
        lean = generator(seed, name, "lean", actor)
        roll, pitch = lean.uniform(-2.0, 2.0, 2) if spot.speed_ms else (0.0, 0.0)
        x, y, yaw, *_ = spot.at(time_s)
        pose = place(x, y, math.degrees(yaw), roll, pitch, planes=town.planes)
        red, green, blue = np.clip(lean.uniform(0.05, 0.95) + lean.uniform(-0.35, 0.35, 3), 0.03, 0.97)
        paint = float(red), float(green), float(blue)
        cars.append(Car(actor, pose, spot.speed_ms * 3.6, paint, spot.half, spot.cabin))
    exposures = {agent: float(generator(seed, name, "exposure", agent).uniform(0.8, 1.25)) for agent in agents}
    return Moment(town, tuple(cars), exposures, (places.spots[0].x, places.spots[0].y))


def mast_pose(moment: Moment, agent: int) -> FloatArray:
    """Return the pose (4, 4) of infrastructure: beside a street, 5 to 45 m from the first agent, turned to it."""
    rng = generator(agent, "mast", moment.town.look.tobytes())  # the look is the town's own
    places = _Places(moment.town, rng)
    x0, y0 = moment.start_xy
    for _ in range(20 * _TRIES):
        street = moment.town.streets[int(rng.integers(len(moment.town.streets)))]
        along = rng.uniform(max(-60.0, street[5]), min(60.0, street[6]))
        x, y = beside(street, along, (street[4] + rng.uniform(0.8, 2.0)) * (1 if rng.random() < 0.5 else -1))
        here = (x, y, 0.0, 0.6, 0.6)
        near = NEAREST_M < math.hypot(x - x0, y - y0) < 45
        if near and not on_street(here, moment.town.streets, 0.0) and not overlap(here, places.walls, 1.0).any():
            yaw = math.degrees(math.atan2(y0 - y, x0 - x)) + rng.uniform(-40, 40)
            return place(x, y, yaw, planes=moment.town.planes) @ T_world_from_pose([0, 0, MAST_M, 0, 0, 0])
    raise AssertionError("a town has room for a mast")


def overlap(one: Rectangle, many: npt.NDArray[np.float64], margin: float) -> npt.NDArray[np.bool_]:
    """Return which rectangles (N, 5) come closer to one than about `margin` (separating axes)."""
    x, y, yaw, length, width = one
    dx, dy = many[:, 0] - x, many[:, 1] - y
    c, s = math.cos(yaw), math.sin(yaw)
    cm, sm = np.cos(many[:, 2]), np.sin(many[:, 2])
    turn_c, turn_s = np.abs(cm * c + sm * s), np.abs(sm * c - cm * s)
    hx, hy = many[:, 3] + margin, many[:, 4] + margin
    return (
        (np.abs(dx * c + dy * s) < length + hx * turn_c + hy * turn_s)
        & (np.abs(dy * c - dx * s) < width + hx * turn_s + hy * turn_c)
        & (np.abs(dx * cm + dy * sm) < hx + length * turn_c + width * turn_s)
        & (np.abs(dy * cm - dx * sm) < hy + length * turn_s + width * turn_c)
    )


def _size(rng: np.random.Generator) -> tuple[FloatArray, bool]:
    """Return half sizes of a car, a van or a lorry, and whether it has a cabin."""
    kind = rng.random()
    if kind < 0.7:
        return np.array([rng.uniform(1.9, 2.5), rng.uniform(0.85, 1.0), rng.uniform(0.68, 0.85)]), True
    if kind < 0.9:
        return np.array([rng.uniform(2.3, 3.0), rng.uniform(0.95, 1.1), rng.uniform(0.95, 1.25)]), False
    return np.array([rng.uniform(3.5, 5.5), rng.uniform(1.15, 1.3), rng.uniform(1.4, 1.8)]), False
