from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapanything_opv2v.samples import choose
from mapanything_opv2v.samples.choose import SampleOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"camera_ids": ()}, "camera_ids is empty"),
        ({"camera_ids": (0, 0)}, "an id occurs twice"),
        ({"camera_ids": "01"}, "expected a list of integer ids"),
        ({"include_agents": [1.5]}, "include_agents=1.5: expected an integer id"),
        ({"main_agent": True}, "main_agent=True: expected an integer id"),
        ({"main_agent_policy": "nearest"}, "expected one of first, random, closest, most_visible"),
        (
            {"main_agent": 7, "include_agents": [1, 2]},
            r"main_agent=7 is not in include_agents=\[1, 2\]; add it",
        ),
        ({"min_agents": 0}, "min_agents=0: expected an integer of at least 1"),
        ({"min_agents": None}, "min_agents=None: expected an integer"),
        ({"max_scenes": 0}, "max_scenes=0: expected an integer of at least 1"),
        ({"min_num_views": 2.0}, "min_num_views=2.0: expected an integer"),
    ],
)
def test_options_that_cannot_act_raise(options, message):
    with pytest.raises(ValueError, match=message):
        SampleOptions(**options)


def test_ids_may_be_folder_names():
    options = SampleOptions(main_agent="641", include_agents=["641", "-1"])
    assert (options.main_agent, options.include_agents) == (641, (641, -1))


def test_unknown_option_is_named_with_the_nearest_and_all_known():
    with pytest.raises(
        ValueError,
        match=r"unknown option 'camera_id' \(did you mean 'camera_ids'\?\); known: camera_ids, seed",
    ):
        choose.reject_unknown(["seed", "camera_id"], ["camera_ids", "seed"], what="OPV2VDataset")


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        ((4, False), 4),
        ((1, False), 1),
        ((4, True), [2, 3, 4]),
        ((2, True), 2),
        ((1, True), 1),
        ((4, True, 3), [3, 4]),
        ((4, True, 1, 3), [1, 2, 3]),
        ((4, True, 3, 3), 3),
        ((4, False, 2, 4), 4),
    ],
)
def test_view_counts(arguments, counts):
    assert choose.view_counts(*arguments) == counts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, False), "num_views=0: expected an integer of at least 1"),
        ((2, False, 3), "num_views=2 lies outside min_num_views=3"),
        ((4, False, None, 3), "num_views=4 lies outside .* max_num_views=3"),
        ((4, True, None, 6), "max_num_views=6 exceeds num_views=4; .* raise num_views as well"),
        ((4, True, 4, 3), "min_num_views=4 exceeds the largest view count 3"),
    ],
)
def test_view_counts_that_contradict_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose.view_counts(*arguments)


def test_random_streams_depend_on_keys_only():
    first = choose.sample_rng("epoch", 1, "train/a/000068").integers(1 << 60)
    assert first == choose.sample_rng("epoch", 1, "train/a/000068").integers(1 << 60)
    assert first != choose.sample_rng("epoch", 2, "train/a/000068").integers(1 << 60)
    assert first != choose.sample_rng("epoch", "1", "train/a/000068").integers(1 << 60)


def metas(**agents):
    """Metas of agents a1, a2, ...: position x and the ids that each lists."""
    made = {
        int(name[1:]): SimpleNamespace(lidar_pose=np.array([x, 0, 2, 0, 0, 0.0]), vehicles=dict.fromkeys(listed))
        for name, (x, listed) in agents.items()
    }
    return made.__getitem__


def test_main_agent_policies():
    rng = np.random.default_rng(0)
    # 1 at 0 m, 2 at 10 m, 3 at 100 m; 3 is listed by both others
    meta_of = metas(a1=(0, [3]), a2=(10, [3]), a3=(100, [1]))
    assert choose.choose_main_agent((3, 1, 2), "first", rng, meta_of) == 1
    assert choose.choose_main_agent((3, 1, 2), "closest", rng, meta_of) == 2  # mean 50 against 55 and 95
    assert choose.choose_main_agent((3, 1, 2), "most_visible", rng, meta_of) == 3
    nobody = metas(a1=(0, []), a2=(10, []), a3=(100, []))
    assert choose.choose_main_agent((1, 2, 3), "most_visible", rng, nobody) == 2  # tie: the closest
    drawn = Counter(choose.choose_main_agent((1, 2, 3), "random", rng, meta_of) for _ in range(300))
    assert set(drawn) == {1, 2, 3} and min(drawn.values()) > 70


def test_policies_read_yaml_only_where_they_need_it():
    def forbidden(agent_id):
        raise AssertionError("read")

    rng = np.random.default_rng(0)
    assert choose.choose_main_agent((4, 2), "first", rng, forbidden) == 2
    assert choose.choose_main_agent((4, 2), "random", rng, forbidden) in (2, 4)
    assert choose.choose_main_agent((-1, 8), "closest", rng, forbidden) == 8  # one vehicle: no choice


def test_infrastructure_is_main_only_without_vehicles():
    assert choose.first_agent((-2, -1, 700)) == 700
    assert choose.first_agent((-2, -1)) == -2
    rng = np.random.default_rng(0)
    assert choose.choose_main_agent((-1, 5, 9), "random", rng, metas()) in (5, 9)


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 1000))
def test_pinhole_views(count, min_agents, seed):
    cameras = {4: (2, 0, 1, 3), 7: (2, 0, 1, 3), 9: (2, 0, 1, 3)}
    pairs = choose.choose_pinhole_views(cameras, 7, count, min_agents, np.random.default_rng(seed))
    assert pairs[0] == (7, 2)
    assert len(set(pairs)) == len(pairs) == count
    assert len({agent_id for agent_id, _ in pairs}) >= min(min_agents, count)


def test_pinhole_views_vary_in_choice_and_order():
    cameras = {4: (0, 1, 2, 3), 7: (0, 1, 2, 3)}
    drawn = {tuple(choose.choose_pinhole_views(cameras, 4, 3, 1, np.random.default_rng(s))) for s in range(500)}
    assert len(drawn) == 7 * 6  # every ordered pair of the other seven views


def test_agents():
    drawn = {tuple(choose.choose_agents((1, 2, 3, 4), 3, 3, np.random.default_rng(s))) for s in range(200)}
    assert drawn == {(3, a, b) for a in (1, 2, 4) for b in (1, 2, 4) if a != b}
    with pytest.raises(AssertionError, match="promised"):
        choose.choose_agents((1, 2), 1, 3, np.random.default_rng(0))
