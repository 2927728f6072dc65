"""`FixedSteps` on the double of the host."""

from __future__ import annotations

import importlib
import logging

import pytest


@pytest.fixture
def steps(double_host):
    return importlib.import_module("mapanything_opv2v.host.data.fixed_steps")


@pytest.fixture
def pinhole(double_host, small_town):
    def make(**options):
        options = {"num_views": 3, "variable_num_views": True, "resolution": [(56, 42), (40, 40)], **options}
        return double_host.OPV2VCoopDataset_train(
            ROOT=small_town.root,
            depth_root=small_town.depth_root,
            transform="imgnorm",
            data_norm_type="dinov2",
            **options,
        )

    return make


def test_samples_come_as_asked_and_differ_when_used_again(steps, pinhole):
    dataset = steps.FixedSteps(pinhole(), steps_per_epoch=4)
    dataset.set_epoch(0)
    sampler = dataset.make_sampler(max_num_of_images_per_gpu=6)
    sampler.set_epoch(0)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 4
    for batch in batches:
        for index in batch:
            views = dataset[index]
            assert len(views) == dataset.num_views[index[2]]
            assert tuple(views[0]["true_shape"]) == dataset._resolutions[index[1]][::-1]
        assert len(batch) == 6 // dataset.num_views[batch[0][2]]
    scenes = len(dataset)
    drawn = [tuple(view["instance"] for view in dataset[(1 + scenes * again, 0, 1)]) for again in range(8)]
    assert len(set(drawn)) > 1
    labels = {dataset[(1 + scenes * again, 0, 1)][0]["label"] for again in range(8)}
    assert len(labels) == 1


def test_max_sets_is_the_hosts_count_on_the_designed_gpus(steps, pinhole):
    dataset = steps.FixedSteps(pinhole(), max_sets_per_epoch=48, designed_for_gpus=4)
    lengths = {len(dataset.make_sampler(max_num_of_images_per_gpu=6, world_size=n)) for n in (1, 3, 4, 5)}
    assert lengths == {48 // 3 // 4}


def test_the_length_is_said_once_by_the_first_process(steps, pinhole, caplog):
    caplog.set_level(logging.INFO)
    dataset = steps.FixedSteps(pinhole(), steps_per_epoch=4)
    for rank in (0, 1):
        dataset.make_sampler(max_num_of_images_per_gpu=6, world_size=2, rank=rank)
    said = [record.getMessage() for record in caplog.records if "train sampler" in record.getMessage()]
    assert said == [
        "train sampler: 4 steps an epoch on any number of GPUs (here 2), batches of [3, 2] sets for view counts "
        f"[2, 3], {len(dataset)} scenes"
    ]


def test_scenes_are_counted_inside_wrappers_and_sums(steps, pinhole):
    one = pinhole()
    assert steps.scene_count(one) == steps.scene_count(50 @ one) == len(one)
    assert steps.scene_count((50 @ one) + (2 * one)) == 2 * len(one)
    assert repr(steps.FixedSteps(one, steps_per_epoch=4)).endswith(", steps_per_epoch=4, designed_for_gpus=1)")


def test_what_cannot_act_raises(steps, pinhole):
    with pytest.raises(ValueError, match="neither steps_per_epoch nor max_sets_per_epoch"):
        steps.FixedSteps(pinhole())
    dataset = steps.FixedSteps(pinhole(), steps_per_epoch=4)
    with pytest.raises(ValueError, match="FixedSteps is for training loaders: shuffle=False"):
        dataset.make_sampler(shuffle=False, max_num_of_images_per_gpu=6)
    with pytest.raises(ValueError, match="max_num_of_images_per_gpu is missing"):
        dataset.make_sampler()
