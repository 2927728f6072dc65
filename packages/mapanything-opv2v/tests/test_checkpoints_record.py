from __future__ import annotations

from dataclasses import replace

import pytest
from mapanything_opv2v.checkpoints.record import KEY, RunRecord, notices, refusals

RECORD = RunRecord(
    epoch=1,
    global_step=10,
    steps_per_epoch=5,
    steps_fixed=True,
    dataset_length=7,
    world_size=4,
    epochs=5,
    host_commit="abc",
    plugin_version="0.1.0",
    config={"a": {"b": [1, None]}},
)


def test_a_record_survives_its_plain_form():
    assert RunRecord.from_checkpoint({KEY: RECORD.to_dict()}) == RECORD
    assert RunRecord.from_checkpoint({"model": {}}) is None


def test_a_short_record_is_told():
    values = RECORD.to_dict()
    del values["epoch"], values["config"]
    with pytest.raises(ValueError, match="record 'mapanything_opv2v' lacks config, epoch"):
        RunRecord.from_checkpoint({KEY: values})


def test_the_same_run_goes_on():
    assert refusals(RECORD, RECORD) == notices(RECORD, RECORD) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset_length": 6}, "the training set has 6 scenes, the checkpoint's had 7"),
        ({"steps_per_epoch": 4}, "an epoch has 4 steps, the checkpoint's had 5: .*dataset.steps_per_epoch=5"),
        (
            {"steps_per_epoch": 4, "world_size": 5, "steps_fixed": False},
            r"had 5 \(MapAnything divides by the GPUs: 4 then, 5 now\)",
        ),
    ],
)
def test_other_epochs_are_refused(changes, reason):
    (told,) = refusals(RECORD, replace(RECORD, **changes))
    with pytest.raises(ValueError, match=reason):
        raise ValueError(told)


def test_what_was_not_observed_is_not_compared():
    unknown = replace(RECORD, dataset_length=None, steps_per_epoch=None)
    assert refusals(unknown, RECORD) == refusals(RECORD, unknown) == []


def test_another_world_size_tells_what_changes():
    (told,) = notices(RECORD, replace(RECORD, world_size=6))
    assert "trained by 4 processes, this run has 6: a step draws 1.5 times as many sets" in told
    assert "steps an epoch and the learning rate's course stay the same" in told
    (told,) = notices(RECORD, replace(RECORD, world_size=2, steps_per_epoch=10))
    assert "draws 0.5 times" in told and "course change" in told


@pytest.mark.parametrize(
    ("changes", "notice"),
    [
        ({"epochs": 8}, "train_params.epochs is 8, was 5: the learning rate jumps"),
        ({"host_commit": "def"}, "MapAnything is at def, was at abc"),
        ({"plugin_version": "0.2.0"}, "mapanything-opv2v is 0.2.0, was 0.1.0"),
    ],
)
def test_other_differences_are_told(changes, notice):
    (told,) = notices(RECORD, replace(RECORD, **changes))
    assert notice in told and refusals(RECORD, replace(RECORD, **changes)) == []
