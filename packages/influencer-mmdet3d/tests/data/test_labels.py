"""Rules on the arrays of a scene, each at its boundary and by hand."""

import numpy as np
import pytest
from influencer_mmdet3d.data.formats import FORMATS, SceneReport
from influencer_mmdet3d.data.labels import (
    MAX_ID,
    MAX_INSTANCES,
    check_labels,
    check_points,
    check_resolution,
    check_superpoints,
    is_thing,
)

S3DIS, SCANNET = FORMATS["s3dis"], FORMATS["scannet"]
OWN = S3DIS.with_classes(["a", "b", "c", "d"])


def points(xyz, colour=100):
    return np.concatenate([np.asarray(xyz, np.float32), np.full((len(xyz), 3), colour, np.float32)], 1)


def found(rule, *arguments):
    report = SceneReport("scene")
    rule(*(np.asarray(x) if isinstance(x, list) else x for x in arguments), report)
    return {finding.code: (finding.severity, finding.message) for finding in report.findings}


def labels(kind, semantic, instance):
    return found(check_labels, kind, semantic, instance)


def resolution(xyz, instance, kind=S3DIS):
    return found(check_resolution, kind, points(xyz), instance)


@pytest.mark.parametrize(("span", "code"), [(200.0, set()), (200.5, {"extent"})])
def test_a_scene_may_span_200_m(span, code):
    assert set(found(check_points, points([[0, 0, 0], [span, 1, 1]]))) == code


def test_the_span_is_that_of_an_axis_and_not_of_a_point():
    assert not found(check_points, points([[1000, 0, 0], [1001, 0, 0]]))


def test_rounded_coordinates_say_what_is_left_of_each_axis():
    step = 0.03125  # at 262,144 float32 counts in 1/32 m
    xyz = [[262_144 + step * (k % 4), k % 3, k % 2] for k in range(12)]
    severity, message = resolution(xyz, [0] * 12)["rounded-coordinates"]
    assert severity == "error" and "12 points have 4, 3 and 2 distinct x, y and z left" in message
    assert "coordinates reach 262,144, where float32 counts in steps of 0.03125 m" in message


def test_voxels_begin_at_the_lowest_point():
    """0.04 and 0.07 are 0 and 0.03 from there: one voxel of 0.05, for two instances."""
    severity, message = resolution([[0.04, 0, 0], [0.07, 0, 0]], [3, 4])["merged-by-voxels"]
    assert severity == "error" and "2 of 2 instances (ids 3, 4) have no voxel of 0.05 m" in message
    assert not resolution([[0.04, 0, 0], [0.1, 0, 0]], [3, 4])


def test_instance_0_may_be_lost_and_points_without_an_instance_may_not():
    """Instance 0 shares its only voxel; so does -1, which is none. 1 of 3 instances is a note, 1 of 2 an error."""
    shared = [[0, 0, 0], [0.01, 0, 0]]
    apart = [[1, 0, 0], [2, 0, 0]]
    severity, message = resolution(shared + apart, [0, 1, 1, 2])["merged-by-voxels"]
    assert severity == "note" and message.startswith("1 of 3 instances (ids 0)")
    severity, message = resolution(shared + apart[:1], [0, 1, 1])["merged-by-voxels"]
    assert severity == "error" and message.startswith("1 of 2 instances (ids 0)")
    assert not resolution(shared + apart[:1], [-1, 1, 1])


def test_merged_instances_are_found_in_wide_scenes():
    xyz = [[0, 0, 0], [0.01, 0, 0], [50, 50, 3], [60, 0, 0], [70, 0, 0]]
    assert resolution(xyz, [5, 6, 6, 7, 8])["merged-by-voxels"][1].startswith("1 of 4 instances (ids 5)")


