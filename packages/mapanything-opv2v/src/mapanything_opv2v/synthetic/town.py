"""An analytic town with vehicles: where everything stands, and what is seen from anywhere in it.

CARLA axes, metres, degrees. The ground is the highest of several planes: a flat crossing with a ramp on each
side. Everything follows from a seed and names, never from order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import geometry
from mapanything_opv2v.geometry import FloatArray
from mapanything_opv2v.synthetic import raycast

MAX_RANGE_M = 900.0
"""Beyond this the town is sky."""

RAMPS: FloatArray = np.array([(0, 0, 0), (0.09, 0, -3.6), (-0.14, 0, -9.8), (0, 0.07, -3.5), (0, -0.11, -7.7)])
"""(P, 3) planes ``z = a x + b y + c``."""

STREETS: FloatArray = np.array([(0, 0, 1, 0, 8, -1e6, 1e6), (0, 0, 0, 1, 8, -1e6, 1e6)], np.float64)
"""Two streets that cross; as `raycast.STREET_COLUMNS`."""

LOOK: FloatArray = np.array(
    [
        *(0.5, 0.3, 0.81, 0.62, 0.38, 1.0, 350.0),
        *(0.70, 0.77, 0.84, 0.40, 0.39, 0.39, 0.36, 0.47, 0.25, 0.78, 0.85, 0.92, 0.30, 0.50, 0.82),
        *(0.0, 0.0),
    ]
)
"""Light and colours; as `raycast.LOOK_COLUMNS`."""

CAR_HALF: FloatArray = np.array([2.3, 0.95, 0.75])
_PAINT = ((0.75, 0.10, 0.10), (0.15, 0.2, 0.6), (0.85, 0.85, 0.85), (0.12, 0.12, 0.13), (0.7, 0.55, 0.1))
_WALLS = ((0.72, 0.60, 0.50), (0.62, 0.36, 0.28), (0.75, 0.73, 0.66), (0.50, 0.53, 0.58))


@dataclass(frozen=True)
class Car:
    """A vehicle of the town at one moment.

    Attributes
    ----------
    actor_id : int
        Unique in the town.
    T_world_vehicle : (4, 4) float64
        CARLA axes; the origin stands on the ground below the middle of the car.
    speed_kmh : float
    paint : int or tuple
        Number of its colour, or red, green and blue.
    half : (3,) float64
        Half sizes of its box, metres.
    cabin : bool
        A low body with a cabin, as a car has; else one block.
    """

    actor_id: int
    T_world_vehicle: FloatArray
    speed_kmh: float
    paint: int | tuple[float, float, float]
    half: FloatArray = field(default_factory=CAR_HALF.copy)
    cabin: bool = True

    @property
    def center(self) -> FloatArray:
        """Centre of the box in the vehicle's axes, metres."""
        return np.array([0.0, 0.0, self.half[2]])


@dataclass(frozen=True)
class Town:
    """What stands still: arrays as `raycast.cast` takes them."""

    boxes: FloatArray
    cylinders: FloatArray
    spheres: FloatArray
    planes: FloatArray = field(default_factory=RAMPS.copy)
    streets: FloatArray = field(default_factory=STREETS.copy)
    look: FloatArray = field(default_factory=LOOK.copy)


