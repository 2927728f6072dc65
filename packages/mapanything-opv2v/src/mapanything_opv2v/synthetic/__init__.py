"""Ray-cast towns in OPV2V's on-disk format, with the true panoramas that everything is measured against."""

from mapanything_opv2v.synthetic.sensors import CAMERA_POSES, LIDAR_POSE
from mapanything_opv2v.synthetic.town import Moment, Town, make_moment, make_town
from mapanything_opv2v.synthetic.write import TownTruth, TruePanorama, true_panorama, write_town

__all__ = [
    "CAMERA_POSES",
    "LIDAR_POSE",
    "Moment",
    "Town",
    "TownTruth",
    "TruePanorama",
    "make_moment",
    "make_town",
    "true_panorama",
    "write_town",
]
