"""Panoramas of worlds whose answer is known everywhere: spheres around the centre, planes, plain colours."""

import math

import numpy as np
import pytest
from mapanything_opv2v import geometry as g
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama import PanoramaBuilder, PanoramaOptions, Rig, RigCamera, fill_holes, tables
from mapanything_opv2v.synthetic import sensors

CYLINDER = Cylinder(252, 63)


def opv2v_rig(size=(200, 150)):
    T_lidar_vehicle = g.invert(g.T_world_from_pose(sensors.LIDAR_POSE))
    return Rig(
        tuple(
            RigCamera(
                sensors.opencv_intrinsic(size),
                g.carla_to_opencv(T_lidar_vehicle @ g.T_world_from_pose(pose)),
                size,
            )
            for pose in sensors.CAMERA_POSES
        )
    )


def odd_rig():
    """Five cameras of different sizes, focal lengths and poses, one of them rolled, one looking up."""
    cameras = []
    for k, (yaw, pitch, roll) in enumerate([(0, 0, 0), (80, 5, 0), (150, -8, 10), (-140, 0, -20), (-70, 15, 5)]):
        size = (160 + 20 * k, 140 - 10 * k)
        K = np.array([[90.0 + 5 * k, 0.5, size[0] / 2 - 3], [0, 80.0 + 4 * k, size[1] / 2 + 2], [0, 0, 1]])
        pose = g.T_world_from_pose([0.4 * k - 0.8, 0.3 - 0.1 * k, 0.1 * k, roll, yaw, pitch])
        cameras.append(RigCamera(K, g.carla_to_opencv(pose), size))
    return Rig(tuple(cameras))


def paint(points):
    """A smooth colour for every direction."""
    unit = points / np.linalg.norm(points, axis=-1, keepdims=True)
    waves = np.stack([np.sin(3 * unit[..., 0]), np.cos(4 * unit[..., 1]), np.sin(2 * unit[..., 2] + 1)], -1)
    return np.rint(127.5 + 120 * waves * 0.9).astype(np.uint8)


def sphere_world(rig, radius):
    """What each camera sees inside a painted sphere around the panorama's centre: images and z-depths."""
    images, depths = [], []
    for camera in rig.cameras:
        rays = g.pinhole_rays(camera.intrinsic, camera.size_wh) @ camera.T_pano_cam[:3, :3].T
        o = camera.T_pano_cam[:3, 3]
        a, b, c = (rays**2).sum(-1), rays @ o, o @ o - radius**2
        z = (-b + np.sqrt(b * b - a * c)) / a  # rays have z = 1 in the camera
        images.append(paint(o + rays * z[..., None]))
        depths.append(z.astype(np.float32))
    return images, depths


@pytest.mark.parametrize("rig", [opv2v_rig(), odd_rig()], ids=["opv2v", "odd"])
@pytest.mark.parametrize(
    "cylinder",
    [CYLINDER, Cylinder(300, 50, 40, 12), Cylinder(128, 96, 120, -20)],
    ids=["plain", "up", "down"],
)
def test_a_sphere_comes_out_in_its_own_colours_and_at_its_range(rig, cylinder):
    images, depths = sphere_world(rig, 12.0)
    made = PanoramaBuilder(rig, cylinder, projection_radius_m=12.0).build(images, depths)
    truth = paint(cylinder.rays())
    assert made.covered.mean() > 0.4
    error = np.abs(made.color.astype(int) - truth)[made.covered]
    assert error.max() <= 4 and error.mean() < 0.7
    assert (made.color[~made.covered] == 0).all()
    assert np.abs(made.range_m[made.has_range] - 12).max() < 0.05  # planes through a sphere's samples
    # range is carried from all that the cameras see: at this radius that is what the colour covers
    assert (made.has_range ^ made.covered).mean() < 0.03
    assert not made.sky.any() and not made.filled.any()


def test_another_radius_shifts_near_things_only_by_parallax():
    rig = opv2v_rig()
    images, _ = sphere_world(rig, 12.0)
    right = PanoramaBuilder(rig, CYLINDER, projection_radius_m=12.0).build(images)
    wrong = PanoramaBuilder(rig, CYLINDER, projection_radius_m=math.inf).build(images)
    truth = paint(CYLINDER.rays())
    both = right.covered & wrong.covered
    errors = [np.abs(made.color.astype(int) - truth)[both].mean() for made in (right, wrong)]
    assert errors[1] > 5 * errors[0]


