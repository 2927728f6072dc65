"""Small faults of the panorama's modules that a mutation run found unseen: each test names values by hand."""

from __future__ import annotations

import math
import re

import cv2
import numpy as np
import pytest
from mapanything_opv2v import panorama, rawdata
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama import (
    PanoramaBuilder,
    PanoramaOptions,
    Rig,
    RigCamera,
    builder,
    cache,
    kernels,
    overlap,
    overlap_yaw,
    rig,
    tables,
)

K = np.array([[64.0, 0, 32], [0, 64, 24], [0, 0, 1]])


def test_a_tap_stays_in_the_reduced_image():
    u, v = np.array([[0.0, 9, 4, 5]]), np.array([[0.0, 9, 4, 5]])
    inside = np.array([[True, True, True, False]])
    pixel, right, down = tables._tap(u, v, 1, (10, 10), inside)
    assert pixel.tolist() == [[0, 8 * 10 + 8, 44, 0]]
    assert right.tolist() == down.tolist() == [[0, 1, 0, 0]]
    # every second pixel: the last one's place is 4.25 of 5, beyond the last centre
    pixel, right, down = tables._tap(u, v, 2, (5, 5), inside)
    assert pixel.tolist() == [[0, 3 * 5 + 3, 1 * 5 + 1, 0]]
    assert right.tolist() == down.tolist() == [[0, 1, 0.75, 0]]


def test_the_pixel_of_a_direction():
    """Half a pixel around the image is still its border pixel; what is beyond, or behind, is none."""
    places = [(-0.5, 5), (-0.75, 5), (0.2, 5), (63.25, 5), (63.5, 5), (5, -0.5), (5, -0.75), (5, 0.2), (5, 47.25)]
    places += [(5, 47.5)]
    rays = np.array([[((u - 32) / 64, (v - 24) / 64, 1.0) for u, v in places] + [(0, 0, -1.0)]])
    camera = RigCamera(K, np.eye(4), (64, 48))
    expected = [5 * 64, -1, 5 * 64, 5 * 64 + 63, -1, 5, -1, 5, 47 * 64 + 5, -1, -1]
    assert tables._sky_pixel(camera, rays)[0].tolist() == expected


