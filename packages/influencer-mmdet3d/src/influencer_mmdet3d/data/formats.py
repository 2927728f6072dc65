"""Dataset formats that are checked, and the report that every rule writes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from influencer_mmdet3d.data.rooms import CLASSES

SCANNET_STUFF = (1, 2)
"""NYU40 ids of wall and floor, which are no instances in ScanNet."""

STUFF_NAMES = ("floor", "wall", "ceiling", "ground", "road", "terrain", "other", "clutter")
"""Names of own classes that are no countable objects unless the user says otherwise."""


def usual_stuff(names: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of own classes that are stuff by their names; the first one where all or none are."""
    found = tuple(number for number, name in enumerate(names) if name in STUFF_NAMES)
    return found if 0 < len(found) < len(names) else (0,)


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
    voxel: float
    """Side of the model's voxels in metres: what lies in one cannot be told apart."""
    own: bool = False
    """Whether the classes are the user's own."""
    stuff: tuple[int, ...] = ()
    """Labels that are no instances in a ScanNet-like format; in the other one every class has instances."""

    def with_classes(self, names: Sequence[str]) -> Format:
        """Return the format with own classes, numbered from 0."""
        if not names or len(set(names)) != len(names):
            raise ValueError(f"class names must be given and differ from each other, got {list(names)}")
        return replace(
            self, classes=dict(enumerate(names)), labels=range(len(names)), own=True, stuff=usual_stuff(names)
        )


_FOLDERS = {
    "lidar_points.lidar_path": "points",
    "pts_instance_mask_path": "instance_mask",
    "pts_semantic_mask_path": "semantic_mask",
}

FORMATS = {
    "s3dis": Format("s3dis", ("s3dis_infos_Area_*.pkl",), _FOLDERS, dict(enumerate(CLASSES)), range(13), 0.05),
    "scannet": Format(
        "scannet",
        ("scannet_oneformer3d_infos_train.pkl", "scannet_oneformer3d_infos_val.pkl"),
        {**_FOLDERS, "super_pts_path": "super_points"},
        SCANNET_CLASSES,
        range(-1, 41),
        0.02,
        stuff=SCANNET_STUFF,
    ),
}


CLASS_FILE = "classes.txt"
"""File in a data folder with the names of its classes, one a line in the order of the labels."""


def read_classes(path: Path) -> list[str]:
    """Return the names in a class file; blank lines and lines that begin with # do not count.

    Raises
    ------
    ValueError
        If there is none, or one stands there twice.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise ValueError(f"{path}: " + (f"{twice[0]!r} stands there twice" if twice else "names no class"))
    return names


SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One defect.

    Attributes
    ----------
    severity : {'error', 'warning', 'note'}
        An error stops the host, drops the scene or changes labels silently; a warning costs accuracy or memory; a note
        is common in good data and worth a look.
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
    labels: set[int] = field(default_factory=set)
    """Labels that occur."""

    def error(self, code: str, where: str, message: str) -> None:
        """Note a defect that stops the host, drops the scene or changes labels."""
        self.findings.append(Finding("error", code, where, message))

    def warning(self, code: str, where: str, message: str) -> None:
        """Note a defect that costs accuracy or memory."""
        self.findings.append(Finding("warning", code, where, message))

    def note(self, code: str, where: str, message: str) -> None:
        """Note what is common in good data and worth a look."""
        self.findings.append(Finding("note", code, where, message))