def geometric_limit(radius):
    """What OPV2V's rig sees of a 90-degree-high cylinder, from the published poses alone."""
    width, height, f = 1008, 252, 335.639852470912
    azimuth = ((np.arange(width) + 0.5) / width * 2 - 1) * np.pi
    elevation = np.deg2rad(45) * (1 - 2 * (np.arange(height) + 0.5) / height)[:, None]
    level = np.cos(elevation)
    ray = np.stack(np.broadcast_arrays(level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)), -1)
    seen = np.zeros((height, width), bool)
    for (x, y, z), yaw in (
        ((2.5, 0, 1.0), 0),
        ((0, 0.3, 1.8), 100),
        ((0, -0.3, 1.8), -100),
        ((-2, 0, 1.5), 180),
    ):
        point = ray if radius is None else ray * radius + [-0.5 - x, -y, 1.9 - z]
        c, s = np.cos(np.deg2rad(yaw)), np.sin(np.deg2rad(yaw))
        ahead = point[..., 0] * c + point[..., 1] * s
        right = -point[..., 0] * s + point[..., 1] * c
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = f * right / ahead, -f * point[..., 2] / ahead
        # half a pixel inside the border: all four neighbours of a bilinear look-up exist
        seen |= (ahead > 0) & (np.abs(u) <= 399.5) & (np.abs(v) <= 299.5)
    return seen


@pytest.mark.parametrize(("radius", "share"), [(None, 0.856), (20.0, 0.781)])
def test_covered_is_the_geometric_limit_of_the_public_rig(radius, share):
    table = tables.color_table(
        opv2v_rig((800, 600)),
        Cylinder(1008, 252),
        PanoramaOptions(projection_radius_m=math.inf if radius is None else radius),
    )
    expected = geometric_limit(radius)
    assert np.array_equal(table.covered, expected)
    assert table.covered.mean() == pytest.approx(share, abs=0.0015)


def test_the_gaps_beside_the_front_camera_are_not_covered_at_a_distance():
    rig = opv2v_rig()
    white = [np.full((150, 200, 3), 255, np.uint8)] * 4
    made = PanoramaBuilder(rig, CYLINDER, projection_radius_m=20.0).build(white)
    horizon = made.covered[31]
    gaps = np.flatnonzero(~horizon)
    azimuth = (gaps + 0.5) / 252 * 360 - 180
    assert gaps.size > 4
    assert ((np.abs(azimuth) > 40) & (np.abs(azimuth) < 52)).all()
    assert (made.color[31][~horizon] == 0).all()


def test_ground_height_puts_the_road_in_its_place():
    """A chequered plane 1.9 m below: colours are right with `ground_height_m`, displaced without."""
    rig = opv2v_rig()

    def road(points):
        return np.repeat((127 + 100 * np.sin(points[..., 0:1]) * np.sin(points[..., 2:3])), 3, -1).astype(np.uint8)

    images = []
    for camera in rig.cameras:
        rays = g.pinhole_rays(camera.intrinsic, camera.size_wh) @ camera.T_pano_cam[:3, :3].T
        o = camera.T_pano_cam[:3, 3]
        down = np.maximum(rays[..., 1:2], 1e-6)
        images.append(road(o + rays * (1.9 - o[1]) / down))
    rays = CYLINDER.rays()
    below = (rays[..., 1] > 0.2) & (rays[..., 1] < 0.6)
    truth = road(rays * 1.9 / np.maximum(rays[..., 1:2], 1e-6))
    errors = []
    for options in ({"ground_height_m": 1.9}, {}):
        made = PanoramaBuilder(rig, CYLINDER, antialias=False, **options).build(images)
        where = below & made.covered
        errors.append(np.abs(made.color.astype(int) - truth)[where].mean())
    assert errors[0] < 3 and errors[1] > 5 * errors[0]