@dataclass(frozen=True)
class Moment:
    """The town with its vehicles at one frame.

    `exposures`: factor on the brightness of what an agent's cameras see, by agent id; 1 where there is none.
    `start_xy`: where the first agent began, metres.
    """

    town: Town
    cars: tuple[Car, ...]
    exposures: Mapping[int, float] = field(default_factory=dict)
    start_xy: tuple[float, float] = (0.0, 0.0)

    def car(self, actor_id: int) -> Car:
        """Return a vehicle by its id."""
        return next(car for car in self.cars if car.actor_id == actor_id)

    def cast(
        self, origin: FloatArray, rays: FloatArray, skip_car: int = raycast.NONE
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Cast unit rays (..., 3) from a point (3,), world axes, not seeing one vehicle.

        Returns
        -------
        range_m : (...) float32
            Metres along the ray; 0 is sky.
        rgb : (..., 3) uint8
        """
        boxes = np.concatenate([self.town.boxes, *(_car_boxes(car) for car in self.cars)])
        look = self.town.look.copy()
        look[raycast.LOOK_EXPOSURE] *= self.exposures.get(skip_car, 1.0)
        flat = np.ascontiguousarray(rays.reshape(-1, 3), dtype=np.float64)
        ranges, rgb = raycast.cast(
            np.asarray(origin, np.float64),
            flat,
            self.town.planes,
            boxes,
            self.town.cylinders,
            self.town.spheres,
            self.town.streets,
            look,
            skip_car,
            MAX_RANGE_M,
        )
        return ranges.reshape(rays.shape[:-1]), rgb.reshape(rays.shape)


def generator(*keys: object) -> np.random.Generator:
    """Return a generator seeded from stable keys."""
    digest = hashlib.sha256("\0".join(map(str, keys)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def make_town(seed: int, name: str) -> Town:
    """Build the buildings, poles and trees of a town."""
    rng = generator(seed, name, "town")
    boxes: list[FloatArray] = []
    poles: list[FloatArray] = []
    crowns: list[FloatArray] = []
    for side_x in (-1, 1):
        for side_y in (-1, 1):
            _block(rng, side_x, side_y, boxes, poles, crowns)
    return Town(np.array(boxes), np.array(poles), np.array(crowns))


def ground_height(x: float, y: float, planes: FloatArray = RAMPS) -> float:
    """Return the ground's z at a place."""
    return float((planes @ (x, y, 1.0)).max())


def place(
    x: float,
    y: float,
    yaw_deg: float,
    roll_deg: float = 0.0,
    pitch_deg: float = 0.0,
    planes: FloatArray = RAMPS,
) -> FloatArray:
    """Return the pose (4, 4) of something that stands on the ground, with the ground's slope.

    `roll_deg` and `pitch_deg` are added in its own axes (a car leans on its springs).
    """
    a, b, _ = planes[int((planes @ (x, y, 1.0)).argmax())]
    up = np.array([-a, -b, 1.0]) / math.sqrt(1 + a * a + b * b)
    yaw = math.radians(yaw_deg)
    forward = np.array([math.cos(yaw), math.sin(yaw), 0.0])
    forward -= up * (forward @ up)
    forward /= np.linalg.norm(forward)
    T = np.eye(4)
    T[:3, 0], T[:3, 2] = forward, up
    T[:3, 1] = np.cross(up, forward)
    T[:3, 3] = x, y, ground_height(x, y, planes)
    return T @ geometry.T_world_from_pose([0, 0, 0, roll_deg, 0, pitch_deg])


def make_moment(town: Town, seed: int, name: str, agents: tuple[int, ...], time_s: float) -> Moment:
    """Place agents and traffic at a time.

    Parameters
    ----------
    town : Town
        As made by `make_town`.
    seed, name : int, str
        As given to `make_town`.
    agents : tuple of int
        Actor ids of the vehicles that carry sensors.
    time_s : float
        Seconds since the sequence began.
    """
    rng = generator(seed, name, "cars")
    cars = []
    parked = [90000 + k for k in range(10)]
    slots = _slots(rng, len(agents), len(parked))
    for number, (actor, (x, y, yaw, speed)) in enumerate(zip([*agents, *parked], slots)):
        roll, pitch = rng.uniform(-2.0, 2.0, 2) if number < len(agents) else (0.0, 0.0)
        ahead = speed / 3.6 * time_s
        x, y = x + ahead * math.cos(math.radians(yaw)), y + ahead * math.sin(math.radians(yaw))
        cars.append(Car(actor, place(x, y, yaw, roll, pitch), speed, int(rng.integers(len(_PAINT)))))
    return Moment(town, tuple(cars))


def _slots(rng: np.random.Generator, agents: int, parked: int) -> list[tuple[float, float, float, float]]:
    """Return x, y, yaw, speed (km/h): lanes along both streets for agents, kerbs for the rest."""
    slots = []
    shift = rng.uniform(-45, 45)  # so that some sequences drive on a ramp
    for k in range(agents):
        lane = (k + 1) // 2 * 19.0 * (1 if k % 2 else -1)  # 0, 19, -19, 38, ... metres from the crossing
        if k % 3 == 2:  # on the other street
            slots.append((-2.6, lane + rng.uniform(-2, 2), 90.0 + rng.uniform(-3, 3), 18.0))
        else:
            yaw = rng.uniform(-3, 3) + (180.0 if k % 2 else 0.0)
            y = -2.8 if k % 2 else 2.8
            slots.append((lane + shift + rng.uniform(-2, 2), y, yaw, 18.0))
    for k in range(parked):
        along = 14.0 + 9.0 * (k // 4) + rng.uniform(-1.5, 1.5)
        x, y = along * (1 if k % 2 else -1), 6.2 * (1 if k % 4 < 2 else -1)
        slots.append((x, y, 0.0, 0.0) if k < 7 else (y, x, 90.0, 0.0))
    return slots


def _block(
    rng: np.random.Generator,
    side_x: int,
    side_y: int,
    boxes: list[FloatArray],
    poles: list[FloatArray],
    crowns: list[FloatArray],
) -> None:
    """Add one quarter of the town: a row of buildings, lamps and trees along each of its two streets."""
    for along_y in (False, True):
        at = 14.0
        while at < 130.0:
            length, depth, height = rng.uniform(9, 20), rng.uniform(8, 14), rng.uniform(5, 18)
            back = rng.uniform(13, 17) + depth / 2
            x, y = (at + length / 2) * side_x, back * side_y
            half = np.array([length / 2, depth / 2, height / 2 + 10])
            if along_y:
                x, y, half = back * side_x, (at + length / 2) * side_y, half[[1, 0, 2]]
            if not (along_y and at < 34):  # the corner is taken by the other street's row
                z = ground_height(x, y) + height / 2 - 10
                boxes.append(box((x, y, z), np.eye(3), half, _WALLS[rng.integers(4)], raycast.WINDOWS, raycast.NONE))
            at += length + rng.uniform(3, 9)
        for k in range(8):
            away, along = rng.uniform(9.3, 10.2), 13.0 + 15.0 * k + rng.uniform(-2, 2)
            x, y = along * side_x, away * side_y
            if along_y:
                x, y = away * side_x, along * side_y
            _post(rng, x, y, k % 3 != 1, poles, crowns)


def _post(
    rng: np.random.Generator,
    x: float,
    y: float,
    tree: bool,
    poles: list[FloatArray],
    crowns: list[FloatArray],
) -> None:
    """Add a tree or a lamp post."""
    z = ground_height(x, y)
    if tree:
        height, radius = rng.uniform(3.5, 5.0), rng.uniform(1.3, 2.0)
        poles.append(np.array([x, y, z - 1, z + height, 0.18, 0.33, 0.24, 0.17]))
        crowns.append(np.array([x, y, z + height + radius * 0.6, 0, radius, 0.18, rng.uniform(0.32, 0.45), 0.16]))
    else:
        poles.append(np.array([x, y, z - 1, z + 8.0, 0.10, 0.45, 0.46, 0.48]))


def _car_boxes(car: Car) -> FloatArray:
    """Return a vehicle's boxes: body and cabin, or body and a dark front."""
    T, (length, width, height) = car.T_world_vehicle, car.half
    paint = car.paint if isinstance(car.paint, tuple) else _PAINT[car.paint]
    parts = (
        (((0.0, 0.0, 0.6 * height), (length, width, 0.6 * height), 1.0),
         ((-0.25, 0.0, 1.6 * height), (length - 1.05, width - 0.1, 0.4 * height), 0.45))
        if car.cabin
        else (((-0.3, 0.0, height), (length - 0.3, width, height), 1.0),
              ((length - 0.4, 0.0, 0.8 * height), (0.4, width - 0.05, 0.8 * height), 0.35))
    )  # fmt: skip
    boxes = []
    for middle, half, shade in parts:
        center = T[:3, :3] @ middle + T[:3, 3]
        color = tuple(shade * channel for channel in paint)
        boxes.append(box(center, T[:3, :3], np.array(half), color, raycast.PLAIN, car.actor_id))
    return np.array(boxes)


def box(
    center: npt.ArrayLike,
    R_world_box: FloatArray,
    half: FloatArray,
    color: tuple[float, ...],
    texture: int,
    owner: int,
) -> FloatArray:
    """Return a row as `raycast.BOX_COLUMNS` says."""
    row = np.empty(raycast.BOX_COLUMNS)
    row[0:3], row[3:12], row[12:15], row[15:18] = center, R_world_box.T.ravel(), half, color
    row[raycast.BOX_TEXTURE], row[raycast.BOX_OWNER] = texture, owner
    row[raycast.BOX_RADIUS] = np.linalg.norm(half)
    return row
