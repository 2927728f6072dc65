import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapanything_opv2v import geometry as g

angle = st.floats(-180, 180)
metre = st.floats(-500, 500)
steep = st.floats(-89, 89)
poses = st.tuples(metre, metre, metre, angle, angle, steep)

# a published frame of OPV2V (agent 4805, frame 000069); lidar_pose as rounded in its documentation
CORDS = [
    141.35067749023438,
    -388.642578125,
    1.0410505533218384,
    0.07589337974786758,
    174.18048095703125,
    0.20690691471099854,
]
LIDAR_POSE = [144.33, -388.94, 1.93, 0.078, 174.18, 0.21]
EXTRINSIC_T = (-2.99999, -0.0000039, 0.9)


def rotation(axis, degrees):
    """Right-handed rotation about one axis, from the textbook."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array(
        {
            "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
            "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        }[axis]
    )


def test_poses_alone_give_the_extrinsic_of_the_published_frame():
    T = g.T_cam_lidar_carla(CORDS, LIDAR_POSE)
    # lidar_pose is rounded to 5 mm and 0.005 degrees (0.3 mm at 3 m), 0.0005 in roll
    assert np.abs(T[:3, 3] - EXTRINSIC_T).max() < 0.012
    assert g.rotation_angle_deg(T[:3, :3]) < 0.008


def test_the_extrinsic_is_exact_at_the_published_precision():
    """Rebuild lidar_pose from cords and the extrinsic: it must round to the documented one."""
    extrinsic = np.eye(4)
    extrinsic[:3, 3] = EXTRINSIC_T
    rebuilt = g.pose_from_T_world(g.T_world_from_pose(CORDS) @ extrinsic)
    assert np.abs(rebuilt - LIDAR_POSE)[:3].max() < 0.0101
    assert np.abs(rebuilt - LIDAR_POSE)[3:].max() < 0.0032


def test_a_wrong_sign_of_pitch_misses_the_published_frame():
    wrong_cords, wrong_lidar = list(CORDS), list(LIDAR_POSE)
    wrong_cords[5], wrong_lidar[5] = -CORDS[5], -LIDAR_POSE[5]
    t = g.T_cam_lidar_carla(wrong_cords, wrong_lidar)[:3, 3]
    assert abs(t[2] - EXTRINSIC_T[2]) > 0.02


@pytest.mark.parametrize("pitch", [0.0, 5.0, -20.0, 60.0])
@pytest.mark.parametrize("roll", [0.0, 3.0, -30.0])
def test_a_mounted_camera_keeps_its_extrinsic_on_any_slope(roll, pitch):
    mount = g.T_world_from_pose([3.0, 0.3, -0.9, 1.0, 100.0, 2.0])
    T_world_lidar = g.T_world_from_pose([144.0, -388.0, 12.0, roll, 174.0, pitch])
    cords, lidar = (g.pose_from_T_world(T) for T in (T_world_lidar @ mount, T_world_lidar))
    assert np.allclose(g.T_cam_lidar_carla(cords, lidar), np.linalg.inv(mount), atol=1e-9)


@given(poses)
def test_rotation_is_the_textbook_product(pose):
    *_, roll, yaw, pitch = pose
    expected = rotation("z", yaw) @ rotation("y", -pitch) @ rotation("x", -roll)
    T = g.T_world_from_pose(pose)
    assert np.allclose(T[:3, :3], expected, atol=1e-12)
    assert np.allclose(T[:3, 3], pose[:3])


def test_directions_of_a_carla_pose_by_hand():
    nose_up = g.T_world_from_pose([0, 0, 0, 0, 0, 30])[:3, :3]
    assert np.allclose(nose_up @ [1, 0, 0], [math.cos(math.pi / 6), 0, 0.5])  # pitch raises the forward axis
    assert np.allclose(g.T_world_from_pose([0, 0, 0, 0, 90, 0])[:3, :3] @ [1, 0, 0], [0, 1, 0])  # yaw turns right
    lean = g.T_world_from_pose([0, 0, 0, 30, 0, 0])[:3, :3]
    assert (lean @ [0, 1, 0])[2] == pytest.approx(-0.5)  # roll lowers the right side


@given(poses)
def test_pose_round_trip(pose):
    T = g.T_world_from_pose(pose)
    assert np.allclose(g.T_world_from_pose(g.pose_from_T_world(T)), T, atol=1e-9)


@pytest.mark.parametrize("pitch", [90.0, -90.0])
def test_pose_of_a_vertical_body_gives_the_same_transform(pitch):
    T = g.T_world_from_pose([1, 2, 3, 20, 50, pitch])
    assert np.allclose(g.T_world_from_pose(g.pose_from_T_world(T)), T, atol=1e-7)


@given(poses, poses)
def test_axes_change_is_a_homomorphism_and_undone(a, b):
    A, B = g.T_world_from_pose(a), g.T_world_from_pose(b)
    assert np.allclose(g.carla_to_opencv(A @ B), g.carla_to_opencv(A) @ g.carla_to_opencv(B), atol=1e-8)
    assert np.allclose(g.opencv_to_carla(g.carla_to_opencv(A)), A, atol=1e-12)
    assert np.linalg.det(g.carla_to_opencv(A)[:3, :3]) == pytest.approx(1)


@given(poses, st.tuples(metre, metre, metre))
def test_points_and_transforms_change_axes_together(pose, point):
    T, p = g.T_world_from_pose(pose), np.array(point)
    through_carla = g.points_carla_to_opencv(g.transform_points(T, p))
    through_opencv = g.transform_points(g.carla_to_opencv(T), g.points_carla_to_opencv(p))
    assert np.allclose(through_carla, through_opencv, atol=1e-8)
    assert np.allclose(g.points_opencv_to_carla(g.points_carla_to_opencv(p)), p)


def test_a_level_camera_looks_along_its_yaw_in_opencv_axes():
    T = g.T_world_cam_opencv([10, 20, 3, 0, 90, 0])
    # 5 m in front of a camera that looks along the map's y: map (10, 25, 3), in OpenCV axes (y, -z, x)
    assert np.allclose(g.transform_points(T, np.array([0, 0, 5.0])), [25, -3, 10])


def test_pinhole_by_hand():
    K = [[100, 0, 49.5], [0, 100, 29.5], [0, 0, 1]]
    u, v, z = g.project_pinhole(K, np.array([[1.0, -2.0, 4.0], [0, 0, -1.0], [0, 0, 0]]))
    assert (u[0], v[0], z[0]) == (74.5, -20.5, 4.0)
    assert np.isnan(u[1:]).all() and np.isnan(v[1:]).all()


@given(st.floats(50, 900), st.floats(50, 900), st.floats(-5, 5), st.floats(0, 60), st.floats(0, 40))
def test_rays_project_to_their_pixels(fx, fy, skew, cx, cy):
    K = [[fx, skew, cx], [0, fy, cy], [0, 0, 1]]
    u, v, _ = g.project_pinhole(K, 7.0 * g.pinhole_rays(K, (61, 41)))
    assert np.allclose(u, np.arange(61)[None], atol=1e-8)
    assert np.allclose(v, np.arange(41)[:, None], atol=1e-8)


def test_ranges_are_longer_than_z_depth_off_the_axis():
    K = [[1.0, 0, 1], [0, 1.0, 0], [0, 0, 1]]
    assert np.allclose(g.ranges_from_depth_z(np.full((1, 3), 2.0), K), [[2 * math.sqrt(2), 2, 2 * math.sqrt(2)]])


@given(st.integers(2, 60), st.integers(2, 40), st.floats(5, 170), st.floats(-80, 80), st.floats(0.01, 1e4))
def test_cylinder_round_trip(width, height, fov, center, distance):
    if abs(center) + fov / 2 > 90:
        with pytest.raises(ValueError, match="degrees of elevation"):
            g.Cylinder(width, height, fov, center)
        return
    cylinder = g.Cylinder(width, height, fov, center)
    u, v, range_m = cylinder.project(distance * cylinder.rays())
    assert np.allclose(u, np.arange(width)[None], atol=1e-6)
    assert np.allclose(v, np.arange(height)[:, None], atol=1e-6)
    assert np.allclose(range_m, distance)


def test_cylinder_by_hand():
    cylinder = g.Cylinder(360, 90, vertical_fov_deg=90, elevation_center_deg=0)
    u, v, r = cylinder.project(np.array([[0, 0, 2.0], [3, 0, 0], [0, -1, 1], [-1e-9, 0, -1], [0, 0, 0]]))
    assert u[:2] == pytest.approx([179.5, 269.5])  # forward in the middle, right a quarter further
    assert v[:3] == pytest.approx([44.5, 44.5, -0.5])  # 45 degrees up is the upper edge
    assert r[:3] == pytest.approx([2, 3, math.sqrt(2)])
    assert u[3] == pytest.approx(-0.5, abs=1e-5)  # backwards: the seam
    assert np.isnan(u[4]) and r[4] == 0


def test_looking_up_moves_the_horizon_down():
    v = g.Cylinder(100, 50, 50, elevation_center_deg=10).project(np.array([0, 0, 1.0]))[1]
    assert v == pytest.approx(24.5 + 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 10), "width=1, expected an integer of at least 2"),
        ((10, 2.5), "height=2.5, expected an integer"),
        ((10, 10, 0), "vertical_fov_deg=0, expected 0 < fov <= 180"),
        ((10, 10, 90, 60), "reach from 15.0 to 105.0 degrees"),
    ],
)
def test_bad_cylinders(arguments, message):
    with pytest.raises(ValueError, match=message):
        g.Cylinder(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: g.T_world_from_pose([1, 2, 3]), r"six finite numbers \[x, y, z, roll, yaw, pitch\]"),
        (lambda: g.T_world_from_pose([0, 0, 0, 0, np.nan, 0]), "six finite numbers"),
        (lambda: g.check_rigid(np.eye(3)), r"\(4, 4\) transform, got shape \(3, 3\)"),
        (lambda: g.check_rigid(np.diag([2.0, 1, 1, 1])), "differs from I by 3"),
        (lambda: g.check_rigid(np.diag([-1.0, 1, 1, 1])), "det -1"),
        (lambda: g.carla_to_opencv(np.eye(3)), r"got shape \(3, 3\)"),
    ],
)
def test_bad_poses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@given(st.floats(0, 180))
def test_rotation_angle(degrees):
    assert g.rotation_angle_deg(rotation("y", degrees)) == pytest.approx(degrees, abs=1e-6)
