import numpy as np
import pytest
from roborefer_spatial.synthetic.raycast import Camera, Solid, cast

AXIS = Camera((0.0, 0.0, 0.0), (0.0, 5.0, 0.0), 100.0, (101, 81))  # looks along +y; x to the right, z up


def one_ray(solid, origin, direction):
    direction = np.asarray(direction, np.float32)
    depth, normal, point = cast(solid, origin, (direction / np.linalg.norm(direction))[None, None])
    return float(depth[0, 0]), normal[0, 0], point[0, 0]


def test_the_camera_frame_is_right_down_forward():
    np.testing.assert_allclose(AXIS.rotation, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-6)
    rays = AXIS.rays()
    assert rays.shape == (81, 101, 3)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(rays[40, 50], [0, 1, 0], atol=1e-6)  # the middle pixel looks straight ahead
    assert rays[40, 100, 0] > 0
    assert rays[80, 50, 2] < 0


def test_a_box_by_hand():
    box = Solid("box", (0.0, 5.0, 0.0), (1.0, 1.0, 1.0), (1, 1, 1))
    depth, normal, point = one_ray(box, (0, 0, 0), (0, 1, 0))
    assert depth == pytest.approx(4)
    np.testing.assert_allclose(normal, [0, -1, 0])
    np.testing.assert_allclose(point, [0, -1, 0], atol=1e-6)
    assert one_ray(box, (0, 0, 0), (0, -1, 0))[0] == np.inf
    assert one_ray(box, (2, 0, 0), (0, 1, 0))[0] == np.inf


def test_a_turned_box_is_nearer_at_its_edge():
    box = Solid("box", (0.0, 5.0, 0.0), (1.0, 1.0, 1.0), (1, 1, 1), yaw=np.pi / 4)
    assert one_ray(box, (0, 0, 0), (0, 1, 0))[0] == pytest.approx(5 - np.sqrt(2), abs=1e-5)


def test_a_cylinder_has_a_side_and_caps():
    can = Solid("cylinder", (0.0, 5.0, 0.0), (0.5, 0.5, 1.0), (1, 1, 1))
    assert one_ray(can, (0, 0, 0), (0, 1, 0))[0] == pytest.approx(4.5)
    depth, normal, _ = one_ray(can, (0.2, 5.1, 9), (0, 0, -1))
    assert depth == pytest.approx(8)
    np.testing.assert_allclose(normal, [0, 0, 1])
    assert one_ray(can, (0, 0, 1.1), (0, 1, 0))[0] == np.inf


def test_an_ellipsoid_by_hand():
    egg = Solid("ellipsoid", (0.0, 5.0, 0.0), (0.5, 0.5, 2.0), (1, 1, 1))
    assert one_ray(egg, (0, 0, 0), (0, 1, 0))[0] == pytest.approx(4.5)
    assert one_ray(egg, (0, 5, 9), (0, 0, -1))[0] == pytest.approx(7)


@pytest.mark.parametrize("shape", ["box", "cylinder", "ellipsoid"])
def test_hits_agree_with_marching_along_the_ray(shape):
    """Independent oracle: walk along each ray until a point is inside of the solid."""
    solid = Solid(shape, (0.2, 3.0, -0.1), (0.6, 0.4, 0.7), (1, 1, 1), yaw=0.4)
    camera = Camera((0.0, 0.0, 0.3), (0.0, 3.0, 0.0), 40.0, (41, 33))
    depth, _, _ = cast(solid, camera.position, camera.rays())
    steps = np.arange(1.5, 5, 0.004)
    points = camera.position + camera.rays()[..., None, :] * steps[:, None]
    cos, sin = np.cos(0.4), np.sin(0.4)
    local = (points - solid.center) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) / solid.half
    if shape == "box":
        inside = (np.abs(local) <= 1).all(-1)
    elif shape == "cylinder":
        inside = ((local[..., :2] ** 2).sum(-1) <= 1) & (np.abs(local[..., 2]) <= 1)
    else:
        inside = (local**2).sum(-1) <= 1
    hit = inside.any(-1)
    assert (hit != np.isfinite(depth)).sum() <= 3  # grazing rays fall between the steps
    both = hit & np.isfinite(depth)
    assert both.sum() > 50
    np.testing.assert_allclose(depth[both], steps[inside.argmax(-1)][both], atol=0.005)


def test_the_window_holds_every_hit():
    rng = np.random.default_rng(0)
    for _ in range(60):
        center = tuple(rng.uniform((-2, -1, -1), (2, 6, 1)))
        solid = Solid("box", center, tuple(rng.uniform(0.1, 0.8, 3)), (1, 1, 1), yaw=float(rng.uniform(0, 6)))
        hits = np.isfinite(cast(solid, AXIS.position, AXIS.rays())[0])
        window = AXIS.window(solid)
        if window is None:
            assert not hits.any()
        else:
            outside = hits.copy()
            outside[window] = False
            assert not outside.any()
