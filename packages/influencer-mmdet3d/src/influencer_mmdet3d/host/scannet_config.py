"""The config of `new-config --base scannet`: the host's ScanNet model on a data folder with superpoints.

The host's ScanNet models want the classes in one order: stuff first, then things, and count instances of things alone.
`FolderDataset` puts the labels of the files into that order.
"""

from __future__ import annotations

import pprint
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from influencer_mmdet3d.data.formats import CLASS_FILE
from influencer_mmdet3d.data.plain_pickle import load_plain
from influencer_mmdet3d.data.prepare import INFOS, SUPERPOINTS
from influencer_mmdet3d.host.pin import host_root

BASE = "configs/oneformer3d_1xb4_scannet.py"
CRITERIA = {
    "influencer": "dict(_delete_=True, type='InfluencerCriterion', num_classes={things})",
    "baseline": "dict(num_classes={things})",
}
TEMPLATE = """# {criterion} on {data}, written by `influencer-mmdet3d new-config --base scannet`.
# Needs ONEFORMER3D_ROOT, an absolute path.
_base_ = ["{{{{$ONEFORMER3D_ROOT:}}}}/{base}"]
custom_imports = dict(
    imports=["oneformer3d", "influencer_mmdet3d", "influencer_mmdet3d.host.own_data"], allow_failed_imports=False
)

names = {names}  # stuff first: the host's order
order = {order}  # their labels in the files
stuff, things = {stuff}, {thing_list}
voxel_size = {voxel}  # metres; the pipeline makes the voxels of training, the model those of the test

model = dict(
    voxel_size=voxel_size,
    num_classes={things},
    decoder=dict(num_instance_classes={things}, num_semantic_classes={count}),
    criterion=dict(
        num_semantic_classes={count},
        sem_criterion=dict(ignore_index={count}),
        inst_criterion={inst_criterion},
    ),
    test_cfg=dict(topk_insts={topk}, stuff_classes=stuff),
)

train_pipeline = {train_pipeline}

test_pipeline = {test_pipeline}

data = dict(
    type="FolderDataset",
    base="scannet",
    order=order,
    data_root="{data}/",
    class_file="{class_file}",
    data_prefix=dict(
        pts="points", pts_instance_mask="instance_mask", pts_semantic_mask="semantic_mask", sp_pts_mask="{superpoints}"
    ),
    ignore_index={count},
)
train_dataloader = dict(
    dataset=dict(_delete_=True, ann_file="{train}", pipeline=train_pipeline, scene_idxs=None, test_mode=False, **data)
)
val_dataloader = dict(
    dataset=dict(_delete_=True, ann_file="{val}", pipeline=test_pipeline, test_mode=True, **data)
)
test_dataloader = val_dataloader

val_evaluator = dict(
    stuff_class_inds=stuff,
    thing_class_inds=things,
    sem_mapping=order,
    inst_mapping=order[len(stuff):],
    metric_meta=dict(
        _delete_=True,
        label2cat=dict(enumerate([*names, "unlabeled"])),
        ignore_index=[{count}],
        classes=[*names, "unlabeled"],
        dataset_name="ScanNet",  # selects the host's way to evaluate, not the data
    ),
)
test_evaluator = val_evaluator

# The host keeps one checkpoint and removes it before it writes the next: a kill in between would lose both.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
load_from = None
"""


def config_text(data: Path, criterion: str, names: Sequence[str], stuff: Sequence[int], things: Sequence[int]) -> str:
    """Return the text of a config; raises ValueError where the folder has no superpoints."""
    fewest = _check_scenes(data, stuff)
    order = [*stuff, *things]
    base = Config.fromfile(host_root() / BASE, import_custom_modules=False)

    def pipeline(steps: Sequence[Any]) -> str:
        text = pprint.pformat([_adapted(step, len(names), len(stuff)) for step in steps], width=110, sort_dicts=False)
        return re.sub(r"'voxel_size': [\d.]+", "'voxel_size': voxel_size", text)

    return TEMPLATE.format(
        criterion=criterion,
        data=data.as_posix(),
        base=BASE,
        names=[names[label] for label in order],
        order=order,
        stuff=list(range(len(stuff))),
        voxel=base.model.voxel_size,
        thing_list=list(range(len(stuff), len(names))),
        things=len(things),
        count=len(names),
        inst_criterion=CRITERIA[criterion].format(things=len(things)),
        topk=min(base.model.test_cfg.topk_insts, fewest * len(things)),
        train_pipeline=pipeline(base.train_pipeline),
        test_pipeline=pipeline(base.test_pipeline),
        class_file=CLASS_FILE,
        superpoints=SUPERPOINTS,
        train=INFOS.format("train"),
        val=INFOS.format("val"),
    )


def _adapted(step: Any, classes: int, stuff: int) -> dict[str, Any]:
    """Return a step of a pipeline with our numbers of classes, also in the steps that it holds."""
    step = dict(step)
    if step["type"] == "AddSuperPointAnnotations":
        step.update(num_classes=classes, stuff_classes=list(range(stuff)))
    if "transforms" in step:
        step["transforms"] = [_adapted(inner, classes, stuff) for inner in step["transforms"]]
    return step


def _check_scenes(data: Path, stuff: Sequence[int]) -> int:
    """Return the fewest superpoints of a scene; raises ValueError for scenes that the host's ScanNet models stop at.

    The host picks `topk_insts` out of superpoints x things, and stops where there are fewer.
    """
    counts = []
    for split in ("train", "val"):
        for entry in load_plain(data / INFOS.format(split))["data_list"]:
            name = entry["lidar_points"]["lidar_path"]
            if "super_pts_path" not in entry:
                raise ValueError(
                    f"{data}: the scene {name} has no superpoints, which ScanNet-like models need: call "
                    "`influencer-mmdet3d prepare` with --superpoints, e.g. --superpoints graph"
                )
            labels = np.fromfile(data / "semantic_mask" / entry["pts_semantic_mask_path"], "<i8")
            if split == "train" and not np.isin(labels, stuff).any():
                raise ValueError(
                    f"{data}: the scene {name} has no point of a stuff class (labels {list(stuff)}), and the host's "
                    "ScanNet model stops there: name the classes of its surroundings with --stuff, or leave it out"
                )
            counts.append(int(np.fromfile(data / SUPERPOINTS / entry["super_pts_path"], "<i8").max()) + 1)
    return min(counts)
