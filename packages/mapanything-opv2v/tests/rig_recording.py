"""A made town's car, told as any other rig: a `rig.yaml` beside links to its images and depth."""

from __future__ import annotations

from pathlib import Path

import yaml
from mapanything_opv2v import rawdata
from mapanything_opv2v.panorama.rig import Rig


def write_rig(folder: Path, cameras: dict, files: dict[str, Path]) -> Path:
    """Write a rig.yaml; `files` maps folder names to what they link to."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in files.items():
        (folder / name).symlink_to(target)
    (folder / "rig.yaml").write_text(yaml.safe_dump({"cameras": cameras}, sort_keys=False))
    return folder / "rig.yaml"


def town_depth(town, town_yaml: Path) -> Path:
    """Return where the depth of an agent's frames lies."""
    return town.depth_root / town_yaml.relative_to(town.root).parent


def town_recording(town, town_yaml: Path, folder: Path, *, depth: bool = True) -> Path:
    """Write the recording of the car that an agent's YAML belongs to; return its rig.yaml."""
    rig = Rig.from_agent(rawdata.load_agent_yaml(town_yaml), [town.image_size] * 4)
    cameras = {
        f"cam{k}": {
            "K": camera.intrinsic.tolist(),
            "pose": camera.T_pano_cam.tolist(),
            "size": list(camera.size_wh),
            "images": f"images/*_camera{k}.png",
            **({"depth": f"depth/*_camera{k}_depth.npy"} if depth else {}),
        }
        for k, camera in enumerate(rig.cameras)
    }
    files = {"images": town_yaml.parent, **({"depth": town_depth(town, town_yaml)} if depth else {})}
    return write_rig(folder, cameras, files)
