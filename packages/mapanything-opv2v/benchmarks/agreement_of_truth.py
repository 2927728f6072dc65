"""What `OPV2VAgentAgreementLoss` says of the truth, and of the truth with all vehicles but the main one moved.

Panoramas (1008 x 252) of three vehicles of a ray-cast town. Needs MapAnything on PYTHONPATH.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from mapanything_opv2v import write_town
from mapanything_opv2v.host import torchvision_ops

SEED = 3


def main() -> None:
    """Print the loss of a view for each distance."""
    torchvision_ops.define_missing()
    from mapanything_opv2v import OPV2VCoopCylindricalDataset
    from mapanything_opv2v.host.losses.criteria import OPV2VAgentAgreementLoss

    with tempfile.TemporaryDirectory() as folder:
        town = write_town(Path(folder) / "town", seed=SEED, frames=1, agents=3)
        dataset = OPV2VCoopCylindricalDataset(
            ROOT=town.root, split="train", num_views=3, resolution=(1008, 252), seed=1,
            transform="imgnorm", data_norm_type="identity",
        )  # fmt: skip
        batch = torch.utils.data.default_collate([dataset[0]])
    for metres in (0.0, 0.25, 1.0, 4.0):
        loss, _ = OPV2VAgentAgreementLoss()(batch, moved(batch, metres))
        print(f"moved by {metres} m: {float(loss) / len(batch):.4f} a view")


def moved(batch: list[dict[str, Any]], metres: float) -> list[dict[str, Any]]:
    """Return the truth as predictions, other vehicles than the main one moved ahead."""
    predictions = []
    for view in batch:
        away = (view["agent_index"] != 0).float()[:, None] * torch.tensor([0.0, 0.0, metres])
        predictions.append(
            {
                "pts3d": view["pts3d"] + away[:, None, None],
                "depth_along_ray": view["depth_along_ray"],
                "cam_quats": view["camera_pose_quats"],
                "cam_trans": view["camera_pose_trans"] + away,
            }
        )
    return predictions


if __name__ == "__main__":
    main()
