"""What learn_towns.py can train: an arm is one way, by its name, and the Hydra overrides that make it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Arm:
    """What is trained."""

    panorama: bool = True
    vehicles: int = 2
    roll: bool = True
    """Roll every panorama at random and turn its pose along, as `panorama_roll` of the datasets does."""
    overrides: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    """Geometry that the model is given when it is judged."""
    start: bool = False
    """Begin with the weights of learn_towns_start.py, in place of random ones; go on with its cast panoramas."""
    points: float = 1.0
    """Weight of the points of patches in the start."""
    main: str = "random"
    """Who is the main agent in training: any vehicle (`random`), or always the first of a moment (`first`)."""
    dense: bool = True
    """Go on with the package's training; else the start alone is judged, as it judges itself."""


_POSES = ("model/task=posed_sfm",)
_DEPTHS = ("model/task=registration",)
_SMALL = (
    "model/task=calibrated_sfm", "model.info_sharing.module_args.init_values=null", "model.encoder.patch_size=7",
    "model.encoder.enc_embed_dim=256", "model.info_sharing.module_args.dim=256",
    "model.info_sharing.module_args.num_heads=4", "model.info_sharing.module_args.depth=8",
    "model.info_sharing.module_args.indices=[2,5]",
)  # fmt: skip
_DEPTH_TERM = 'loss.opv2v.extra="${loss.opv2v.depth.term}"'
_IDENTITY = ("model.model_str=opv2v_mapanything", "model.model_config.name=opv2v_mapanything")

ARMS = {
    "coop": Arm(),
    "started": Arm(start=True, overrides=_SMALL, inputs=("calibration",)),
    "poses_only": Arm(start=True, points=0.0, overrides=_SMALL, inputs=("calibration",)),
    "started14": Arm(start=True, overrides=(*_SMALL, "model.encoder.patch_size=14"), inputs=("calibration",)),
    "start": Arm(start=True, dense=False, overrides=_SMALL, inputs=("calibration",)),
    "started_first": Arm(start=True, main="first", overrides=_SMALL, inputs=("calibration",)),
    "started_no_pairwise": Arm(start=True, overrides=(*_SMALL, "loss=opv2v_loss"), inputs=("calibration",)),
    "started_agreement": Arm(start=True, overrides=(*_SMALL, "loss=opv2v_agreement_loss"), inputs=("calibration",)),
    "started_depth": Arm(start=True, overrides=(*_SMALL, _DEPTH_TERM), inputs=("calibration",)),
    "started_unmasked": Arm(start=True, overrides=(*_SMALL, "loss.opv2v.mask_weight=0"), inputs=("calibration",)),
    "started_even": Arm(start=True, overrides=(*_SMALL, "loss.opv2v.pos_weight=1"), inputs=("calibration",)),
    "unstarted": Arm(overrides=_SMALL, inputs=("calibration",)),
    "one": Arm(vehicles=1, overrides=("loss=opv2v_loss", "dataset.opv2v.class_name=OPV2VCylindricalDataset")),
    "fixed": Arm(roll=False),
    "identity": Arm(overrides=_IDENTITY),
    "oracle": Arm(overrides=_POSES, inputs=("pose",)),
    "range_given": Arm(overrides=_DEPTHS, inputs=("calibration", "depth")),
    "no_pairwise": Arm(overrides=("loss=opv2v_loss",)),
    "agreement": Arm(overrides=("loss=opv2v_agreement_loss",)),
    "depth": Arm(overrides=(_DEPTH_TERM,)),
    "pinhole": Arm(panorama=False, roll=False),
    "pinhole_oracle": Arm(panorama=False, roll=False, overrides=_POSES, inputs=("pose",)),
    "pose10": Arm(overrides=("loss.opv2v.pose_quats_loss_weight=10", "loss.opv2v.pose_trans_loss_weight=10")),
    "pose30": Arm(overrides=("loss.opv2v.pose_quats_loss_weight=30", "loss.opv2v.pose_trans_loss_weight=30")),
    "bold": Arm(overrides=("train_params.lr=1e-3", "model.info_sharing.module_args.init_values=0.1",
                           "loss.opv2v.pose_quats_loss_weight=10", "loss.opv2v.pose_trans_loss_weight=10")),
    "lr1e-3": Arm(overrides=("train_params.lr=1e-3",)),
    "init_full": Arm(overrides=("model.info_sharing.module_args.init_values=null",)),
    "init_tenth": Arm(overrides=("model.info_sharing.module_args.init_values=0.1",)),
    "patch7": Arm(overrides=("model.encoder.patch_size=7",)),
}  # fmt: skip
"""`started` knows its rays, has patches of 7 pixels, 256 channels and 8 shared layers, and begins with learnt matching;
`poses_only` has the same start without points of patches, `started14` patches of 14 pixels, `unstarted` no start, and
`start` nothing else; `started_...` change one thing of what follows the start, and can share it (`--start_from`);
`oracle` is told the true poses, `range_given` the true ranges; the last eight are for tuning."""


