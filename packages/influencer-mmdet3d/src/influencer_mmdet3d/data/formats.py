"""Dataset formats that are checked, and the report that every rule writes into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from influencer_mmdet3d.data.rooms import CLASSES

SCANNET_STUFF = (1, 2)
"""NYU40 ids of wall and floor, which are no instances in ScanNet."""

SCANNET_CLASSES = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window",
    10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refrigerator",
    28: "showercurtrain", 33: "toilet", 34: "sink", 36: "bathtub", 39: "otherfurniture",
}  # fmt: skip
"""NYU40 ids that ScanNet evaluates, spelled as the host spells them."""


@dataclass(frozen=True)
class Format:
    """A dataset format: where the files are and which labels mean what."""

    name: str
    infos: tuple[str, ...]
    """Patterns of the infos files' names."""
    folders: Mapping[str, str]
    """Key of an infos entry to the folder its file lies in; points come first."""
    classes: Mapping[int, str]
    """Label to class name."""
    labels: range
    """Labels that the host accepts; those without a class count as unlabelled."""


_FOLDERS = {
    "lidar_points.lidar_path": "points",
    "pts_instance_mask_path": "instance_mask",
    "pts_semantic_mask_path": "semantic_mask",
}

FORMATS = {
    "s3dis": Format("s3dis", ("s3dis_infos_Area_*.pkl",), _FOLDERS, dict(enumerate(CLASSES)), range(13)),
    "scannet": Format(
        "scannet",
        ("scannet_oneformer3d_infos_train.pkl", "scannet_oneformer3d_infos_val.pkl"),
        {**_FOLDERS, "super_pts_path": "super_points"},
        SCANNET_CLASSES,
        range(-1, 41),
    ),
}


@dataclass(frozen=True)
class Finding:
    """One defect.

    Attributes
    ----------
    severity : {'error', 'warning'}
        An error stops the host, drops the scene or changes labels silently; a warning costs accuracy or memory.
    code : str
        Stable name of the rule.
    where : str
        Scene, file or infos entry.
    message : str
        What was found, what was expected, what the host does with it.
    """

    severity: str
    code: str
    where: str
    message: str


@dataclass
class SceneReport:
    """What was found and counted in one scene; ``class_instances`` has no entry for unlabelled points."""

    name: str
    points: int = 0
    class_points: dict[str, int] = field(default_factory=dict)
    class_instances: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def error(self, code: str, where: str, message: str) -> None:
        """Note a defect that stops the host, drops the scene or changes labels."""
        self.findings.append(Finding("error", code, where, message))

    def warning(self, code: str, where: str, message: str) -> None:
        """Note a defect that costs accuracy or memory."""
        self.findings.append(Finding("warning", code, where, message))
