"""What learn_towns.py can train: an arm is one way, by its name."""

from __future__ import annotations

from dataclasses import dataclass


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


_POSES = ("model/task=posed_sfm",)
_DEPTHS = ("model/task=registration",)
_SMALL = (
    "model/task=calibrated_sfm", "model.info_sharing.module_args.init_values=null", "model.encoder.patch_size=7",
    "model.encoder.enc_embed_dim=256", "model.info_sharing.module_args.dim=256",
    "model.info_sharing.module_args.num_heads=4", "model.info_sharing.module_args.depth=8",
    "model.info_sharing.module_args.indices=[2,5]",
)  # fmt: skip
_IDENTITY = ("model.model_str=opv2v_mapanything", "model.model_config.name=opv2v_mapanything")

ARMS = {
    "coop": Arm(),
    "started": Arm(start=True, overrides=_SMALL, inputs=("calibration",)),
    "poses_only": Arm(start=True, points=0.0, overrides=_SMALL, inputs=("calibration",)),
    "started14": Arm(start=True, overrides=(*_SMALL, "model.encoder.patch_size=14"), inputs=("calibration",)),
    "unstarted": Arm(overrides=_SMALL, inputs=("calibration",)),
    "one": Arm(vehicles=1, overrides=("loss=opv2v_loss", "dataset.opv2v.class_name=OPV2VCylindricalDataset")),
    "fixed": Arm(roll=False),
    "identity": Arm(overrides=_IDENTITY),
    "oracle": Arm(overrides=_POSES, inputs=("pose",)),
    "range_given": Arm(overrides=_DEPTHS, inputs=("calibration", "depth")),
    "no_pairwise": Arm(overrides=("loss=opv2v_loss",)),
    "agreement": Arm(overrides=("loss=opv2v_agreement_loss",)),
    "depth": Arm(overrides=("loss.opv2v.extra=\"${loss.opv2v.depth.term}\"",)),
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
`poses_only` has the same start without points of patches, `started14` patches of 14 pixels, `unstarted` no start;
`oracle` is told the true poses, `range_given` the true ranges; the last eight are for tuning."""
