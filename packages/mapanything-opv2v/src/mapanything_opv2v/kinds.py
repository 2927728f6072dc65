"""Words that files, options and commands share. Imports nothing, so that `--help` is quick."""

LAYOUTS = ("pinhole", "panorama")
"""What a view is: one camera's image, or the panorama of one vehicle."""

DATASETS = ("OPV2VDataset", "OPV2VCoopDataset", "OPV2VCylindricalDataset", "OPV2VCoopCylindricalDataset")
"""Dataset classes; each also bound to a split, as in `OPV2VDataset_validate`."""

INPUTS = ("calibration", "pose", "depth")
"""Geometry that a model may be given beside the images."""

EXPORTS = ("depth", "mask", "pcd", "ply", "npy")
"""What can be written of a frame's predictions."""
