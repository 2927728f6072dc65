"""The dataset of a start on the double of the host: who is the partner, epoch by epoch, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

SIZE = (64, 16)
NEAR = {"partner_near_m": 21.0, "partner_far_m": 60.0, "partner_widen_epochs": 4}


@pytest.fixture
def make(double_host, small_town):
    def build(name="OPV2VStartDataset", **options):
        roots = {"ROOT": small_town.root, "depth_root": small_town.depth_root}
        roots |= {"split": "train"} if name == "OPV2VStartDataset" else {}
        fixed = {"panorama_resolution": SIZE, "num_views": 2, "transform": "imgnorm", "data_norm_type": "identity"}
        return getattr(double_host, name)(**{**roots, **fixed, "main_agent_policy": "random", **options})

    return build


def agents(views):
    return [int(view["instance"].split("/")[0].removeprefix("agent")) for view in views]


def apart(views):
    first, *others = (np.asarray(view["camera_pose"])[:3, 3] for view in views)
    return [float(np.linalg.norm(other - first)) for other in others]


def test_the_limit_grows_with_the_epochs(make):
    dataset = make(**NEAR, partner_same=0.5)
    found = []
    for epoch in (0, 1, 2, 4, 9):
        dataset.set_epoch(epoch)
        found.append(dataset.schedule())
    assert found == [(21.0, 0.5), (30.75, 0.375), (40.5, 0.25), (60.0, 0.0), (60.0, 0.0)]


def test_partners_are_within_the_limit_and_farther_ones_come_later(make):
    dataset = make(**NEAR, partner_same=0.0)
    furthest = []
    for epoch in (0, 4):
        dataset.set_epoch(epoch)
        limit, _ = dataset.schedule()
        away = [metres for index in range(len(dataset)) for metres in apart(dataset[index])]
        assert max(away) <= limit + 1e-3
        furthest.append(max(away))
    assert 0 < furthest[0] <= 21 < furthest[1]


def test_where_nobody_is_near_the_partner_is_the_main_agent_turned(make):
    dataset = make(**{**NEAR, "partner_near_m": 0.5}, partner_same=0.0, panorama_roll=True)
    turned = []
    for index in range(len(dataset)):
        views = dataset[index]
        assert agents(views)[0] == agents(views)[1] and apart(views) == [0.0]
        assert views[0]["agent_index"] == views[1]["agent_index"] == 0
        between = np.linalg.inv(views[0]["camera_pose"]) @ views[1]["camera_pose"]
        columns = math.atan2(between[0, 2], between[0, 0]) / (2 * math.pi) * SIZE[0]
        assert columns == pytest.approx(round(columns), abs=1e-3)
        same = np.roll(views[0]["depthmap"], -round(columns), axis=1)
        assert np.array_equal(same, views[1]["depthmap"])
        turned.append(round(columns))
    assert len(set(turned)) > 1


def test_a_share_of_the_partners_is_the_main_agent(make):
    everyone = make(**{**NEAR, "partner_near_m": 60.0}, partner_same=1.0)
    nobody = make(**{**NEAR, "partner_near_m": 60.0}, partner_same=0.0)
    for index in range(len(everyone)):
        assert len(set(agents(everyone[index]))) == 1
        assert len(set(agents(nobody[index]))) == 2


def test_three_views_have_two_partners_or_turned_ones(make):
    dataset = make(**{**NEAR, "partner_near_m": 60.0}, partner_same=0.0, num_views=3)
    assert all(len(dataset[index]) == 3 and len(set(agents(dataset[index]))) == 3 for index in range(len(dataset)))


def test_a_typical_sample_is_that_of_the_last_epoch(make):
    dataset = make(**{**NEAR, "partner_near_m": 0.5}, partner_same=1.0, seed=3)
    for index in range(len(dataset)):
        assert len(set(agents(dataset.typical_sample(index)))) == 2
        assert len(set(agents(dataset.sample(index)))) == 1


def test_samples_repeat_by_epoch_and_index(make):
    one, two = make(**NEAR), make(**NEAR)
    for dataset in (one, two):
        dataset.set_epoch(1)
    for index in range(len(one)):
        a, b = one[index], two[index]
        assert [view["instance"] for view in a] == [view["instance"] for view in b]
        assert all(np.array_equal(x["depthmap"], y["depthmap"]) for x, y in zip(a, b))


def test_yaml_files_are_read_once_for_as_many_frames_as_are_remembered(make, double_host, monkeypatch):
    from mapanything_opv2v.host.data import base, start

    read, real = [], base.load_meta
    monkeypatch.setattr(base, "load_meta", lambda frame, agent: read.append((frame.name, agent)) or real(frame, agent))
    dataset = make(**NEAR)
    for _ in range(3):
        every = [dataset[index] for index in range(len(dataset))]
    assert len(read) == len(set(read)) > 0
    monkeypatch.setattr(start, "_FRAMES_REMEMBERED", 0)
    plain = make(**NEAR)
    again = [plain[index] for index in range(len(plain))]
    assert len(read) > len(set(read))
    for ours, theirs in zip(every, again):
        assert [view["instance"] for view in ours] == [view["instance"] for view in theirs]
        assert all(np.array_equal(a["camera_pose"], b["camera_pose"]) for a, b in zip(ours, theirs))


def test_without_a_limit_it_is_the_cooperative_dataset(make, double_host):
    ours, plain = make("OPV2VStartDataset_validate", seed=7), make("OPV2VCoopCylindricalDataset_validate", seed=7)
    assert len(ours) == len(plain)
    for index in range(len(ours)):
        a, b = ours[index], plain[index]
        assert agents(a)[0] == agents(b)[0] and len(set(agents(a))) == 2
        assert np.array_equal(a[0]["img"], b[0]["img"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partner_near_m": 50.0, "partner_far_m": 40.0}, "partner_near_m=50.0, partner_far_m=40.0: expected metres"),
        ({"partner_near_m": 0}, "partner_near_m=0, partner_far_m=None: expected metres"),
        ({"partner_far_m": 40.0, "partner_widen_epochs": -1}, "partner_widen_epochs=-1, expected a number of epochs"),
        ({"partner_same": 1.5}, "partner_same=1.5, expected a share from 0 to 1"),
        ({"partner_widen_epochs": 2}, "partner_widen_epochs=2 needs partner_far_m"),
        ({"partner_nearest_m": 2.0}, "unknown option 'partner_nearest_m' .did you mean 'partner_near_m'"),
    ],
)
def test_options_that_could_not_act_are_refused(make, options, message):
    with pytest.raises(ValueError, match=f"^OPV2VStartDataset: {message}"):
        make(**options)
