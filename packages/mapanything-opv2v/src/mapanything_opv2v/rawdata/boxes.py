"""Annotated vehicles as boxes in the world of the dataset's views."""

from __future__ import annotations

import numpy as np

from mapanything_opv2v.geometry import FloatArray, T_world_from_pose, points_carla_to_opencv, transform_points
from mapanything_opv2v.rawdata.agent_yaml import Vehicle

# forward/back, right/left, up/down in the vehicle's CARLA axes
_SIGNS: FloatArray = np.array([(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)], dtype=np.float64)


def box_corners(vehicle: Vehicle) -> FloatArray:
    """Return the eight corners (8, 3) of a vehicle's box, metres, map frame in OpenCV axes.

    This is the world of `camera_pose` and `pts3d`. Order: front before back, right before left, top before
    bottom. The box's centre stands off `location` by `center` in the vehicle's own axes, as CARLA's
    `BoundingBox` does.

    Examples
    --------
    >>> car = Vehicle(np.zeros(3), np.zeros(3), np.array([2, 1, 0.5]), np.zeros(3), 0.0)
    >>> box_corners(car)[0].tolist()  # front, right, top: x right, y down, z forward
    [1.0, -0.5, 2.0]
    """
    corners_vehicle = vehicle.center + _SIGNS * vehicle.extent
    pose = np.concatenate([vehicle.location, vehicle.angle])
    return points_carla_to_opencv(transform_points(T_world_from_pose(pose), corners_vehicle))
