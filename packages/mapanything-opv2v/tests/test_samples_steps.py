from __future__ import annotations

import pytest
from mapanything_opv2v.samples.steps import FixedStepsSampler, steps_of_epoch

GOOD = {"steps_per_epoch": None, "max_sets_per_epoch": None, "designed_for_gpus": 1, "largest_batch": 2}


def sampler(**changes):
    made = FixedStepsSampler(**{"steps": 30, "samples": 7, "batch_sizes": (4, 2, 1), "resolutions": 2, **changes})
    made.set_epoch(3)
    return made


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"steps_per_epoch": 5}, 5),
        ({"max_sets_per_epoch": 40_000, "designed_for_gpus": 4}, 5000),  # the contract's figure
        ({"max_sets_per_epoch": 50_000, "designed_for_gpus": 5}, 5000),
        ({"max_sets_per_epoch": 40_000, "designed_for_gpus": 5}, 4000),
        ({"max_sets_per_epoch": 9, "steps_per_epoch": 3}, 3),
    ],
)
def test_steps_of_an_epoch(limits, steps):
    assert steps_of_epoch(**{**GOOD, **limits}) == steps


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({}, "neither steps_per_epoch nor max_sets_per_epoch is given"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0: expected an integer of at least 1"),
        ({"steps_per_epoch": 2.5}, "steps_per_epoch=2.5: expected an integer"),
        ({"steps_per_epoch": 1, "designed_for_gpus": 0}, "designed_for_gpus=0: expected an integer"),
        ({"max_sets_per_epoch": 3, "designed_for_gpus": 2}, "less than one step of 2 sets on each of .*at least 4"),
        ({"max_sets_per_epoch": 9, "steps_per_epoch": 5}, "needs 10 sets, more than max_sets_per_epoch=9"),
    ],
)
def test_limits_that_cannot_act_raise(limits, problem):
    with pytest.raises(ValueError, match=problem):
        steps_of_epoch(**{**GOOD, **limits})


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_every_process_makes_the_same_steps(world_size):
    ranks = [list(sampler(world_size=world_size, rank=rank)) for rank in range(world_size)]
    alone = list(sampler())
    assert [len(batches) for batches in ranks] == [30] * world_size
    for step, batches in enumerate(zip(*ranks)):
        tails = {index[1:] for batch in batches for index in batch}
        assert tails == {alone[step][0][1:]}  # one resolution and view count, as with one process
        sizes = {len(batch) for batch in batches}
        assert sizes == {(4, 2, 1)[alone[step][0][2]]}


@pytest.mark.parametrize("world_size", [1, 3])
def test_the_set_is_used_up_before_it_is_used_again(world_size):
    ranks = [list(sampler(world_size=world_size, rank=rank)) for rank in range(world_size)]
    drawn = [index[0] for batches in zip(*ranks) for batch in batches for index in batch]
    rounds = [drawn[start : start + 7] for start in range(0, len(drawn) - 6, 7)]
    assert len(rounds) > 3
    for number, values in enumerate(rounds):
        assert sorted(values) == list(range(number * 7, number * 7 + 7))
    assert len({tuple(value % 7 for value in values) for values in rounds}) > 1  # another order each time


def test_epochs_differ_and_repeat():
    made = sampler()
    first = list(made)
    assert list(made) == first
    made.set_epoch(4)
    assert list(made) != first


def test_view_counts_are_drawn_evenly():
    made = sampler(steps=3000)
    counts = [batch[0][2] for batch in made]
    for number in range(3):
        assert 900 < counts.count(number) < 1100  # 1000 expected, standard deviation 26


def test_one_view_count_leaves_the_count_out():
    made = sampler(batch_sizes=(3,), resolutions=1)
    assert {index[1:] for batch in made for index in batch} == {(0,)}


def test_an_epoch_must_be_set():
    made = FixedStepsSampler(steps=1, samples=1, batch_sizes=(1,))
    with pytest.raises(ValueError, match="call set_epoch before drawing"):
        next(iter(made))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"samples": 0}, "the data set is empty"), ({"rank": 1}, "rank=1 is not a process of world_size=1")],
)
def test_bad_arguments(changes, problem):
    with pytest.raises(ValueError, match=problem):
        sampler(**changes)
