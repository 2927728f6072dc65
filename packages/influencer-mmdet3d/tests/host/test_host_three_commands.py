"""Own data in three commands: labelled .ply files come to an AP without any edit."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from influencer_mmdet3d.host.new_config import write_config
from launcher import SMALL, launch, metrics

_spec = importlib.util.spec_from_file_location("test_prepare", Path(__file__).parents[1] / "data" / "test_prepare.py")
own = sys.modules["test_prepare"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(own)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Eight made rooms to learn and two to evaluate on: floor, wall, and two classes of objects."""
    folder = tmp_path_factory.mktemp("made")
    return own.rooms(folder, count=10, points=4_000), folder / "names.txt"


HELD_OUT = ("room_8", "room_9")
SHORT = (
    *("optim_wrapper.optimizer.lr=0.002", "default_hooks.checkpoint.interval=100", "randomness.seed=0"),
    "train_dataloader.batch_size=2",
)


def trained(folder, dataset, epochs, *more):
    """Train my_config.py; return the AP50 of the rooms that were not trained on, and what was printed."""
    small = (*SMALL[dataset], *SHORT, f"train_cfg.max_epochs={epochs}", f"train_cfg.val_interval={epochs}", *more)
    code, output = launch(folder, "train", dataset, "my_config.py", "--cfg-options", *small)
    assert code == 0, output[-3000:]
    precision = float(metrics(output, "val")[1].split(": ")[1])
    print(f"{dataset}: AP50 {precision} of {HELD_OUT}")
    return precision, output


@pytest.mark.parametrize("criterion", ["influencer", "baseline"])
def test_four_made_up_classes_come_to_an_ap_in_rooms_not_trained_on(scans, tmp_path, criterion):
    """Floor and walls alone, which are easy, would make an AP50 below 0.5: a class of objects is found as well."""
    files, names = scans
    words = ("prepare", *files, "--classes", str(names), "--val", *HELD_OUT, "--out", "data/mine")
    code, output = launch(tmp_path, *words)
    assert code == 0 and "8 scenes to train on and 2 scenes to evaluate on" in output, output
    code, output = launch(tmp_path, "new-config", "data/mine", "--criterion", criterion)
    assert code == 0, output
    code, output = launch(tmp_path, "check", "data/mine", "--format", "s3dis", "--config", "my_config.py")
    assert code == 0 and "pipe" in output, output
    if criterion == "baseline":  # the host's matcher trains with the same three commands; what it finds is not ours
        trained(tmp_path, "s3dis", 1)
        return
    code, output = launch(tmp_path, "verify", "my_config.py")
    assert code == 0 and "a synthetic scene went through" in output, output
    assert trained(tmp_path, "s3dis", 50)[0] > 0.5


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


def test_scannets_model_comes_to_an_ap_in_rooms_not_trained_on(scans, tmp_path):
    """.las with extra fields, superpoints from the points; only classes of objects count here."""
    files, names = scans
    las = [str(own.as_las(path)) for path in files]
    words = ("prepare", *las, "--classes", str(names), "--val", *HELD_OUT, "--out", "data/mine")
    code, output = launch(tmp_path, *words, "--superpoints", "graph")
    assert code == 0, output
    code, output = launch(tmp_path, "new-config", "data/mine", "--base", "scannet")
    assert code == 0 and "train scannet my_config.py" in output, output
    code, output = launch(
        tmp_path, "check", "data/mine", "--format", "scannet", "--config", "my_config.py", "--allow-warnings"
    )
    assert code == 0 and "pipe" in output, output
    once = ("train", "scannet", "my_config.py", "--cfg-options", "model.voxel_size=0.1")
    code, output = launch(tmp_path, *once)
    assert code == 2 and "train_dataloader.dataset.pipeline.7.voxel_size (ElasticTransfrom) is 0.02 m" in output
    topk = re.search(r"topk_insts=(\d+)", (tmp_path / "my_config.py").read_text())[1]  # what the scenes allow
    assert trained(tmp_path, "scannet", 50, f"model.test_cfg.topk_insts={topk}")[0] > 0.2