def test_a_step_in_depth_gives_two_ranges_and_nothing_between():
    rig = opv2v_rig()
    depths = [np.full((150, 200), 40, np.float32) for _ in range(4)]
    for depth in depths:
        depth[60:90, 70:130] = 8  # a board in front of a wall
    images = [np.zeros((150, 200, 3), np.uint8)] * 4
    made = PanoramaBuilder(rig, CYLINDER).build(images, depths)
    # distances of both planes from the panorama's centre along its rays, camera by camera
    allowed = np.zeros(made.range_m.shape, bool)
    for camera in rig.cameras:
        T = g.invert(camera.T_pano_cam)
        towards = (CYLINDER.rays() @ T[:3, :3].T)[..., 2]
        with np.errstate(divide="ignore"):
            for z in (8, 40):
                allowed |= np.abs(made.range_m - (z - T[2, 3]) / towards) < 0.01 * made.range_m
    assert made.has_range.mean() > 0.5
    assert allowed[made.has_range].all()


def test_sparse_depth_is_never_mixed_with_zeros():
    rig = opv2v_rig()
    rng = np.random.default_rng(4)
    _, depths = sphere_world(rig, 30.0)
    depths = [np.where(rng.random(d.shape) < 0.024, d, 0).astype(np.float32) for d in depths]
    made = PanoramaBuilder(rig, CYLINDER).build([np.zeros((150, 200, 3), np.uint8)] * 4, depths)
    assert 0.02 < made.has_range.mean() < 0.3
    assert np.abs(made.range_m[made.has_range] - 30).max() < 1e-3
    assert (made.range_m[~made.has_range] == 0).all()


def test_refine_acts():
    """On a slanted plane the nearest sample's range is off by up to half a pixel; the surface's is not."""
    rig = opv2v_rig()
    depths = []
    for camera in rig.cameras:
        rays = g.pinhole_rays(camera.intrinsic, camera.size_wh) @ camera.T_pano_cam[:3, :3].T
        o = camera.T_pano_cam[:3, 3]
        with np.errstate(divide="ignore"):
            z = (1.9 - o[1]) / rays[..., 1]
        depths.append(np.where((z > 0) & (z < 200), z, -1).astype(np.float32))
    images = [np.zeros((150, 200, 3), np.uint8)] * 4
    with np.errstate(divide="ignore"):
        truth = 1.9 / CYLINDER.rays()[..., 1]
    errors = []
    for refine in (True, False):
        made = PanoramaBuilder(rig, CYLINDER, refine_range=refine).build(images, depths)
        far = made.has_range & (truth > 5) & (truth < 60)
        assert far.mean() > 0.04
        errors.append(np.abs(made.range_m - truth)[far].mean())
    assert errors[0] < 0.02 and errors[1] > 0.2
    # the horizon is sky, and no ground was invented there
    assert made.sky[:25].mean() > 0.5 and not made.has_range[:25].any()


def test_coarse_images_leave_no_pattern_of_holes():
    images, depths = sphere_world(opv2v_rig((100, 75)), 15.0)
    made = PanoramaBuilder(opv2v_rig((100, 75)), Cylinder(504, 126)).build(images, depths)
    where = made.covered.copy()
    where[:, [0, -1]] = False
    assert made.has_range[where].mean() > 0.97
    assert np.abs(made.range_m[made.has_range] - 15).max() < 0.05


def test_masks_are_kept_apart():
    rig = opv2v_rig()
    depths = [np.zeros((150, 200), np.float32) for _ in range(4)]
    depths[0][:75] = 1000.0  # CARLA's far plane: sky
    depths[1][:75] = -1
    depths[2][:75] = np.inf
    depths[3][:75] = 500.0  # far, but measured
    made = PanoramaBuilder(rig, CYLINDER).build([np.zeros((150, 200, 3), np.uint8)] * 4, depths)
    assert not (made.sky & made.has_range).any()
    middle = {"front": 126, "right": 126 + 70, "left": 126 - 70, "back": 0}
    row = 20  # above the horizon
    assert [bool(made.sky[row, middle[k]]) for k in middle] == [True, True, True, False]
    assert made.has_range[row, middle["back"]] and not made.has_range[row, middle["front"]]
    assert not made.sky[45].any() and not made.has_range[45].any()  # below it nothing is known
    assert made.covered[45, middle["front"]]


