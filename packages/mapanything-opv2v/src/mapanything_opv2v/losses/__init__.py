"""The mathematics of the losses: tensors in, tensors out, no host.

Shapes: B samples, H rows, W columns, N points of a sample. Frames and units stand in each docstring.
"""

from mapanything_opv2v.losses.agreement import bounded, range_gap, rotations
from mapanything_opv2v.losses.gradient import gradient_matching, log_depth
from mapanything_opv2v.losses.masks import MaskShares, balanced_pos_weight, known_pixels, mask_loss, mask_shares
from mapanything_opv2v.losses.metric_depth import height_above_camera, height_excess, log_depth_gap
from mapanything_opv2v.losses.rays import closes, is_panorama, neighbours, project
from mapanything_opv2v.losses.scale import scene_size
from mapanything_opv2v.losses.start import (
    FARTHEST_M,
    UNIT_M,
    angles_deg,
    bent,
    movement_loss,
    of_patches,
    points_loss,
    turn_loss,
)

__all__ = [
    "FARTHEST_M",
    "UNIT_M",
    "MaskShares",
    "angles_deg",
    "balanced_pos_weight",
    "bent",
    "bounded",
    "closes",
    "gradient_matching",
    "height_above_camera",
    "height_excess",
    "is_panorama",
    "known_pixels",
    "log_depth",
    "log_depth_gap",
    "mask_loss",
    "mask_shares",
    "movement_loss",
    "neighbours",
    "of_patches",
    "points_loss",
    "project",
    "range_gap",
    "rotations",
    "scene_size",
    "turn_loss",
]
