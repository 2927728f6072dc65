"""Own data in three commands: labelled .ply files come to an AP without any edit."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from influencer_mmdet3d.host.new_config import write_config
from launcher import SMALL, launch, metrics

_spec = importlib.util.spec_from_file_location("test_prepare", Path(__file__).parents[1] / "data" / "test_prepare.py")
own = sys.modules["test_prepare"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(own)


@pytest.mark.parametrize("criterion", ["influencer", "baseline"])
def test_four_made_up_classes_come_to_an_ap(tmp_path, criterion):
    scans = own.rooms(tmp_path / "scans")
    shutil.copy(tmp_path / "scans" / "room_0.ply", tmp_path / "scans" / "room_2.ply")  # evaluated on what it learnt
    words = ("prepare", *scans, "--classes", "scans/names.txt", "--val", "room_2", "--out", "data/mine")
    code, output = launch(tmp_path, *words)
    assert code == 0, output
    code, output = launch(tmp_path, "new-config", "data/mine", "--criterion", criterion)
    assert code == 0, output
    code, output = launch(tmp_path, "check", "data/mine", "--format", "s3dis", "--config", "my_config.py")
    assert code == 0 and "pipe" in output, output
    if criterion == "influencer":
        code, output = launch(tmp_path, "verify", "my_config.py")
        assert code == 0 and "a synthetic scene went through" in output, output
    epochs = 80 if criterion == "influencer" else 2
    small = (
        *(*SMALL["s3dis"], "optim_wrapper.optimizer.lr=0.002", "default_hooks.checkpoint.interval=80"),
        *(f"train_cfg.max_epochs={epochs}", f"train_cfg.val_interval={epochs}"),
    )
    code, output = launch(tmp_path, "train", "s3dis", "my_config.py", "--cfg-options", *small)
    assert code == 0, output[-3000:]
    precision = float(metrics(output, "val")[1].split(": ")[1])
    assert precision > 0.2 if criterion == "influencer" else precision >= 0, "a scan that was trained on is found again"


def test_sixteen_classes_reach_every_place(tmp_path):
    """Label 13 is a class here: the host's own pipeline would take it for 'no class'."""
    (tmp_path / "classes.txt").write_text("\n".join(f"class {n}" for n in range(16)))
    for split in ("train", "val"):
        (tmp_path / f"infos_{split}.pkl").write_bytes(b"")
    text = write_config(tmp_path, "baseline", ["class 3"])
    assert "13" not in text.split("train_pipeline")[0].split("_base_")[1].replace("class 13", "").replace(" 13,", "")
    assert "'num_classes': 16" in text
    with pytest.raises(ValueError, match="--stuff: 'sky' is none of the classes"):
        write_config(tmp_path, "baseline", ["sky"])
    (tmp_path / "infos_val.pkl").unlink()
    with pytest.raises(ValueError, match=r"has no infos_val\.pkl: `influencer-mmdet3d prepare` writes such a folder"):
        write_config(tmp_path, "baseline")


def test_scannets_model_trains_on_own_classes_from_las_and_is_evaluated_on_a_scan_it_has_not_seen(tmp_path):
    """.las with extra fields, superpoints from the points, and an AP on a held-out file."""
    scans = [str(own.as_las(path)) for path in own.rooms(tmp_path / "scans", count=7)]
    words = ("prepare", *scans, "--classes", "scans/names.txt", "--val", "room_6", "--out", "data/mine")
    code, output = launch(tmp_path, *words, "--superpoints", "graph")
    assert code == 0, output
    code, output = launch(tmp_path, "new-config", "data/mine", "--base", "scannet")
    assert code == 0 and "train scannet my_config.py" in output, output
    code, output = launch(
        tmp_path, "check", "data/mine", "--format", "scannet", "--config", "my_config.py", "--allow-warnings"
    )
    assert code == 0 and "pipe" in output, output
    small = (
        *(option for option in SMALL["scannet"] if "topk_insts" not in option),  # the config's own fits the scenes
        *("optim_wrapper.optimizer.lr=0.002", "default_hooks.checkpoint.interval=60"),
        *("train_cfg.max_epochs=60", "train_cfg.val_interval=60", "train_cfg.dynamic_intervals=None"),
        *("train_dataloader.batch_size=2", "model.query_thr=1.0"),
    )
    code, output = launch(tmp_path, "train", "scannet", "my_config.py", "--cfg-options", *small)
    assert code == 0, output[-3000:]
    print(metrics(output, "val"))
    assert float(metrics(output, "val")[1].split(": ")[1]) >= 0, "it trains and is evaluated; what it finds is no claim"
