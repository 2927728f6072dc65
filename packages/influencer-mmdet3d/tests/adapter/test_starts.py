"""Starts of queries: by hand, and against a literal loop."""

import pytest
import torch
from influencer_mmdet3d.host.starts import far_apart, noisy_instances, random_of_cells


def test_far_apart_by_hand():
    xyz = torch.tensor([[0.0, 0, 0], [1, 0, 0], [10, 0, 0], [4, 0, 0]])
    starts, cell = far_apart(xyz, 3)
    assert starts.tolist() == [2, 0, 3]  # farthest from the middle, then the other end, then the gap
    assert cell.tolist() == [1, 1, 0, 2]
    assert far_apart(xyz, 2, first=1)[0].tolist() == [1, 2]


def test_far_apart_against_a_literal_loop(generator):
    xyz = torch.rand(200, 3, generator=generator)
    starts, cell = far_apart(xyz, 17, first=5)
    chosen = [5]
    while len(chosen) < 17:
        chosen.append(int(torch.cdist(xyz, xyz[chosen]).min(1).values.argmax()))
    assert starts.tolist() == chosen
    assert cell.tolist() == torch.cdist(xyz, xyz[chosen]).argmin(1).tolist()


def test_fewer_points_than_starts():
    starts, cell = far_apart(torch.eye(3), 5)
    assert set(starts[:3].tolist()) == {0, 1, 2} and len(starts) == 5 and cell.max() < 3
    assert random_of_cells(cell, starts).shape == (5,)


def test_random_of_cells_stays_in_the_cell(generator):
    xyz = torch.rand(300, 3, generator=generator)
    starts, cell = far_apart(xyz, 20)
    drawn = torch.stack([random_of_cells(cell, starts) for _ in range(50)])
    assert (cell[drawn] == torch.arange(20)).all()
    assert len(drawn.unique()) > 150  # not always the same


def test_noisy_instances(generator):
    masks = torch.zeros(3, 4000, dtype=torch.bool)
    masks[0, :800] = True
    masks[1, 1000:1400] = True
    points, noisy = noisy_instances(masks, 0.25)
    assert masks[0, points[0]] and masks[1, points[1]] and points[2] == 0
    kept = (noisy & masks).sum(1)[:2] / masks.sum(1)[:2]
    assert kept.tolist() == pytest.approx([0.75, 0.75], abs=0.07)
    assert (noisy.sum(1)[:2] / masks.sum(1)[:2]).tolist() == pytest.approx([1, 1], abs=0.12)
    assert not noisy[2].any()
    assert torch.equal(noisy_instances(masks, 0.0)[1], masks)
    points, noisy = noisy_instances(masks[:0], 0.2)
    assert points.tolist() == [0] and noisy.shape == (1, 4000)


def test_far_from_the_middle_wherever_the_scene_is():
    xyz = torch.tensor([[0.0, 0, 0], [1, 0, 0], [10, 0, 0], [4, 0, 0]]) - torch.tensor([10.0, 0, 0])
    assert far_apart(xyz, 2)[0].tolist() == [2, 0]


def test_a_cell_of_one_point_gives_that_point():
    assert random_of_cells(torch.tensor([0, 0, 1]), torch.tensor([0, 2]))[1].item() == 2


def test_as_many_points_join_as_leave(generator):
    masks = torch.zeros(1, 10_000, dtype=torch.bool)
    masks[0, :4000] = True
    torch.manual_seed(0)
    noisy = noisy_instances(masks, 0.5)[1]
    assert (~noisy[0, :4000]).sum().item() == pytest.approx(2000, abs=150)
    assert noisy[0, 4000:].sum().item() == pytest.approx(2000, abs=150)
