"""A run with groups says so: in what `verify` prints, and in the training's log."""

import pytest
import torch
from influencer_mmdet3d.host.sets import SetsDecoder
from influencer_mmdet3d.host.verify import _sets
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger


@pytest.mark.parametrize(
    ("decoder", "wanted"),
    [
        (dict(type="QueryDecoder", num_layers=3), []),
        (
            dict(type="InfluencerQueryDecoder", num_layers=3, start="voxels", groups=3),
            ["decoder InfluencerQueryDecoder: groups=3, start='voxels'"],
        ),
        (
            dict(type="InfluencerScanNetQueryDecoder", groups=6, pilots=True),
            ["decoder InfluencerScanNetQueryDecoder: groups=6, pilots=True"],
        ),
    ],
    ids=["host", "s3dis", "scannet"],
)
def test_verify_names_groups(decoder, wanted):
    assert _sets(ConfigDict(model=dict(decoder=decoder))) == wanted


@pytest.mark.parametrize(
    ("groups", "pilots", "said"),
    [(1, False, False), (3, False, True), (1, True, True)],
    ids=["none", "groups", "pilots"],
)
def test_the_log_names_groups(tmp_path, groups, pilots, said):
    file = tmp_path / "run.log"
    MMLogger.get_instance(f"groups-{groups}-{pilots}", log_file=str(file))
    decoder = SetsDecoder()
    decoder.self_attn_layers = torch.nn.ModuleList()
    decoder.set_up(groups, pilots, 0.2)
    line = f"SetsDecoder: training with groups={groups}, pilots={pilots}; prediction as without"
    assert (line in file.read_text()) == said
