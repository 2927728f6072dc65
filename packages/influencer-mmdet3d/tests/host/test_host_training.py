"""Small versions of the real models, trained by the real runner on synthetic rooms."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from influencer_mmdet3d import InfluencerCriterion
from mmengine.registry import MODELS

STEPS = 250
_spec = importlib.util.spec_from_file_location("geomean", Path(__file__).parents[2] / "benchmarks" / "geomean.py")
geomean = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(geomean)
MODELS.register_module(module=geomean.GeomeanCriterion)


@pytest.fixture(scope="module")
def overfit(s3dis_root, tmp_path_factory, request):
    """AP50 on the four training scenes for the host's criterion, ours, and the formula of benchmarks/geomean.py."""
    scores = {}
    criteria = {"host": None, "influence": {}, "geomean": {"type": "GeomeanCriterion"}}
    for name, criterion in criteria.items():
        cfg = tiny.s3dis(s3dis_root, tmp_path_factory.mktemp(name), criterion, steps=STEPS)
        scores[name] = tiny.evaluate(tiny.run(cfg))
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\noverfitting 4 scenes, {STEPS} steps (AP / AP50 / AP25 of the training scenes):")
        for name, score in scores.items():
            values = " / ".join(f"{score[key]:.3f}" for key in ("all_ap", "all_ap_50%", "all_ap_25%"))
            print(f"  {name:<10} {values}")
    return scores


def test_influence_learns_as_well_as_hungarian(overfit):
    assert overfit["host"]["all_ap_50%"] > 0.9, "the comparison needs a host that has learnt"
    assert overfit["influence"]["all_ap_50%"] >= overfit["host"]["all_ap_50%"] - 0.02


def test_geomean_learns_nothing(overfit):
    """What its docstring says; if this ever fails, the docstring is wrong."""
    assert overfit["geomean"]["all_ap_50%"] < 0.1


def losses(runner):
    return runner.message_hub.get_scalar("train/inst_loss").data[0]


def test_resume_and_load_from(s3dis_root, tmp_path):
    full = tiny.run(tiny.s3dis(s3dis_root, tmp_path / "run", {}, steps=6))
    saved = torch.load(tmp_path / "run" / "iter_6.pth", weights_only=False)
    cfg = tiny.s3dis(s3dis_root, tmp_path / "run", {}, steps=9)
    cfg.resume = True
    cfg.experiment_name = "resumed"
    resumed = tiny.run(cfg)
    assert resumed.iter == 9 and saved["meta"]["iter"] == 6
    assert len(losses(full)) == 6 and len(losses(resumed)) == 9
    cfg = tiny.s3dis(s3dis_root, tmp_path / "other", {}, steps=1)
    cfg.load_from = str(tmp_path / "run" / "iter_6.pth")
    cfg.experiment_name = "loaded"
    loaded = tiny.run(cfg)
    assert loaded.iter == 1
    assert losses(loaded)[0] < 0.9 * losses(full)[0], "training did not start from the checkpoint"


def test_baseline_checkpoint_goes_on_with_influence(s3dis_root, tmp_path):
    """The criterion has no parameters: a model trained with matching is a valid start, and back."""
    tiny.run(tiny.s3dis(s3dis_root, tmp_path / "host", None, steps=2))
    cfg = tiny.s3dis(s3dis_root, tmp_path / "ours", {}, steps=1)
    cfg.load_from = str(tmp_path / "host" / "iter_2.pth")
    cfg.experiment_name = "switched"
    keys = set(tiny.run(cfg).model.state_dict())
    assert keys == set(torch.load(cfg.load_from, weights_only=False)["state_dict"])


@pytest.mark.parametrize("data", ["s3dis", "scannet"])
def test_two_processes_through_the_hosts_own_script(data, request, tmp_path):
    root = request.getfixturevalue(f"{data}_root")
    cfg = getattr(tiny, data)(root, tmp_path / "work", {}, steps=3)
    cfg.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None, find_unused_parameters=False)
    cfg.env_cfg.dist_cfg.backend = "gloo"
    cfg.log_level = "INFO"
    cfg.dump(tmp_path / "config.py")
    host = Path(os.environ["ONEFORMER3D_ROOT"])
    standins = Path(__file__).parent / "standins"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(standins), str(host)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(host / "tools" / "train.py"), str(tmp_path / "config.py"), "--launcher", "pytorch"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "work" / "iter_3.pth").is_file()


@pytest.mark.parametrize(("data", "given"), [("s3dis", False), ("scannet", True)])
def test_shipped_configs_hand_over_query_masks_on_scannet_alone(data, given, request, tmp_path, monkeypatch):
    """They choose the queries wherever they are there (tests/test_criterion.py), so this is all that is needed."""
    masks, call = [], InfluencerCriterion.__call__

    def spy(self, pred, insts):
        masks.extend((getattr(inst, "query_masks", None), inst.sp_masks, pred["cls_preds"][0]) for inst in insts[:1])
        return call(self, pred, insts)

    monkeypatch.setattr(InfluencerCriterion, "__call__", spy)
    tiny.run(getattr(tiny, data)(request.getfixturevalue(f"{data}_root"), tmp_path, {}, steps=1))
    ((query_masks, targets, classes),) = masks
    if given:
        assert query_masks.shape == (len(targets), len(classes)) and query_masks.any(1).any()
    else:
        assert query_masks is None


def test_scannet_learns_and_predicts(scannet_root, tmp_path):
    runner = tiny.run(tiny.scannet(scannet_root, tmp_path, {}, steps=30))
    values = losses(runner)
    assert values[-5:].mean() < 0.75 * values[:5].mean()
    share = runner.message_hub.get_scalar("train/inst_own_query_share").data[0]
    assert 0 < share[-1] <= 1
    assert set(tiny.evaluate(runner)) >= {"all_ap_50%", "miou"}
