"""The real host reads our synthetic data unchanged, and does to each defect what `check` says."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from influencer_mmdet3d.data.rooms import CLASSES
from influencer_mmdet3d.data.synthetic import SCANNET_IDS
from mmdet3d.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

_spec = importlib.util.spec_from_file_location("defects", Path(__file__).parents[1] / "defects.py")
defects = sys.modules["defects"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(defects)

CONFIGS = {"s3dis": "oneformer3d_1xb2_s3dis-area-5.py", "scannet": "oneformer3d_1xb4_scannet.py"}


def dataset(kind, root, infos, *, training):
    """Build the host's own dataset with its own pipeline, from its own config."""
    import oneformer3d  # noqa: F401  registers the host

    init_default_scope("mmdet3d")
    cfg = Config.fromfile(Path(os.environ["ONEFORMER3D_ROOT"]) / "configs" / CONFIGS[kind])
    options = (cfg.train_dataloader if training else cfg.val_dataloader).dataset
    if kind == "s3dis" and training:
        options = options.datasets[0]
    options.update(data_root=str(root), ann_file=infos.name)
    built = DATASETS.build(options)
    built.max_refetch = 3  # the host's 1,000 tries to replace a dropped scene
    return built


def train_on(kind, root, infos):
    """Read one training sample and make the targets that the model would be trained with."""
    from oneformer3d.oneformer3d import S3DISOneFormer3D

    packed = dataset(kind, root, infos, training=True)[0]
    sample = packed["data_samples"]
    if kind == "s3dis":
        points = packed["inputs"]["points"][:, :3]
        cells = ((points - points.min(0)[0]) / 0.05).floor().int()
        voxels = torch.unique(cells, dim=0, return_inverse=True)[1]
        S3DISOneFormer3D.get_gt_semantic_masks(sample.gt_pts_seg.pts_semantic_mask, voxels, len(CLASSES))
        masks = S3DISOneFormer3D.get_gt_inst_masks(sample.gt_pts_seg.pts_instance_mask, voxels)
        assert len(masks) == len(sample.gt_instances_3d.labels_3d)
    return sample


def evaluate_on(kind, root, infos):
    """Read one evaluation sample and bring its labels into the evaluator's form, as the host's metric does."""
    from oneformer3d.instance_seg_eval import rename_gt
    from oneformer3d.unified_metric import UnifiedSegMetric

    packed = dataset(kind, root, infos, training=False)[0]
    truth = packed["data_samples"].eval_ann_info
    semantic, instance = truth["pts_semantic_mask"], truth["pts_instance_mask"].copy()
    if kind == "scannet":
        ids = range(18)
        semantic, instance = UnifiedSegMetric.map_inst_markup(None, semantic.copy(), instance, ids, 2)
    rename_gt([semantic], [instance], range(13 if kind == "s3dis" else 18))
    return packed


@pytest.mark.parametrize("kind", defects.TABLES)
def test_host_reads_the_data_unchanged(tmp_path, kind):
    infos = defects.write(tmp_path, kind, lambda scene: None)
    name = infos.parent.joinpath("points").iterdir().__next__().name
    points = np.fromfile(tmp_path / "points" / name, np.float32).reshape(-1, 6)
    instance = np.fromfile(tmp_path / "instance_mask" / name, np.int64)
    semantic = np.fromfile(tmp_path / "semantic_mask" / name, np.int64)
    packed = evaluate_on(kind, tmp_path, infos)
    read = packed["inputs"]["points"]
    np.testing.assert_array_equal(read[:, :3].numpy(), points[:, :3])
    np.testing.assert_allclose(read[:, 3:].numpy(), points[:, 3:] / 127.5 - 1, atol=1e-6)
    sample = train_on(kind, tmp_path, infos)
    labels = sample.gt_instances_3d.labels_3d.numpy()
    if kind == "s3dis":
        assert len(labels) == len(np.unique(instance))
        wanted = np.sort([semantic[instance == number][0] for number in np.unique(instance)])
    else:
        superpoints = np.fromfile(tmp_path / "super_points" / name, np.int64)
        masks = sample.gt_instances_3d.sp_masks
        assert masks.shape[1] == superpoints.max() + 1
        valid = list(SCANNET_IDS.values())
        evaluated = [number for number in valid if number not in (1, 2, 22, 38)]
        of_thing = np.unique(instance[np.isin(semantic, evaluated)])
        host_labels = {9: 6, 8: 5, 7: 4, 5: 2, 6: 3, 10: 7, 11: 8, 39: 17}
        wanted = np.sort([host_labels[semantic[instance == number][0]] for number in of_thing])
        labels = labels[: len(labels) - 21]  # one row for each semantic class and for unlabelled points follows
    assert np.sort(labels).tolist() == wanted.tolist()


@pytest.mark.parametrize(("kind", "name"), defects.ALL)
def test_the_host_does_what_the_defect_table_says(tmp_path, kind, name):
    damage, _, _, outcome = defects.TABLES[kind][name]
    infos = defects.write(tmp_path, kind, damage)
    failed = []
    for job in (train_on, evaluate_on):
        try:
            job(kind, tmp_path, infos)
        except Exception:  # whatever the host stops with
            failed.append(job)
    if outcome == defects.STOPS:
        assert failed, "`check` says that the host stops"
    elif outcome == defects.DROPS:  # the only scene is left out of training, which finds none
        assert failed == [train_on], "`check` says that the host drops the scene in training"
    else:
        assert not failed, "`check` says that the host trains on"
