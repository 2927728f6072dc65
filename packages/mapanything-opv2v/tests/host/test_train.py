"""The unmodified scripts/train.py trains, tests, saves and resumes with every dataset config."""

from __future__ import annotations

import shutil

import pytest
import torch
from runs import log_of, text_of

SMALL = {
    "opv2v_ft": ("dataset.num_views=3", 'dataset.resolution_train="(56,42)"'),
    "opv2v_coop_ft": ("dataset.num_views=4", 'dataset.resolution_train="(56,42)"'),
    "opv2v_cyl_coop_ft": ('dataset.resolution_train="(112,28)"',),
    "opv2v_cyl_coop_ft_5gpu": ("dataset.num_views=2", 'dataset.resolution_train="(112,28)"'),
    "opv2v_ft_smoke": ('dataset.resolution_train="(56,42)"',),
}
CLASSES = {
    "opv2v_ft": "OPV2VDataset",
    "opv2v_coop_ft": "OPV2VCoopDataset",
    "opv2v_cyl_coop_ft": "OPV2VCoopCylindricalDataset",
    "opv2v_cyl_coop_ft_5gpu": "OPV2VCoopCylindricalDataset",
    "opv2v_ft_smoke": "OPV2VDataset",
}


@pytest.mark.parametrize("name", SMALL)
def test_trains_tests_saves_and_resumes(train, tmp_path, name):
    overrides = (
        *SMALL[name],
        "dataset.opv2v.train.samples_per_epoch=4",
        "dataset.opv2v.val.max_scenes=2",
        "train_params.max_num_of_imgs_per_gpu=4",
        "train_params.warmup_epochs=0.5",
        "train_params.keep_freq=0",
    )
    run_dir = tmp_path / name
    done = train(name, run_dir, *overrides, "train_params.epochs=1")
    assert done.returncode == 0, text_of(done, run_dir)
    first = log_of(run_dir)
    assert [line["epoch"] for line in first] == [0, 1]
    test_key = f"{CLASSES[name]}_validate_loss_avg"
    assert test_key in first[-1] and torch.isfinite(torch.tensor(first[-1][test_key]))
    assert torch.isfinite(torch.tensor(first[-1]["train_loss"]))
    assert {path.name for path in run_dir.glob("*.pth")} == {
        "checkpoint-last.pth",
        "checkpoint-best.pth",
        "checkpoint-final.pth",
    }

    for other in ("checkpoint-best.pth", "checkpoint-final.pth"):
        (run_dir / other).unlink()
    done = train(name, run_dir, *overrides, "train_params.epochs=2")
    assert done.returncode == 0, text_of(done, run_dir)
    epochs = [line["epoch"] for line in log_of(run_dir)]
    assert epochs == [0, 1, 1, 2]  # it goes on where it was, not from 0
    shutil.rmtree(run_dir)


def test_a_bad_sample_stops_the_run_by_name(train, own_town, tmp_path, small_town):
    root, depth_root = own_town
    folder = root / "train" / small_town.sequences[0]
    for path in folder.rglob("*_camera1.png"):
        path.write_bytes(path.read_bytes()[:200])
    run_dir = tmp_path / "run"
    done = train(
        "opv2v_ft",
        run_dir,
        *SMALL["opv2v_ft"],
        "dataset.opv2v.train.samples_per_epoch=20",
        roots=(root, depth_root),
    )
    assert done.returncode != 0
    text = text_of(done, run_dir)
    assert "truncated PNG" in text and f"train/{small_town.sequences[0]}/" in text and " camera1: " in text
    assert "Retrying with scene_idx" not in text


def test_a_run_that_could_not_work_does_not_start(train, tmp_path):
    twice = "OPV2VDataset(split='validate')+OPV2VDataset(split='test')"
    done = train(
        "opv2v_ft",
        tmp_path / "run",
        "train_params.warmup_epochs=10",
        "train_params.max_num_of_imgs_per_gpu=3",
        f'dataset.test_dataset="{twice}"',
    )
    assert done.returncode == 1
    for problem in (
        "train_params.warmup_epochs=10 is not shorter than train_params.epochs=5",
        "the test batch is 2 * (3 // 4) = 0 samples",
        "2 test sets begin with 'OPV2VDataset'",
        "a test set reads the split 'test'",
    ):
        assert problem in done.stderr, done.stderr[-2000:]
    assert not (tmp_path / "run" / "log.txt").exists()