TRUNK = ("info_sharing", "pose_head", "ray_dirs_encoder", "fusion_norm_layer", "scale_token", "scale_head")
"""What a start has trained or set beside the encoder, by the beginnings of its parameters' names."""


@lru_cache
def gpu_count() -> int:
    """Return how many GPUs there are; torch is imported here, so that processes that render do without."""
    import torch

    return torch.cuda.device_count()


def sizes(args: argparse.Namespace) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the sizes of pinhole views and panoramas: 4 of the former have about the pixels of one of the latter."""
    return ((56, 42), (112, 28)) if args.toy else ((84, 56), (280, 70))


def overrides(cell: Any, args: argparse.Namespace, folder: Path) -> list[str]:
    """Return the Hydra overrides of a cell: the package's experiment with a small model and small images."""
    arm = ARMS[cell.arm]
    width, height = sizes(args)[int(arm.panorama)]
    channels, views = 96 if args.toy else 384, arm.vehicles * (1 if arm.panorama else 4)
    shared = [
        "model=opv2v_tiny",
        "model.pretrained=null",
        "model.model_config.pretrained_checkpoint_path=null",
        f"hydra.run.dir={folder / 'run'}",
        f"model.encoder.enc_embed_dim={channels}",
        f"model.info_sharing.module_args.dim={channels}",
        f'dataset.resolution_train="({width},{height})"',
        f"dataset.num_views={views}",
        f"dataset.opv2v.val.num_views={views}",
        "dataset.num_workers=0",
        f"dataset.opv2v.index_cache={args.out / 'index'}",
        f"dataset.opv2v.min_agents={arm.vehicles}",
        f"dataset.steps_per_epoch={args.steps}",
        "dataset.max_sets_per_epoch=null",
        "dataset.train.variable_num_views=false",
        "dataset.opv2v.train.transform=imgnorm",
        f"train_params.max_num_of_imgs_per_gpu={args.samples * views}",
        f"train_params.epochs={args.epochs}",
        f"train_params.warmup_epochs={0.5 if args.toy else 1}",
        f"train_params.eval_freq={1 if args.toy else 2}",
        "train_params.print_freq=50",
        "train_params.keep_freq=0",
        "train_params.max_loss_value=100000",  # MapAnything stops above 1000, which a new model can pass
        f"train_params.seed={cell.seed}",
        f"train_params.lr={args.lr}",
        f"train_params.min_lr={args.min_lr}",
        f"model.info_sharing.module_args.depth={args.layers}",
    ]
    if not args.toy:
        shared += [
            f"model.encoder.input_size={width}",
            f"model.info_sharing.module_args.indices=[{args.layers // 3 + 1},{2 * args.layers // 3}]",
            "model.info_sharing.module_args.num_heads=6",
            "model.pred_head.feature_head.feature_dim=64",
            "model.pred_head.feature_head.layer_dims=[48,96,192,384]",
        ]
    if not gpu_count():
        shared.append("train_params.amp=0")
    if arm.vehicles > 1:
        shared.append("dataset.opv2v.main_agent_policy=random")
    if not arm.panorama:
        shared += ["dataset.opv2v.train.aug_crop=0"]
    words = dict(word.split("=", 1) for word in (*shared, *args.override, *arm.overrides))  # an arm has the last word
    if arm.start and (folder / "start.pth").is_file():
        words["model.pretrained"] = str(folder / "start.pth")
    words["train_params.submodule_configs.encoder.lr"] = words["train_params.lr"]
    words["train_params.submodule_configs.encoder.min_lr"] = words["train_params.min_lr"]
    if arm.start and args.trunk_lr:
        for part in ("encoder", *TRUNK):
            group = {"lr": args.trunk_lr, "min_lr": args.min_lr, "warmup_epochs": args.epochs / 3}
            for key, value in group.items():
                words[f"++train_params.submodule_configs.{part}.{key}"] = value
    experiment = "opv2v_cylindrical" if arm.panorama else "opv2v_stage2"
    return [f"+experiment={experiment}", *(f"{key}={value}" for key, value in words.items())]
