"""The dataset classes that a MapAnything config can name, and their split-locked variants.

Pickles and configs know them by this module's name.
"""

from __future__ import annotations

from mapanything_opv2v.host.data.base import OPV2VBase
from mapanything_opv2v.host.data.cylindrical import CylindricalBase
from mapanything_opv2v.host.data.pinhole import OPV2VCoopDataset, OPV2VDataset
from mapanything_opv2v.host.data.start import StartBase
from mapanything_opv2v.rawdata import SPLITS


class OPV2VCylindricalDataset(CylindricalBase):
    """The panorama of one vehicle: samples of one view."""

    cooperative = False


class OPV2VCoopCylindricalDataset(CylindricalBase):
    """One panorama of each of several vehicles of a frame, in one world; view 0 is the main agent's."""

    cooperative = True


class OPV2VStartDataset(StartBase):
    """Panoramas of vehicles that are near at first and farther with the epochs; see `StartBase`."""


def _locked(cls: type[OPV2VBase], split: str) -> type[OPV2VBase]:
    """Return `cls` bound to one split.

    The host keys its test loaders by class name, so two sets of one class would replace each other.
    """
    name = f"{cls.__name__}_{split}"
    doc = f"{cls.__name__} that reads the split `{split}` and no other."
    return type(name, (cls,), {"only_split": split, "__doc__": doc, "__module__": __name__, "__qualname__": name})


_CLASSES = (OPV2VDataset, OPV2VCoopDataset, OPV2VCylindricalDataset, OPV2VCoopCylindricalDataset, OPV2VStartDataset)
DATASETS: dict[str, type[OPV2VBase]] = {cls.__name__: cls for cls in _CLASSES}
DATASETS.update({(locked := _locked(cls, split)).__name__: locked for cls in _CLASSES for split in SPLITS})
globals().update(DATASETS)  # so that a dataset can be pickled by name
