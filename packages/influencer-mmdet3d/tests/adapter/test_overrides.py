"""Options that would change nothing are refused, with the name that was meant."""

import pytest
from influencer_mmdet3d.host.overrides import check_options, parse_options
from mmengine.config import Config

CFG = Config(dict(voxel_size=0.05, model=dict(test_cfg=dict(topk_insts=450), voxel_size=0.05), train_cfg=dict()))


def test_values_are_parsed_as_mmengine_does():
    assert parse_options(["a.b=1", "c=[1,2]", "d=None"]) == {"a.b": 1, "c": [1, 2], "d": None}
    with pytest.raises(ValueError, match="--cfg-options takes KEY=VALUE, got 'a'"):
        parse_options(["a"])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "modle.voxel_size",
            r"--cfg-options modle\.voxel_size: no part of a run reads 'modle'\. Did you mean 'model'\?",
        ),
        ("voxel_size", "voxel_size is a variable of the config file.*nothing would change.*model.voxel_size"),
        ("model.test_cfg.topk_inst", r"the host reads no 'topk_inst' there\. Did you mean 'topk_insts'\?"),
    ],
)
def test_options_that_nothing_reads(key, message):
    with pytest.raises(ValueError, match=message):
        check_options(CFG, {key: 1})


def test_options_that_something_reads():
    check_options(CFG, {"randomness.seed": 1, "model.test_cfg.topk_insts": 3, "model.new": 1, "load_from": None})
