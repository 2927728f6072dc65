"""Words and defaults that files, options and commands share. Imports nothing, so that `--help` is quick."""

LAYOUTS = ("pinhole", "panorama")
"""What a view is: one camera's image, or the panorama of one vehicle."""

DATASETS = ("OPV2VDataset", "OPV2VCoopDataset", "OPV2VCylindricalDataset", "OPV2VCoopCylindricalDataset")
"""Dataset classes; each also bound to a split, as in `OPV2VDataset_validate`."""

INPUTS = ("calibration", "pose", "depth")
"""Geometry that a model may be given beside the images."""

EXPORTS = ("depth", "mask", "pcd", "ply", "npy")
"""What can be written of a frame's predictions."""

PINHOLE_SIZE, PANORAMA_SIZE = (518, 392), (1008, 252)
"""Width and height of a view unless told, pixels."""

VERTICAL_FOV_DEG, ELEVATION_CENTER_DEG = 90.0, 0.0
"""Of a panorama unless told: see `geometry.Cylinder`."""