def test_two_cameras_blend_as_their_mirror_image_does():
    """A camera on each side, white and black: left and right, above and below change places, to one grey level."""
    K_middle = np.array([[40.0, 0, 39.5], [0, 40, 29.5], [0, 0, 1]])
    cameras = []
    for degrees in (-35, 35):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        T = np.eye(4)
        T[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        cameras.append(RigCamera(K_middle, T, (80, 60)))
    white, black = np.full((60, 80, 3), 255, np.uint8), np.zeros((60, 80, 3), np.uint8)
    options = PanoramaOptions(feather_deg=8.0, projection_radius_m=math.inf, antialias=False)
    made = PanoramaBuilder(Rig(tuple(cameras)), Cylinder(240, 60, 90, 0), options).build([white, black])
    seen, grey = made.covered, made.color[..., 0].astype(int)
    assert np.array_equal(seen, seen[:, ::-1]) and np.array_equal(seen, seen[::-1])
    assert np.abs(grey + grey[:, ::-1] - 255)[seen].max() <= 1
    assert np.abs(grey - grey[::-1])[seen].max() <= 1
    assert ((grey > 20) & (grey < 235)).sum() > 100  # there is a blend to compare


def test_a_camera_near_its_border_fades_but_never_gains():
    feather = 1.0
    weights = tables._weights(np.array([[[1.2]], [[0.7]]]), feather)  # half a feather behind, beyond half a feather
    assert weights[:, 0, 0].tolist() == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize(("share", "kept"), [(1 / 600, 1), (1 / 400, 2), (1 / 300, 2)])
def test_weights_that_change_no_colour_are_left_out(share, kept):
    weights = np.array([[[1 - share]], [[share]]], np.float32)
    one = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
    taps = [(*one, 0, 4), (*one, 16, 4)]
    table = tables._group(weights, taps, np.zeros((1, 1, 2), np.int32), np.ones((1, 1), bool), (1, 1), (0, 16, 32))
    assert table.first.tolist() == [0, kept] and table.weight.sum() == pytest.approx(1)


def test_the_oldest_table_goes_first(monkeypatch):
    monkeypatch.setattr(tables, "_tables", type(tables._tables)())
    monkeypatch.setattr(tables, "MAX_TABLES", 2)
    one = Rig((RigCamera(K, np.eye(4), (64, 48)),))
    made = [tables.color_table(one, Cylinder(36, 9, 90, 0), PanoramaOptions(feather_deg=n)) for n in (1, 2, 3)]
    assert [key[4] for key in tables._tables] == [2, 3]
    assert tables.color_table(one, Cylinder(36, 9, 90, 0), PanoramaOptions(feather_deg=2)) is made[1]


def test_images_are_reduced_by_their_focal_length():
    cylinder = Cylinder(63, 16, 90, 0)  # 10 pixels a radian
    assert tables._shrink(np.array([[100.0, 0, 1], [0, 100, 1], [0, 0, 1]]), cylinder) == 8
    assert tables._shrink(np.array([[100.0, 0, 1], [0, 30, 1], [0, 0, 1]]), cylinder) == 2
    assert tables._shrink(np.array([[30.0, 0, 99], [0, 100, 99], [0, 0, 1]]), cylinder) == 2


def test_what_a_reduced_image_leaves_over_is_cut_off():
    """101 rows in pairs are 50: the last row must not leak into the others."""
    image = np.zeros((101, 160, 3), np.uint8)
    image[100] = 255
    camera = RigCamera(np.array([[160.0, 0, 79.5], [0, 160, 50], [0, 0, 1]]), np.eye(4), (160, 101))
    made = PanoramaBuilder(Rig((camera,)), Cylinder(360, 90, 90, 0)).build([image])
    assert made.covered.any() and made.color.max() == 0


def test_four_taps_of_three_channels():
    pixels = np.array([[10, 110, 60], [20, 130, 90], [50, 170, 10], [90, 250, 200]], np.uint8)  # 2 x 2
    out = np.zeros((1, 3), np.uint8)
    fraction, one = np.array([[0.25, 0.5]], np.float32), np.ones(1, np.float32)
    first, zero, two = np.array([0, 1], np.int32), np.zeros(1, np.int32), np.full(1, 2, np.int32)
    kernels.blend(pixels, first, zero, two, fraction, one, out)
    top, bottom = 0.75 * pixels[0] + 0.25 * pixels[1], 0.75 * pixels[2] + 0.25 * pixels[3]
    assert out[0].tolist() == np.floor(0.5 * top + 0.5 * bottom + 0.5).astype(int).tolist()


def test_slopes_of_inverse_depth():
    def slope(*inverse):
        return kernels._slope(1 / np.array(inverse), 1, 0, 2, True, True)

    assert slope(1.0, 1.1, 1.3)[0] == pytest.approx(0.1)  # the side that differs less
    assert slope(1.0, 1.125, 1.0)[0] == pytest.approx(-0.125)  # equally much: the one ahead
    assert slope(1.0, 1.3, 1.9) == (0.0, True)  # steep, and the sides differ: a step
    assert slope(1.0, 1.3, 1.61)[0] == pytest.approx(0.3)  # steep, and both sides agree


def camera_row(skew=0.0, reach=1.5, first=0, size=(64, 48)):
    row = np.zeros(kernels.CAMERA_COLUMNS)
    row[:8] = 64, 64, skew, 32, 24, *size, first
    row[8:17], row[20] = np.eye(3).ravel(), reach
    return row


def follow(depth, u, v, **options):
    row = camera_row(**options)
    ray = np.array([(u - 32 - row[2] * (v - 24) / 64) / 64, (v - 24) / 64, 1.0])
    ray /= np.linalg.norm(ray)
    return kernels._follow(depth.ravel(), row, 0.0, 0.0, 0.0, *ray, v * 64 + u), 1 / ray[2]


def test_a_ray_meets_what_its_pixel_saw():
    (state, t), per_metre = follow(np.full((48, 64), 0.5), 40, 10)
    assert state == kernels.MET and t == pytest.approx(0.5 * per_metre)  # nearer than a metre


def test_the_last_but_one_column_has_a_neighbour_ahead():
    depth = np.full((48, 64), 5.0)
    depth[:, 61] = 0  # nothing behind
    (state, t), per_metre = follow(depth, 62, 10)
    assert state == kernels.MET and t == pytest.approx(5.0 * per_metre)


def test_skew_leads_back_to_the_pixel():
    (state, t), per_metre = follow(np.full((48, 64), 5.0), 30, 44, skew=8.0)
    assert state == kernels.MET and t == pytest.approx(5.0 * per_metre)


def test_the_first_source_is_a_source():
    """Number 0 is a pixel too, of which a neighbour may learn, and which is no sky."""
    cylinder = Cylinder(360, 180, 180, 0)
    rays = cylinder.rays().reshape(-1, 3).astype(np.float32)
    corner = np.array([-32 / 64, -24 / 64, 1.0])
    here = int(np.argmax(rays @ (corner / np.linalg.norm(corner))))
    sources, ranges = np.full(len(rays), kernels.NO_SOURCE, np.int32), np.full(len(rays), kernels.FAR)
    sources[here], ranges[here] = 0, 5.0
    depths, rows = np.full(48 * 64, 5.0, np.float32), camera_row(reach=9.0)[None]
    assert kernels.gather(depths, rows, rays, 360, sources, ranges) > 0
    sky = np.ones(2, bool)
    kernels.find_sky(
        np.full(48 * 64, -1.0, np.float32), rows, np.zeros((2, 1), np.int32), np.array([0, -1], np.int32), sky
    )
    assert sky.tolist() == [False, True]


def test_of_two_surfaces_the_nearer_is_taken():
    cylinder = Cylinder(360, 90, 90, 0)
    rays = cylinder.rays().reshape(-1, 3).astype(np.float32)
    count = 48 * 64
    depths = np.concatenate([np.full(count, 4.0), np.full(count, 8.0)]).astype(np.float32)
    rows = np.stack([camera_row(reach=9.0), camera_row(reach=9.0, first=count)])
    middle = 45 * 360 + 180

    def pixel(m):
        x, y, z = K @ rays[m]
        return round(y / z) * 64 + round(x / z)

    for left, right in ((0, count), (count, 0)):  # the nearer one left, then right
        sources, ranges = np.full(len(rays), kernels.NO_SOURCE, np.int32), np.full(len(rays), kernels.FAR)
        for m, first in ((middle - 1, left), (middle + 1, right)):
            sources[m], ranges[m] = first + pixel(m), 1.0
        kernels.gather(depths, rows, rays, 360, sources, ranges)
        assert ranges[middle] == pytest.approx(4.0 / rays[middle][2], rel=1e-5)


def test_reach_follows_the_finer_axis():
    cylinder = Cylinder(360, 90, 90, 0)
    per_radian = 360 / (2 * math.pi)
    for fx, fy in ((80.0, 20.0), (20.0, 200.0)):
        camera = RigCamera(np.array([[fx, 0, 10], [0, fy, 20], [0, 0, 1]]), np.eye(4), (100, 100))
        (row,) = builder._camera_rows(Rig((camera,)), cylinder)
        corner = (90 / fx) ** 2 + (80 / fy) ** 2
        assert row[20] == pytest.approx(1.5 + max(fx, fy) / per_radian * (1 + corner))


def test_holes_grow_by_one_ring():
    ranges = np.zeros((7, 9), np.float32)
    ranges[3, 4] = 0.5
    result, filled = builder.fill_holes(ranges, np.ones_like(ranges, bool), 1)
    expected = np.zeros((7, 9), bool)
    expected[2:5, 3:6] = True
    assert np.array_equal(result > 0, expected) and filled.sum() == 8


def test_depth_of_the_sky_distance_is_sky():
    depth = np.array([[rawdata.SKY_DISTANCE_M, np.nextafter(np.float32(rawdata.SKY_DISTANCE_M), np.float32(0))]])
    assert (builder._clean(depth.astype(np.float32), 0) < 0).tolist() == [True, False]


def test_defaults_and_limits_of_the_options():
    options = PanoramaOptions()
    assert (options.projection_radius_m, options.ground_height_m, options.fill_radius_px) == (20.0, None, 0)
    assert PanoramaOptions(feather_deg=90).feather_deg == 90
    for wrong in ({"feather_deg": 91}, {"fill_radius_px": -1}, {"fill_radius_px": 65}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PanoramaOptions(**wrong)


@pytest.mark.parametrize("change", [((1, 0), 1.0), ((1, 0), -1.0), ((1, 1), 0.0), ((0, 0), 0.0)])
def test_what_is_no_intrinsic_is_refused(change):
    wrong = K.copy()
    wrong[change[0]] = change[1]
    with pytest.raises(ValueError, match="RigCamera: intrinsic"):
        RigCamera(wrong, np.eye(4), (64, 48))


def test_angles_of_a_key_lie_in_one_turn():
    turn = round(360 / rig.ANGLE_STEP_DEG)
    for degrees in (-180, -90, 0, 90, 179):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        T = np.eye(4)
        T[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        steps = rig._rounded(RigCamera(K, T, (64, 48))).steps[3:]
        assert all(-turn // 2 <= step < turn // 2 for step in steps)


def test_an_agent_s_rig_and_panorama(town_yaml, small_town):
    """Files in, panorama out: the same with the YAML read before, and as by hand."""
    agent = rawdata.agent_beside(town_yaml)
    meta = rawdata.load_agent_yaml(town_yaml)
    sizes = [(80, 60)] * len(agent.camera_paths)
    made = panorama.Rig.from_agent(meta, sizes)
    assert [camera.size_wh for camera in made.cameras] == sizes and len(made.cameras) == len(meta.cameras)
    with pytest.raises(ValueError, match=r"Rig: no camera9 in the YAML; cameras there: \[0, 1, 2, 3\]"):
        panorama.Rig.from_agent(meta, [(80, 60)], [9])
    cylinder = Cylinder(72, 18, 90, 0)
    options = PanoramaOptions()
    images = [rawdata.load_image(path) for path in agent.camera_paths.values()]
    by_hand = PanoramaBuilder(made, cylinder, options).build(images)
    for known in (None, meta):
        loaded = panorama.load_panorama(agent, cylinder, options, with_depth=False, meta=known)
        assert np.array_equal(loaded.color, by_hand.color) and loaded.covered.any()
    agreement = overlap.agent_agreement(agent)
    assert agreement and all(re.fullmatch(r"\d-\d", pair) for pair in agreement)


def test_too_few_pixels_have_no_correlation():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, overlap.MIN_PIXELS))
    for count, expected in (
        (overlap.MIN_PIXELS, 1.0),
        (overlap.MIN_PIXELS // 2, 1.0),
        (overlap.MIN_PIXELS // 2 - 1, -1),
    ):
        seen = np.arange(overlap.MIN_PIXELS)[None] < count
        assert overlap.correlation(values, seen, 2 * values + 1, seen) == pytest.approx(expected)


def test_the_best_shift_by_hand():
    assert overlap_yaw._best_shift([0, 0.5, 0.9, 0.5, 0]) == pytest.approx(2)
    assert overlap_yaw._best_shift([0, 0.5, 0.9, 0.7, 0]) == pytest.approx(2 + 0.5 * (0.5 - 0.7) / (0.5 - 1.8 + 0.7))
    assert overlap_yaw._best_shift([0.9, 0.5, 0]) is None and overlap_yaw._best_shift([0, 0.5, 0.9]) is None
    assert overlap_yaw._best_shift([0, 0.1, 0]) is None


@pytest.mark.parametrize("rows", [-1, 0, 1])
def test_one_row_up_or_down_is_tried(rows):
    image = np.random.default_rng(1).normal(size=(60, 80))
    seen = np.ones_like(image, bool)
    moved = np.roll(image, rows, 0)
    assert overlap_yaw._at((image, seen), (moved, seen), 0) == pytest.approx(1)
    assert overlap_yaw._at((image, seen), (np.roll(image, (2, 0), (0, 1)), seen), 0) < 0.5


def test_turns_lie_in_half_a_turn_to_each_side():
    assert overlap_yaw.camera_turns({(1, 2): 200.0}) == {1: 0.0, 2: 160.0}
    assert math.copysign(1, overlap_yaw._wrapped(-0.0)) == 1


def test_a_cache_folder_keeps_its_name_and_knows_its_size(tmp_path):
    home = cache.PanoramaCache(tmp_path, Cylinder(72, 18, 90, 0), PanoramaOptions(), None).home
    assert re.fullmatch(r"72x18-[0-9a-f]{12}", home.name)
    for size in ((18, 36), (36, 144)):
        _, png = cv2.imencode(".png", np.zeros((*size, 3), np.uint8))
        with pytest.raises(ValueError, match="its colours have another size"):
            cache._unpack({"color_png": png.ravel()}, (18, 72))
