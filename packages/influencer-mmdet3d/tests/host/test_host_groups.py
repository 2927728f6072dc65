"""Groups, starts and pilots in the real models: trained, resumed and evaluated by the real runner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from influencer_mmdet3d import InfluencerCriterion
from influencer_mmdet3d.host.groups import group_count

VARIANTS = {
    "s3dis-learned": dict(data="s3dis", decoder=dict(groups=3)),
    "s3dis-voxels": dict(data="s3dis", decoder=dict(start="voxels")),
    "s3dis-all": dict(data="s3dis", decoder=dict(start="voxels", groups=3, pilots=True)),
    "scannet": dict(data="scannet", decoder=dict(groups=3)),
    "scannet-all": dict(data="scannet", decoder=dict(groups=2, pilots=True)),
}
NAMES = {
    "s3dis": ("InfluencerQueryDecoder", "InfluencerS3DISOneFormer3D"),
    "scannet": ("InfluencerScanNetQueryDecoder", "InfluencerScanNetOneFormer3D"),
}


def config(request, variant, work_dir, steps):
    data, decoder = VARIANTS[variant]["data"], VARIANTS[variant]["decoder"]
    root = request.getfixturevalue(f"{data}_root")
    cfg = getattr(tiny, data)(root, work_dir, dict(recipe="nms_free"), steps=steps)
    cfg.model.criterion.inst_criterion.pop("non_object_weight")  # the recipe's own
    ours, model = NAMES[data]
    cfg.model.decoder.update(type=ours, **decoder)
    if "start" in decoder or "pilots" in decoder:
        cfg.model.type = model
    return cfg


@pytest.fixture
def calls(monkeypatch):
    """What the criterion is given: groups, rows, known starts, pilots of the first sample."""
    seen, call = [], InfluencerCriterion.__call__

    def spy(self, pred, insts):
        starts = pred.get("starts")
        pilots = pred.get("pilots")
        seen.append(
            (
                group_count(pred),
                len(pred["masks"][0]),
                None if starts is None else len(starts[0]),
                None if pilots is None else len(pilots["masks"][0]),
                len(insts[0].labels_3d),
            )
        )
        return call(self, pred, insts)

    monkeypatch.setattr(InfluencerCriterion, "__call__", spy)
    return seen


@pytest.mark.parametrize("variant", VARIANTS)
def test_trains_resumes_and_predicts(variant, request, tmp_path, calls):
    first = tiny.run(config(request, variant, tmp_path / "run", 3))
    losses = first.message_hub.get_scalar("train/inst_loss").data[0]
    assert len(losses) == 3 and all(torch.tensor(losses).isfinite())
    cfg = config(request, variant, tmp_path / "run", 5)
    cfg.resume, cfg.experiment_name = True, "resumed"
    runner = tiny.run(cfg)
    assert runner.iter == 5
    assert set(tiny.evaluate(runner)) >= {"all_ap_50%", "miou"}
    decoder, data = VARIANTS[variant]["decoder"], VARIANTS[variant]["data"]
    groups = decoder.get("groups", 1)
    for found, rows, starts, pilots, instances in calls:
        assert found == groups and rows % groups == 0
        if data == "s3dis":
            assert rows == 60 * groups and starts == (rows if "start" in decoder else None)
        else:
            assert starts == rows // groups * (groups - 1)
        assert pilots == (max(instances, 1) if decoder.get("pilots") else None)
    if decoder.get("pilots"):
        assert runner.message_hub.get_scalar("train/inst_pilots").data[0][-1] > 0


@pytest.mark.parametrize("variant", ["s3dis-learned", "scannet"])
def test_the_hosts_own_decoder_predicts_from_a_checkpoint_with_groups(variant, request, tmp_path):
    runner = tiny.run(config(request, variant, tmp_path / "run", 4))
    wanted = tiny.evaluate(runner)
    data = VARIANTS[variant]["data"]
    plain = getattr(tiny, data)(request.getfixturevalue(f"{data}_root"), tmp_path / "plain", None, steps=4)
    plain.load_from, plain.experiment_name = str(tmp_path / "run" / "iter_4.pth"), "plain"
    from mmengine.runner import Runner

    got = tiny.evaluate(Runner.from_cfg(plain))
    assert {name: float(value) for name, value in got.items()} == pytest.approx(
        {name: float(value) for name, value in wanted.items()}, nan_ok=True
    )


@pytest.mark.parametrize("variant", ["s3dis-all", "scannet-all"])
def test_two_processes(variant, request, tmp_path):
    """Without a search for unused parameters: every parameter has a gradient in every step."""
    cfg = config(request, variant, tmp_path / "work", 3)
    cfg.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None, find_unused_parameters=False)
    cfg.env_cfg.dist_cfg.backend = "gloo"
    cfg.log_level = "INFO"
    cfg.dump(tmp_path / "config.py")
    host = Path(os.environ["ONEFORMER3D_ROOT"])
    standins = Path(__file__).parent / "standins"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(standins), str(host), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(host / "tools" / "train.py"), str(tmp_path / "config.py"), "--launcher", "pytorch"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "work" / "iter_3.pth").is_file()
