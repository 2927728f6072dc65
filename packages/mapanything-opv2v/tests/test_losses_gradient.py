from __future__ import annotations

import numpy as np
import torch
from mapanything_opv2v.losses import gradient_matching, log_depth

OPEN, CLOSED = torch.tensor([False]), torch.tensor([True])


def image(rows):
    return torch.tensor(rows, dtype=torch.float64)[None, ..., None]


def test_by_hand_with_and_without_the_seam():
    prediction = image([[1, 3, 7]])
    target = torch.zeros_like(prediction)
    mask = torch.ones(1, 1, 3, dtype=torch.bool)
    # Differences 1, 3, 7: |3-1| + |7-3| = 6 over 3 pixels; the seam adds |1-7| = 6.
    assert gradient_matching(prediction, target, mask, OPEN, scales=1) == 2
    assert gradient_matching(prediction, target, mask, CLOSED, scales=1) == 4


def test_a_jump_at_the_seam_alone_is_seen_only_when_closed():
    # A tilted plane of errors: no jump between neighbours of a row but at the seam.
    prediction = image(np.linspace(0, 7, 8)[None].repeat(4, 0))
    mask = torch.ones(1, 4, 8, dtype=torch.bool)
    wrapped = gradient_matching(prediction, torch.zeros_like(prediction), mask, CLOSED)
    unwrapped = gradient_matching(prediction, torch.zeros_like(prediction), mask, OPEN)
    # 7 at scale 1 (4 rows of 32 pixels), 6 at scale 2 (2 of 8), 4 at scale 4 (1 of 2), 0 at scale 8 (one column)
    assert torch.isclose(wrapped - unwrapped, torch.tensor(7 * 4 / 32 + 6 * 2 / 8 + 4 / 2, dtype=torch.float64))


def test_turning_a_closed_image_changes_nothing():
    generator = torch.Generator().manual_seed(2)
    prediction, target = (torch.rand(1, 6, 8, 1, generator=generator) for _ in range(2))
    mask = torch.rand(1, 6, 8, generator=generator) < 0.8
    whole = gradient_matching(prediction, target, mask, CLOSED, scales=1)
    turned = gradient_matching(*(item.roll(3, dims=2) for item in (prediction, target, mask)), CLOSED, scales=1)
    assert torch.isclose(whole, turned)


def test_an_independent_oracle():
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(2, 2, 9, 14)) * 60
    mask = rng.random((2, 9, 14)) < 0.7
    closed = np.array([True, False])
    expected = 0.0
    for step in (1, 2, 4, 8):
        d, m = (p - t)[:, ::step, ::step], mask[:, ::step, ::step]
        total = 0.0
        for b in range(2):
            rows, columns = d[b].shape
            for i in range(rows):
                for j in range(columns):
                    neighbours = [(i + 1, j)] if i + 1 < rows else []
                    if j + 1 < columns:
                        neighbours.append((i, j + 1))
                    elif closed[b]:
                        neighbours.append((i, 0))
                    for k, n in neighbours:
                        if m[b, i, j] and m[b, k, n]:
                            total += min(abs(d[b, i, j] - d[b, k, n]), 100)
        expected += total / m.sum()
    got = gradient_matching(*(torch.from_numpy(x)[..., None] for x in (p, t)), *map(torch.from_numpy, (mask, closed)))
    assert np.isclose(got, expected)


def test_nothing_in_the_mask_is_zero_with_a_gradient():
    prediction = torch.rand(1, 4, 4, 1, requires_grad=True)
    loss = gradient_matching(prediction, torch.rand(1, 4, 4, 1), torch.zeros(1, 4, 4, dtype=torch.bool), CLOSED)
    loss.backward()
    assert loss == 0 and not prediction.grad.any()


def test_what_lies_outside_the_mask_does_not_matter():
    prediction, target = image([[1, float("nan"), 2]]), image([[0, 5, 0]])
    mask = torch.tensor([[[True, False, True]]])
    assert gradient_matching(prediction, target, mask, CLOSED, scales=1) == 0.5  # the seam alone, over 2 pixels


def test_log_depth_by_hand():
    points = torch.tensor([[[[3.0, 0, 4], [0, 0, -1]]]])
    around, ahead = log_depth(points, CLOSED), log_depth(points, OPEN)
    assert torch.allclose(around.flatten(), torch.log(torch.tensor([6.0, 2])))
    assert torch.allclose(ahead.flatten(), torch.tensor([np.log(5), -np.log(2)]).float())
