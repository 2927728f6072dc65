from __future__ import annotations

import doctest

import numpy as np
from mapanything_opv2v import geometry
from mapanything_opv2v.rawdata import Vehicle, boxes, load_agent_yaml, load_pcd


def test_the_docstring_holds():
    assert doctest.testmod(boxes, extraglobs={"np": np}).failed == 0


def test_a_turned_car_by_hand():
    """A 4 x 2 x 1 m car at (10, 20, 0), its centre half a metre up, turned 90 degrees to the right."""
    car = Vehicle(
        location=np.array([10.0, 20.0, 0.0]),
        center=np.array([0.0, 0.0, 0.5]),
        extent=np.array([2.0, 1.0, 0.5]),
        angle=np.array([0.0, 90.0, 0.0]),
        speed=0.0,
    )
    # its front points to +y, its right side to -x: front right top is CARLA (9, 22, 1), OpenCV (22, -1, 9)
    corners = boxes.box_corners(car)
    assert np.allclose(corners[0], (22, -1, 9))
    assert np.allclose(corners[7], (18, 0, 11))  # back, left, bottom
    assert np.allclose(corners.mean(axis=0), (20, -0.5, 10))


def test_lidar_points_lie_on_the_boxes(small_town):
    """Another car's returns, as its neighbour's LiDAR measures them, lie on the surface of its box."""
    here = small_town.root / "train" / small_town.sequences[0] / str(small_town.agents[1])
    frame = small_town.frames[0]
    meta = load_agent_yaml(here / f"{frame}.yaml")
    points = geometry.transform_points(
        geometry.T_world_from_pose(meta.lidar_pose), load_pcd(here / f"{frame}.pcd").xyz.astype(np.float64)
    )
    on_surface = []
    for vehicle in meta.vehicles.values():
        corners = geometry.points_opencv_to_carla(boxes.box_corners(vehicle))
        axes = np.stack([corners[0] - corners[4], corners[0] - corners[2], corners[0] - corners[1]])
        half = np.linalg.norm(axes, axis=1) / 2
        local = (points - corners.mean(axis=0)) @ (axes / (2 * half[:, None])).T
        body = (local[:, 2] > 0.1 - half[2]) & (local[:, 2] < 0.1)  # above it the synthetic cars narrow
        near = body & (np.abs(local) < half + 0.02).all(axis=1)
        on_surface.append(np.abs(np.abs(local[near]) - half)[:, :2].min(axis=1))
    distances = np.concatenate(on_surface)
    assert len(distances) > 50 and np.quantile(distances, 0.99) < 1e-3
