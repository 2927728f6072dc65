from pathlib import Path

import numpy as np
import pytest
from roborefer_spatial.curriculum import Curriculum, Stage
from roborefer_spatial.host.data.staging import CurriculumSampler, with_curriculum
from roborefer_spatial.host.options import LaunchOptions

CURRICULUM = Curriculum((Stage("a", (Path("a"),), 3), Stage("b", (Path("a"), Path("b")), 5)))
POOLS = [np.arange(4), np.arange(4, 14)]


def sampler(rank=0, *, world_size=1, batch_size=2, accumulation=1, seed=7):
    return CurriculumSampler(
        CURRICULUM,
        POOLS,
        rank=rank,
        world_size=world_size,
        batch_size=batch_size,
        accumulation=accumulation,
        seed=seed,
    )


def test_stages_follow_each_other():
    rows = list(sampler())
    assert len(rows) == len(sampler()) == 5 * 2
    assert sorted(rows[:4]) == [0, 1, 2, 3]  # a whole pass before a row comes again
    assert set(rows[4:6]) <= set(range(4))
    assert len(set(rows[6:])) == 4 and set(rows[6:]) <= set(range(4, 14))


def test_the_order_comes_from_the_seed_only():
    assert list(sampler()) == list(sampler())
    assert list(sampler()) != list(sampler(seed=8))


@pytest.mark.parametrize(("world_size", "batch_size", "accumulation"), [(2, 1, 2), (1, 1, 4), (4, 1, 1), (2, 2, 1)])
def test_every_split_of_a_global_batch_trains_on_the_same_rows_at_each_step(world_size, batch_size, accumulation):
    whole = np.array(list(sampler(batch_size=4))).reshape(5, 4)
    split = {"world_size": world_size, "batch_size": batch_size, "accumulation": accumulation}
    ranks = [np.array(list(sampler(rank, **split))).reshape(5, -1) for rank in range(world_size)]
    assert all(len(sampler(rank, **split)) == ranks[rank].size for rank in range(world_size))
    np.testing.assert_array_equal(np.sort(np.concatenate(ranks, axis=1), axis=1), np.sort(whole, axis=1))


def test_the_command_line_gets_the_curriculums_steps():
    options = with_curriculum(LaunchOptions(host_arguments=("--seed", "1")), CURRICULUM)
    assert options.host_arguments == ("--seed", "1", "--max_steps", "5", "--data_mixture", "")
    assert with_curriculum(LaunchOptions(host_arguments=("--max_steps", "5")), CURRICULUM).value("--max_steps") == "5"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max_steps", "6"), "--max_steps 6, but the curriculum ends at step 5"),
        (("--data_path", "x"), "--data_path x and a curriculum"),
        (("--data_mixture", "x"), "--data_mixture x and a curriculum"),
    ],
)
def test_contradictions_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        with_curriculum(LaunchOptions(host_arguments=words), CURRICULUM)
