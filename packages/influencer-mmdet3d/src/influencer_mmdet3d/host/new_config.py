"""`new-config`: a config that trains on a data folder of `prepare`, with every place that depends on the classes."""

from __future__ import annotations

import argparse
import pprint
from pathlib import Path

from mmengine.config import Config

from influencer_mmdet3d.data.formats import CLASS_FILE, read_classes, usual_stuff
from influencer_mmdet3d.data.prepare import INFOS
from influencer_mmdet3d.files import write_whole
from influencer_mmdet3d.host import scannet_config
from influencer_mmdet3d.host.pin import host_root
from influencer_mmdet3d.terminal import DONE

BASE = "configs/oneformer3d_1xb2_s3dis-area-5.py"
CRITERIA = {
    "influencer": "dict(_delete_=True, type='InfluencerCriterion', num_classes={count}, non_object_weight=0.05)",
    "baseline": "dict(num_classes={count})",
}

TEMPLATE = """# {criterion} on {data}, written by `influencer-mmdet3d new-config`.
# Needs ONEFORMER3D_ROOT, an absolute path.
_base_ = ["{{{{$ONEFORMER3D_ROOT:}}}}/{base}"]
custom_imports = dict(
    imports=["oneformer3d", "influencer_mmdet3d", "influencer_mmdet3d.host.own_data"], allow_failed_imports=False
)

names = {names}
stuff, things = {stuff}, {things}  # for the panoptic score only

model = dict(
    num_classes={count},
    decoder=dict(num_classes={count}, num_instance_classes={count}, num_semantic_queries={count}),
    criterion=dict(num_semantic_classes={count}, inst_criterion={inst_criterion}),
    test_cfg=dict(topk_insts={topk}, npoint_thr=100, num_sem_cls={count}, stuff_cls=stuff, thing_cls=things),
)

train_pipeline = {pipeline}

data = dict(
    type="FolderDataset",
    data_root="{data}/",
    class_file="{class_file}",
    data_prefix=dict(pts="points", pts_instance_mask="instance_mask", pts_semantic_mask="semantic_mask"),
    box_type_3d="Depth",
)
train_dataloader = dict(dataset=dict(_delete_=True, ann_file="{train}", pipeline=train_pipeline, **data))
val_dataloader = dict(
    dataset=dict(_delete_=True, ann_file="{val}", pipeline={{{{_base_.test_pipeline}}}}, test_mode=True, **data)
)
test_dataloader = val_dataloader

val_evaluator = dict(
    stuff_class_inds=stuff,
    thing_class_inds=things,
    sem_mapping=list(range({count})),
    inst_mapping=list(range({count})),
    metric_meta=dict(
        _delete_=True,
        label2cat=dict(enumerate([*names, "unlabeled"])),
        ignore_index=[{count}],
        classes=[*names, "unlabeled"],
        dataset_name="S3DIS",  # selects the host's way to evaluate, not the data
    ),
)
test_evaluator = val_evaluator

# The host keeps one checkpoint and removes it before it writes the next: a kill in between would lose both.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
load_from = None
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``new-config``."""
    parser.add_argument("data", type=Path, metavar="DIR", help="data folder that `prepare` wrote")
    parser.add_argument(
        "--base", choices=("s3dis", "scannet"), default="s3dis",
        help="host model to start from: on voxels (default), or on superpoints, which `prepare --superpoints` writes",
    )  # fmt: skip
    parser.add_argument("--criterion", choices=sorted(CRITERIA), default="influencer")
    parser.add_argument("--stuff", nargs="+", metavar="NAME", help="classes without countable objects (panoptic score)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: my_config.py in the current folder")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the config; an existing file is left alone."""
    target = args.out or Path("my_config.py")
    if target.exists():
        raise ValueError(f"{target} exists already; choose another file with --out")
    write_whole(target, write_config(args.data, args.criterion, args.stuff, args.base))
    if not args.quiet:
        print(
            f"wrote {target}. Next: influencer-mmdet3d verify {target}, and then "
            f"influencer-mmdet3d train {args.base} {target} --resume"
        )
    return DONE


def write_config(data: Path, criterion: str, stuff: list[str] | None = None, base: str = "s3dis") -> str:
    """Return the text of a config.

    Raises
    ------
    ValueError
        If the folder lacks a file of `prepare` or, for `base` 'scannet', superpoints; if `stuff` names no class, or
        leaves no stuff or no thing.
    """
    wanted = [CLASS_FILE, *(INFOS.format(split) for split in ("train", "val"))]
    missing = [name for name in wanted if not (data / name).is_file()]
    if missing:
        raise ValueError(f"{data} has no {' and no '.join(missing)}: `influencer-mmdet3d prepare` writes such a folder")
    names = read_classes(data / CLASS_FILE)
    unknown = [name for name in stuff or () if name not in names]
    if unknown:
        raise ValueError(f"--stuff: {unknown[0]!r} is none of the classes {names}")
    # the host cannot do without either
    indices = list(usual_stuff(names)) if stuff is None else [names.index(name) for name in names if name in stuff]
    things = [index for index in range(len(names)) if index not in indices]
    if not things:
        raise ValueError(f"at least one of the classes {names} must be no stuff: the host finds nothing else to count")
    if base == "scannet":
        return scannet_config.config_text(data, criterion, names, indices, things)
    host = Config.fromfile(host_root() / BASE, import_custom_modules=False)
    pipeline = [dict(step) for step in host.train_pipeline]
    for step in pipeline:
        if step["type"] == "PointInstClassMapping_":
            step["num_classes"] = len(names)
    queries, topk = host.model.decoder.num_instance_queries, host.model.test_cfg.topk_insts
    return TEMPLATE.format(
        criterion=criterion,
        data=data.as_posix(),
        base=BASE,
        names=names,
        stuff=indices,
        things=things,
        count=len(names),
        inst_criterion=CRITERIA[criterion].format(count=len(names)),
        topk=min(topk, queries * len(names)),
        pipeline=pprint.pformat(pipeline, width=110, sort_dicts=False),
        class_file=CLASS_FILE,
        train=INFOS.format("train"),
        val=INFOS.format("val"),
    )