def test_without_depth_there_is_colour_only():
    made = PanoramaBuilder(opv2v_rig(), CYLINDER).build([np.full((150, 200, 3), 9, np.uint8)] * 4)
    assert made.covered.any() and not made.has_range.any() and not made.sky.any()
    assert (made.color[made.covered] == 9).all()


def test_feather_blends_and_zero_cuts():
    rig = opv2v_rig()
    images = [np.full((150, 200, 3), value, np.uint8) for value in (0, 60, 120, 240)]
    colors = {}
    for feather in (0.0, 5.0, 15.0):
        made = PanoramaBuilder(rig, CYLINDER, projection_radius_m=math.inf, feather_deg=feather).build(images)
        row = made.color[31, 252 * 5 // 6 : 252 * 11 // 12, 0].astype(int)  # right to back
        colors[feather] = row
        assert (np.diff(row) >= 0).all() and row[0] == 60 and row[-1] == 240
    between = {feather: int(((row > 60) & (row < 240)).sum()) for feather, row in colors.items()}
    assert between[0.0] == 0 < between[5.0] < between[15.0]


def test_antialias_acts():
    rig = opv2v_rig((800, 600))
    board = np.indices((600, 800)).sum(0) % 2 * 255
    images = [np.repeat(board[..., None], 3, -1).astype(np.uint8)] * 4
    cylinder = Cylinder(504, 126)
    smooth = PanoramaBuilder(rig, cylinder).build(images)
    rough = PanoramaBuilder(rig, cylinder, antialias=False).build(images)
    assert smooth.color[smooth.covered].std() < 2 and rough.color[rough.covered].std() > 20
    assert np.array_equal(smooth.covered, rough.covered)


def test_filled_pixels_are_marked_and_only_asked_for():
    rig = opv2v_rig()
    images, depths = sphere_world(rig, 12.0)
    for depth in depths:
        depth[70:80, 90:110] = 0
    plain = PanoramaBuilder(rig, CYLINDER).build(images, depths)
    filled = PanoramaBuilder(rig, CYLINDER, fill_radius_px=20).build(images, depths)
    assert not plain.filled.any()
    assert np.array_equal(filled.filled, filled.has_range & ~plain.has_range)
    assert filled.filled.any() and (filled.has_range | ~filled.covered).all()
    assert np.array_equal(filled.range_m[plain.has_range], plain.range_m[plain.has_range])


def test_fill_by_hand():
    ranges = np.array([[5, 0, 0, 0, 9], [0, 0, 0, 0, 0]], np.float32)
    allowed = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 1]], bool)
    once, filled = fill_holes(ranges, allowed, 1)
    # the image closes: column 0's lower neighbour takes the farther of 5 and 9
    assert once.tolist() == [[5, 5, 0, 9, 9], [9, 5, 0, 9, 9]]
    assert filled.tolist() == [[False, True, False, True, False], [True, True, False, True, True]]
    assert fill_holes(ranges, allowed, 2)[0][0].tolist() == [5, 5, 9, 9, 9]
    assert np.array_equal(fill_holes(ranges, allowed, 0)[0], ranges)


def shaken(rig, metres, degrees):
    moved = []
    for camera in rig.cameras:
        shake = g.T_world_from_pose([metres, -metres, metres, degrees, degrees, -degrees])
        moved.append(RigCamera(camera.intrinsic, camera.T_pano_cam @ g.carla_to_opencv(shake), camera.size_wh))
    return Rig(tuple(moved))


def test_tables_are_shared_by_rigs_that_differ_by_rounding_only():
    tables._tables.clear()
    rig, options = opv2v_rig(), PanoramaOptions()
    table = tables.color_table(rig, CYLINDER, options)
    assert tables.color_table(shaken(rig, 1e-5, 1e-4), CYLINDER, options) is table
    assert tables.color_table(shaken(rig, 0.01, 0), CYLINDER, options) is not table
    assert tables.color_table(shaken(rig, 0, 0.2), CYLINDER, options) is not table
    assert tables.color_table(rig, Cylinder(252, 62), options) is not table
    assert tables.color_table(rig, CYLINDER, PanoramaOptions(feather_deg=1)) is not table
    # options that do not concern colour do not build it again
    assert tables.color_table(rig, CYLINDER, PanoramaOptions(fill_radius_px=3)) is table


