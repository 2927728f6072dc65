"""Panoramas at full size against the ray-cast truth: the figures that the package promises."""

import math

import numpy as np
import pytest
from mapanything_opv2v import depth, panorama, rawdata, synthetic
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.synthetic import accuracy

CYLINDER = Cylinder(1008, 252)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Truth, dense panorama, panorama of LiDAR depth and slope of every agent of two towns."""
    results = []
    for seed in (1, 12):
        root = tmp_path_factory.mktemp("sharp")
        truth = synthetic.write_town(root / "town", seed=seed, agents=2)
        dense = rawdata.index_tree(truth.root)
        summary = depth.write_depths(dense, root / "lidar", progress=False)
        assert not summary.failed and 0.02 < summary.coverage < 0.05
        sparse = rawdata.index_tree(truth.root, depth_root=root / "lidar")
        split, sequence, frame = next(truth.jobs())
        for agent, lidar in zip(dense.splits[split][0].agents, sparse.splits[split][0].agents):
            results.append(
                (
                    truth.panorama(split, sequence, frame, agent.agent_id, CYLINDER),
                    panorama.load_panorama(agent, CYLINDER),
                    panorama.load_panorama(lidar, CYLINDER),
                    abs(truth.moment(split, sequence, frame).car(agent.agent_id).T_world_vehicle[2, 0]),
                )
            )
    return results


def test_ranges_from_dense_depth(measured):
    errors = [accuracy.range_errors(dense, truth) for truth, dense, *_ in measured]
    assert max(e.median_m for e in errors) <= 0.05
    assert np.mean([e.mean_m for e in errors]) <= 0.25
    assert max(e.median_relative for e in errors) <= 0.001
    assert min(e.recall for e in errors) > 0.7  # the rest is hidden from, or out of sight of, every camera
    assert max(e.ghosts for e in errors) < 0.002


def test_ranges_from_lidar_depth(measured):
    errors = [accuracy.range_errors(sparse, truth) for truth, _, sparse, _ in measured]
    assert max(e.median_relative for e in errors) <= 0.01
    assert np.mean([e.mean_m for e in errors]) <= 0.25


def test_some_agent_stands_on_a_slope(measured):
    assert max(rise for *_, rise in measured) > 0.05  # steeper than 3 degrees


def test_sky_is_where_the_truth_has_it(measured):
    for truth, dense, *_ in measured:
        assert (dense.sky & ~truth.sky).mean() < 0.01
        assert (dense.sky & truth.sky).sum() > 0.6 * truth.sky.sum()


def test_colours_resemble_the_truth_where_covered(measured):
    values = [accuracy.psnr_db(dense.color, truth.color, dense.covered) for truth, dense, *_ in measured]
    turned = [accuracy.psnr_db(np.roll(d.color, 100, 1), t.color, np.roll(d.covered, 100, 1)) for t, d, *_ in measured]
    assert min(values) > 18 and min(values) > max(turned) + 3


def test_swapping_left_and_right_is_seen_in_the_figures(measured):
    truth, dense, *_ = measured[0]
    flipped = panorama.Panorama(**{n: getattr(dense, n)[:, ::-1] for n in dense.__dataclass_fields__})
    assert accuracy.range_errors(flipped, truth).mean_m > 20 * accuracy.range_errors(dense, truth).mean_m


def test_comparison_by_hand():
    ranges = np.array([[10, 0, 8, 5]], np.float32)
    none = np.zeros((1, 4), bool)
    made = panorama.Panorama(np.zeros((1, 4, 3), np.uint8), ranges, none, ranges > 0, none, none)
    true_ranges = np.array([[12, 3, 8, 0]], np.float32)
    truth = synthetic.TruePanorama(np.full((1, 4, 3), 10, np.uint8), true_ranges, true_ranges == 0)
    errors = accuracy.range_errors(made, truth)
    assert (errors.median_m, errors.mean_m) == (1, 1)
    assert errors.median_relative == pytest.approx(1 / 12)
    assert errors.recall == pytest.approx(2 / 3) and errors.ghosts == 0.25
    assert accuracy.psnr_db(made.color, truth.color, ~none) == pytest.approx(20 * math.log10(25.5))
    with pytest.raises(ValueError, match="no pixel has a range in both"):
        accuracy.range_errors(panorama.Panorama(made.color, ranges * 0, none, none, none, none), truth)
