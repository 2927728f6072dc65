"""Each shipped config is trained, resumed and evaluated by the launcher in the real host."""

from pathlib import Path

import pytest
from influencer_mmdet3d.host.checkpoint import read_checkpoint
from influencer_mmdet3d.host.launch import CONFIGS, VARIANTS
from launcher import SMALL, launch, metrics

SHORT = (
    *("load_from=None", "train_dataloader.batch_size=1"),
    *("default_hooks.checkpoint.interval=1", "train_cfg.val_interval=2"),
)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Both kinds of data, one scene in each infos file."""
    from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet

    s3dis, scannet = tmp_path_factory.mktemp("s3dis"), tmp_path_factory.mktemp("scannet")
    write_s3dis(s3dis, areas=range(1, 7), rooms_per_area=1, seed=0, points_per_room=2_000, objects=(4, 5))
    write_scannet(scannet, scenes={"train": 2, "val": 1}, seed=0, points_per_scene=2_000, objects=(4, 5))
    return {"s3dis": s3dis, "scannet": scannet}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("data", sorted(CONFIGS))
def test_train_resume_and_eval(data, variant, roots, tmp_path):
    options = ("--data-root", str(roots[data]), "--cfg-options", *SMALL[data], *SHORT)
    if data == "scannet":
        options = (*options, "train_cfg.dynamic_intervals=None")
    code, output = launch(tmp_path, "train", data, variant, *options, "train_cfg.max_epochs=1")
    assert code == 0, output[-3000:]
    code, output = launch(tmp_path, "train", data, variant, "--resume", *options, "train_cfg.max_epochs=2")
    assert code == 0, output[-3000:]
    assert "resumed epoch: 1" in output
    work_dir = tmp_path / "work_dirs" / Path(CONFIGS[data].format(variant)).stem
    checkpoint = work_dir / "epoch_2.pth"
    assert read_checkpoint(checkpoint)["meta"]["epoch"] == 2
    code, tested = launch(tmp_path, "eval", data, variant, str(checkpoint), *options)
    assert code == 0, tested[-3000:]
    assert metrics(tested, "test") == metrics(output, "val"), "a checkpoint must score what its model scored"