def test_what_is_returned_can_be_changed_without_harm():
    white = [np.full((150, 200, 3), 255, np.uint8)] * 4
    first = PanoramaBuilder(opv2v_rig(), CYLINDER).build(white)
    first.covered[:] = False
    first.color[:] = 0
    again = PanoramaBuilder(opv2v_rig(), CYLINDER).build(white)
    assert again.covered.any() and again.color.any()


def test_a_shared_table_does_not_depend_on_who_came_first():
    first, second = opv2v_rig(), shaken(opv2v_rig(), 2e-4, 1e-3)
    assert first.key == second.key
    weights = []
    for rig in (first, second):
        tables._tables.clear()
        weights.append(tables.color_table(rig, CYLINDER, PanoramaOptions()).fraction)
    assert np.array_equal(*weights)


def test_the_number_of_tables_is_bounded(monkeypatch):
    monkeypatch.setattr(tables, "MAX_TABLES", 2)
    tables._tables.clear()
    for height in (20, 21, 22, 23):
        tables.color_table(opv2v_rig(), Cylinder(60, height), PanoramaOptions())
    assert len(tables._tables) == 2


def test_range_follows_the_exact_pose_of_the_frame():
    rig = shaken(opv2v_rig(), 4e-4, 4e-3)
    images, depths = sphere_world(rig, 12.0)
    made = PanoramaBuilder(rig, CYLINDER).build(images, depths)
    assert np.abs(made.range_m[made.has_range] - 12).max() < 0.02


IMAGES = [np.zeros((150, 200, 3), np.uint8)] * 4
DEPTHS = [np.ones((150, 200), np.float32)] * 4


@pytest.mark.parametrize(
    ("images", "depths", "message"),
    [
        (IMAGES[:3], DEPTHS, "images: 3 arrays for a rig of 4 cameras"),
        (
            [*IMAGES[:3], IMAGES[0][:100]],
            DEPTHS,
            r"images\[3\]: expected uint8 of shape \(150, 200, 3\), got uint8",
        ),
        ([*IMAGES[:3], IMAGES[0].astype(float)], None, r"images\[3\]: expected uint8 .*, got float64"),
        (IMAGES, DEPTHS[:1], "depths: 1 arrays for a rig of 4 cameras"),
        (
            IMAGES,
            [*DEPTHS[:3], DEPTHS[0].astype(int)],
            r"depths\[3\]: expected float of shape \(150, 200\), got int64",
        ),
        (IMAGES, [*DEPTHS[:3], DEPTHS[0] * np.nan], r"depths\[3\]: 30000 pixels are NaN; 0 means unknown"),
    ],
)
def test_input_that_does_not_fit_says_which(images, depths, message):
    with pytest.raises(ValueError, match=message):
        PanoramaBuilder(opv2v_rig(), CYLINDER).build(images, depths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 3}, "unknown panorama option radius; known: projection_radius_m, ground_height_m"),
        ({"projection_radius_m": 0}, "projection_radius_m=0, expected a positive distance or inf"),
        ({"projection_radius_m": math.nan}, "projection_radius_m=nan"),
        ({"ground_height_m": -1}, "ground_height_m=-1, expected a positive height or None"),
        ({"feather_deg": -1}, "feather_deg=-1, expected 0 to 90"),
        ({"fill_radius_px": 2.5}, "fill_radius_px=2.5, expected an integer from 0 to 64"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        PanoramaBuilder(opv2v_rig(), CYLINDER, **options)


def test_keywords_change_given_options():
    base = PanoramaOptions(feather_deg=1, ground_height_m=2)
    made = PanoramaBuilder(opv2v_rig(), CYLINDER, base, feather_deg=5).options
    assert made == PanoramaOptions(feather_deg=5, ground_height_m=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Rig(()), "expected at least one camera"),
        (lambda: RigCamera(np.zeros((3, 3)), np.eye(4), (8, 8)), "RigCamera: intrinsic"),
        (lambda: RigCamera(np.eye(3), np.eye(4) * 2, (8, 8)), "expected a rotation and translation"),
        (lambda: RigCamera(np.eye(3), np.eye(4), (1, 8)), r"size_wh=\(1, 8\), expected at least 2 x 2"),
    ],
)
def test_bad_rigs(call, message):
    with pytest.raises(ValueError, match=message):
        call()