def test_labels_outside_are_listed_up_to_five():
    severity, message = labels(S3DIS, [20, 20, 21, 22, 23, 24, 25], [0] * 2 + [1, 2, 3, 4, 5])["label-range"]
    assert severity == "error" and "20 (2 points), 21 (1 points)" in message and "24 (1 points); " in message
    assert "25 (" not in message
    assert "no ignored label here (13 included)" in message and "Use 12, clutter" in message
    assert "Give such points a class of their own" in labels(OWN, [4], [0])["label-range"][1]
    assert not labels(OWN, [0, 3], [0, 1]).keys() & {"label-range"}
    assert "label-range" in labels(OWN, [-1, 3], [0, 1])


def test_ids_at_their_bounds():
    assert "id -3 (2 points)" in labels(S3DIS, [1, 1, 1], [-3, -3, 2])["instance-id"][1]
    assert "instance-id" not in labels(S3DIS, [1, 1], [-1, MAX_ID])
    assert f"id {MAX_ID + 1}:" in labels(S3DIS, [1, 1], [0, MAX_ID + 1])["instance-id"][1]


def test_how_many_instances_the_evaluator_takes():
    ids = np.arange(MAX_INSTANCES)
    assert "too-many-instances" not in labels(S3DIS, np.ones(999, int), ids[:-1])
    assert labels(S3DIS, np.ones(1000, int), ids)["too-many-instances"][1].startswith("1000 instances")
    walls = np.where(ids < 5, 1, 5)  # walls of ScanNet are no instances
    assert "too-many-instances" not in labels(SCANNET, walls, ids)


def test_scannet_needs_a_point_that_is_no_instance():
    assert "no-stuff" in labels(SCANNET, [5, 5], [0, 1])
    assert "no-stuff" in labels(SCANNET, [5, 5], [-2, 1])
    assert "no-stuff" not in labels(SCANNET, [5, 5], [-1, 1])
    assert "no-stuff" not in labels(SCANNET, [5, 2], [0, 1])
    assert [label for label in SCANNET.classes if not is_thing(SCANNET, label)] == [1, 2]


def test_mixed_instances_are_shown_up_to_three_with_four_classes():
    semantic = [k for k in range(5) for _ in range(5)] * 1
    instance = [0, 1, 2, 3, 4] * 5
    message = labels(S3DIS, semantic, instance)["mixed-classes"][1]
    assert message.startswith("5 instances have points of several classes (id 0: 1 ceiling, 1 floor, 1 wall, 1 beam;")
    assert "id 2:" in message and "id 3:" not in message


def test_single_points_and_counts_of_instance_0():
    report = SceneReport("scene")
    check_labels(S3DIS, np.array([8, 7, 7, 2, 2]), np.array([0, 1, 1, -1, -1]), report)
    single = next(finding for finding in report.findings if finding.code == "one-point-instance")
    assert "1 instances of one point (ids 0)" in single.message
    assert report.class_instances == {"chair": 1, "table": 1}, "points without an instance are none"


@pytest.mark.parametrize(("count", "listed"), [(5, "(ids 0, 1, 2, 3, 4):"), (6, "(ids 0, 1, 2, 3, 4, ...):")])
def test_five_ids_are_listed(count, listed):
    assert listed in labels(S3DIS, [3] * count, list(range(count)))["one-point-instance"][1]


def superpoints(superpoint, semantic, instance):
    return found(check_superpoints, SCANNET, superpoint, semantic, instance)


@pytest.mark.parametrize(("last", "severity"), [(2, None), (3, "warning"), (5, "warning"), (6, "error")])
def test_gaps_between_superpoints(last, severity):
    """Three superpoints: more than three missing ids cost more than the superpoints themselves."""
    gaps = superpoints([0, 1, last], [1, 1, 1], [0, 0, 0]).get("superpoint-gaps")
    assert (gaps and gaps[0]) == severity


def test_instance_0_may_be_the_majority_of_no_superpoint():
    lost = superpoints([0, 0, 0, 1], [5, 1, 1, 5], [0, -1, -1, 3])["lost-instance"]
    assert lost[1].startswith("1 instances (ids 0) are the majority")
    assert "lost-instance" not in superpoints([0, 0, 0, 1], [5, 1, 1, 5], [-1, -1, -1, 3])
    assert "lost-instance" not in superpoints([0, 0, 1], [5, 5, 1], [0, 0, -1])
